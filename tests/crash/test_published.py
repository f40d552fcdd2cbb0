"""What the recovery commands make is absent or whole at every power cut."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jstyle.crash.kernel import strace_missing
from jstyle.crash.published import unsynced, watched
from tests.cli.checkpoint_directory import make, rich_entries
from tests.cli.fake_peer import FakePeer
from tests.cli.recovery_directory import flip, segments, told

MISSING = strace_missing()
needs_strace = pytest.mark.skipif(bool(MISSING), reason=MISSING)
CLI = (sys.executable, "-c", "from durakv.cli.admin import program; program()")


@needs_strace
@pytest.mark.parametrize(
    "index",
    [pytest.param(30, id="from a checkpoint"), pytest.param(12, id="from the log alone", marks=pytest.mark.slow)],
)
def test_a_restored_directory(tmp_path: Path, index: int) -> None:
    data, out = tmp_path / "data", tmp_path / "new"
    make(data, drop=index > 26)
    command = [*CLI, "restore", str(data), "--to-index", str(index), "--out", str(out)]
    assert watched(command, str(tmp_path), [str(out)]) == []
    assert told(0, "verify", out, "--deep")["log"]["last"] == index


@needs_strace
def test_a_repaired_segment(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make(data, voters=(1, 2, 3))
    segment = segments(data)[-2]
    flip(segment, segment.read_bytes().find(b"#DK1 Q") + 140)
    with FakePeer(rich_entries(voters=(1, 2, 3))) as peer:
        command = [*CLI, "repair", str(data), "--from-peer", peer.address, "--yes"]
        assert watched(command, str(tmp_path), [str(segment)], code=3) == []


@needs_strace
@pytest.mark.slow
def test_a_backup(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "kept"
    make(data)
    command = [*CLI, "backup", "create", str(data), "--out", str(out)]
    assert watched(command, str(tmp_path), [str(out)]) == []


GOOD = """\
7 mkdir("/r/.new", 0777) = 0
7 openat(AT_FDCWD</>, "/r/.new/a", O_RDWR|O_CREAT, 0640) = 3</r/.new/a>
7 write(3</r/.new/a>, "x", 1) = 1
7 fdatasync(3</r/.new/a>) = 0
7 fsync(4</r/.new>) = 0
7 rename("/r/.new", "/r/out") = 0
7 fsync(5</r>) = 0
"""


def test_each_sync_that_is_left_out_is_named() -> None:
    assert list(unsynced(GOOD, "/r", ["/r/out"])) == []
    lines = GOOD.splitlines(keepends=True)

    def without(number: int) -> list[str]:
        return list(unsynced("".join(lines[:number] + lines[number + 1 :]), "/r", ["/r/out"]))

    assert without(3) == ["/r/out gets its name while the bytes of /r/out/a waits for a sync"]
    assert without(4) == ["/r/out gets its name while the name /r/out/a waits for a sync"]
    assert without(5) == ["/r/out never got its name by a rename"]
    assert without(6) == ["/r/out has its name, and success was told, before that is synced"]
    late = [*lines[:3], lines[5], lines[3], lines[4], lines[6]]
    assert len(list(unsynced("".join(late), "/r", ["/r/out"]))) == 2


def test_a_synchronous_descriptor_needs_no_sync() -> None:
    text = GOOD.replace("O_CREAT, 0640", "O_CREAT|O_DSYNC, 0640").replace("7 fdatasync(3</r/.new/a>) = 0\n", "")
    assert list(unsynced(text, "/r", ["/r/out"])) == []
    assert "is not known" in next(unsynced(GOOD + "7 msync(3</r/out/a>) = 0\n", "/r", ["/r/out"]))
