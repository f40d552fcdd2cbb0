"""durakv-cli repair and truncate: only what is safe or asked for goes, all of it is kept, and the server takes the
rest.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from durakv.storage.hardstate import decode_slot

from .recovery_directory import flip, opened, run, segments, standard_entries, told, tree, write_directory


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "data"
    write_directory(path, standard_entries())
    return path


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def last_index(data: Path) -> int:
    """As a server finds it, which changes the directory as a start does."""
    with opened(data) as (_, store):
        return store.log.last_index()


def torn(tmp_path: Path) -> tuple[Path, bytes]:
    """Behind the last good frame lie the first bytes of another, then zeros."""
    data = tmp_path / "torn"
    write_directory(data, standard_entries(), proven=20)
    tail = b"#DK1 Q 0000000000000029 then nothing that makes sense"
    with segments(data)[-1].open("ab") as file:
        file.write(tail + bytes(5000))
    return data, tail


def test_a_torn_tail_is_shown_then_cut_and_kept(tmp_path: Path) -> None:
    data, tail = torn(tmp_path)
    finding = told(2, "verify", data)["findings"][0]
    assert (finding["index"], finding["stops_server"]) == (41, False)
    assert "repair" in finding["repair"]
    before = tree(data)
    plan = told(70, "repair", data)
    assert f"{len(tail)} bytes of an unfinished write" in plan["plan"][0]
    assert "UNKNOWN" in plan["plan"][0]
    assert tree(data) == before
    done = told(3, "repair", data, "--yes")
    assert Path(done["kept"][0]).read_bytes() == tail
    record = json.loads(Path(done["audit"]).read_text())
    assert (record["what"], record["kept"]) == ("repair", done["kept"])
    assert told(0, "verify", data, "--deep")["log"]["last"] == 40
    assert told(0, "repair", data)["done"] is False
    assert last_index(data) == 40


def test_identity_comes_back_from_the_log(data: Path) -> None:
    intact = (data / "IDENTITY").read_bytes()
    flip(data / "IDENTITY", 20)
    hurt = (data / "IDENTITY").read_bytes()
    done = told(3, "repair", data, "--yes")
    assert Path(done["kept"][0]).read_bytes() == hurt
    assert (data / "IDENTITY").read_bytes().splitlines()[:3] == intact.splitlines()[:3]
    assert told(0, "verify", data)["start"] == "starts"
    assert last_index(data) == 40


def test_identity_is_not_guessed(data: Path) -> None:
    flip(data / "IDENTITY", 20)
    for at in (3, 4099):
        flip(data / "raft/hardstate", at)
    before = tree(data)
    assert run("repair", data, "--yes").exit_code == 70
    assert tree(data) == before


@pytest.mark.parametrize("index", [1, 8, 9, 20, 39])
def test_truncate_keeps_all_it_takes_away(data: Path, index: int) -> None:
    before = tree(data)
    shown = told(70, "truncate", data, "--to-index", index)
    assert tree(data) == before
    lost = shown["lost"]
    assert lost["entries"] == lost["committed_entries"] == 40 - index
    assert lost["unreadable"] == []
    done = told(3, "truncate", data, "--to-index", index, "--yes-lose-data")
    kept = b"".join(Path(path).read_bytes() for path in reversed(done["kept"]))
    log = b"".join(before[name] for name in sorted(before) if name.startswith("log/"))
    assert log.endswith(kept)
    assert b"".join(file.read_bytes() for file in segments(data)) + kept == log
    image = (data / "raft/hardstate").read_bytes()
    for at in (0, 4096):
        slot = decode_slot(image[at : at + 512])
        assert slot is not None
        state = slot[1]
        assert (state.term, state.voted_for, state.synced_hint, state.commit_hint) == (2, 1, index, index)
    assert told(0, "verify", data, "--deep")["log"]["last"] == index
    assert last_index(data) == index


def test_what_is_lost_is_counted(data: Path) -> None:
    lost = told(70, "truncate", data, "--to-index", 37)["lost"]
    assert (lost["entries"], lost["writes"], lost["committed_writes"]) == (3, 5, 5)
    # k38, before, after, k40; FLUSHALL names none.
    assert lost["keys"] == 4
    assert lost["last_time_ms"] - lost["first_time_ms"] == 2000
    text = run("truncate", data, "--to-index", 37).output
    assert "WILL DISCARD 38..40: 3 entries, 5 writes, 4 keys" in text
    assert "3 COMMITTED entries (5 acknowledged writes) WOULD BE LOST" in text


def test_truncate_gives_up_what_lies_behind_damage(data: Path) -> None:
    second = segments(data)[1]
    flip(second, 400)
    survey = told(2, "verify", data)
    good = survey["log"]["last"]
    refused = run("truncate", data, "--to-index", good, "--yes-lose-data")
    assert (refused.exit_code, "behind the damage" in refused.output) == (70, True)
    lost = told(70, "truncate", data, "--after", good, "--others-are-gone")["lost"]
    assert lost["entries"] == 0
    assert len(lost["unreadable"]) == len(segments(data)) - 1
    assert run("truncate", data, "--to-index", good + 1, "--yes-lose-data").exit_code == 70
    assert run("truncate", data, "--to-index", good, "--yes-lose-data", "--others-are-gone").exit_code == 3
    assert told(0, "verify", data)["log"]["last"] == good
    assert last_index(data) == good


def test_a_member_of_a_group_needs_another_word(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_directory(data, standard_entries(voters=(1, 2, 3)), proven=30)
    before = tree(data)
    refused = run("truncate", data, "--to-index", 25, "--yes-lose-data")
    assert refused.exit_code == 70
    assert "--others-are-gone" in refused.output
    assert tree(data) == before
    lost = told(70, "truncate", data, "--to-index", 25, "--others-are-gone")["lost"]
    assert (lost["entries"], lost["committed_entries"]) == (15, 5)
    assert run("truncate", data, "--to-index", 25, "--yes-lose-data", "--others-are-gone").exit_code == 3


def test_an_interrupted_truncate_can_be_run_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(fd: int, size: int) -> None:
        raise OSError(5, "stopped here")

    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", stop)
        assert run("truncate", data, "--to-index", 20, "--yes-lose-data").exit_code == 74
    assert 20 <= told(0, "inspect", data)["log"]["last"] < 40
    assert run("truncate", data, "--to-index", 20, "--yes-lose-data").exit_code == 3
    assert told(0, "verify", data)["log"]["last"] == 20
    assert last_index(data) == 20
