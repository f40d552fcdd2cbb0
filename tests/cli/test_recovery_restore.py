"""durakv-cli restore, diff, digest and backup: any point of the log comes back, and says what it left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from durakv.cli.admin_progress import unseen
from durakv.cli.recovery_payload import decode_payload, first_items
from durakv.cli.recovery_rebuild import Rebuilt
from durakv.cli.recovery_survey import survey
from durakv.cli.recovery_target import parse_time
from durakv.keyspace.digest import canonical_value, digest
from raft.types import Entry

from .recovery_directory import (
    T0_MS,
    flip,
    opened,
    payload,
    run,
    segments,
    standard_entries,
    told,
    tree,
    words,
    write_directory,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "data"
    write_directory(path, standard_entries())
    return path


def state(path: Path, index: int | None = None) -> Rebuilt:
    found = survey(str(path), unseen, live=False)
    rebuilt = Rebuilt(found, 16)
    rebuilt.advance(found.last_good if index is None else index, unseen)
    return rebuilt


def contents(path: Path) -> dict[bytes, bytes]:
    db = state(path).keyspace.dbs[0]
    return {key: canonical_value(value)[1] for slot in db.slots if slot for key, value in slot.items()}


def test_just_before_a_flushall_inside_an_entry(data: Path, tmp_path: Path) -> None:
    before = tree(data)
    new = tmp_path / "new"
    listening = ("--address", "10.0.0.9:7009@17009")
    document = told(0, "restore", data, "--before-command", "flushall", "--out", new, *listening)
    assert (document["index"], document["items_of_last_entry"], document["left_out_entries"]) == (39, 1, 2)
    assert contents(new) == {b"before": b"1"} | {b"k%d" % n: b"value-%d" % n for n in range(3, 39)}
    assert tree(data) == before
    shown = told(0, "inspect", new)
    assert shown["identity"]["cluster"] == document["cluster"] != told(0, "inspect", data)["identity"]["cluster"]
    assert shown["membership"]["addresses"] == {"1": "10.0.0.9:7009@17009"}
    assert (shown["hard_state"]["term"], shown["hard_state"]["voted_for"]) == (2, 0)
    assert told(0, "verify", new, "--deep")["start"] == "starts"


@pytest.mark.parametrize("index", [1, 2, 3, 17, 40])
def test_by_index(data: Path, tmp_path: Path, index: int) -> None:
    told(0, "restore", data, "--to-index", index, "--out", tmp_path / "new")
    assert digest(state(tmp_path / "new").keyspace) == digest(state(data, index).keyspace)
    assert told(0, "inspect", tmp_path / "new")["log"]["last"] == index


def test_by_time(data: Path, tmp_path: Path) -> None:
    at = "2023-11-14T22:13:35.500Z"
    assert parse_time(at) == T0_MS + 15_500
    assert parse_time("1700000015") == T0_MS + 15_000
    assert parse_time("2023-11-14T23:13:35.500+01:00") == T0_MS + 15_500
    assert told(0, "restore", data, "--to-time", at, "--out", tmp_path / "new")["index"] == 15
    assert b"k15" in contents(tmp_path / "new")
    assert run("restore", data, "--to-time", "2001-01-01", "--out", tmp_path / "no").exit_code == 70
    assert run("restore", data, "--to-time", "yesterday", "--out", tmp_path / "no").exit_code == 1
    assert not (tmp_path / "no").exists()


def test_several_commands_that_fit_are_not_guessed_among(data: Path, tmp_path: Path) -> None:
    refused = run("restore", data, "--before-command", "set k1?", "--out", tmp_path / "new")
    assert refused.exit_code == 70
    assert "10 commands fit" in refused.output
    for which, index in (("last", 18), ("first", 9)):
        words_before = ("--before-command", "set k1?", "--which", which)
        assert told(0, "restore", data, *words_before, "--out", tmp_path / which)["index"] == index
    missing = run("restore", data, "--before-command", "flushdb", "--out", tmp_path / "new")
    assert (missing.exit_code, "no command in the log fits" in missing.output) == (70, True)


def test_targets_are_never_overwritten(data: Path, tmp_path: Path) -> None:
    for option in ("--out", "--rdb"):
        (tmp_path / "there").touch()
        assert run("restore", data, option, tmp_path / "there").exit_code == 1
    assert run("restore", data).exit_code == 1
    assert run("restore", data, "--to-index", 3, "--to-time", "1", "--out", tmp_path / "x").exit_code == 1


def test_from_a_directory_that_is_damaged_later_on(data: Path, tmp_path: Path) -> None:
    hurt = Path(shutil.copytree(data, tmp_path / "hurt"))
    flip(segments(hurt)[1], 400)
    for at in (9, 4100):
        flip(hurt / "raft/hardstate", at)
    good = told(2, "verify", hurt)["log"]["last"]
    document = told(0, "restore", hurt, "--to-index", good, "--out", tmp_path / "new")
    assert document["findings"]
    assert digest(state(tmp_path / "new").keyspace) == digest(state(data, good).keyspace)
    refused = run("restore", hurt, "--to-index", good + 1, "--out", tmp_path / "no")
    assert (refused.exit_code, f"{good} can be reached" in refused.output) == (70, True)


def test_segments_of_the_usual_size_fill_and_roll(tmp_path: Path) -> None:
    data = tmp_path / "data"
    entries = standard_entries(3)
    large = b"x" * (9 << 20)
    entries += [Entry(index, 2, 0, 0, payload([b"SET", b"large%d" % index, large])) for index in range(4, 13)]
    write_directory(data, entries, segment_bytes=64 << 20, batch=1)
    told(0, "restore", data, "--to-index", 12, "--out", tmp_path / "new")
    shown = told(0, "inspect", tmp_path / "new")
    assert (shown["log"]["last"], len(shown["log"]["segments"]), shown["findings"]) == (12, 2, [])


def test_an_unfinished_restore_leaves_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("durakv.world.real_disk.RealFile.fallocate", lambda self, offset, size: fail(self, size))
    result = run("restore", data, "--to-index", 30, "--out", tmp_path / "new")
    assert (result.exit_code, "volume is full" in result.output) == (74, True), result.output
    assert list(tmp_path.iterdir()) == []


def test_first_items_apply_what_they_keep() -> None:
    whole = payload(
        words("SET a 1"), words("@db 3"), words("@multi 2"), words("SET b 2"), words("INCR c"), words("@as 1 9"),
        words("BLPOP d 0"), words("@tick"),
    )  # fmt: skip
    # The two commands of the transaction are no items of their own.
    whole = whole[:4] + (4).to_bytes(4, "little") + whole[8:]
    items = decode_payload(whole).items
    assert [item.kind for item in items] == ["command", "transaction", "command", "tick"]
    assert [(c.db, c.argv[0]) for c in items[1].commands] == [(3, b"SET"), (3, b"INCR")]
    for count in range(1, 5):
        part = decode_payload(first_items(whole, count))
        assert [[c.argv for c in item.commands] for item in part.items] == [
            [c.argv for c in item.commands] for item in items[:count]
        ]
    assert first_items(whole, 4) == whole


def test_digest_and_diff(data: Path, tmp_path: Path) -> None:
    early, late = told(0, "digest", data, "--at-index", 30), told(0, "digest", data)
    assert early["keys"] == {"0": 28}
    assert early["digest"] != late["digest"]
    told(0, "restore", data, "--to-index", 30, "--out", tmp_path / "new")
    assert told(0, "digest", tmp_path / "new")["digest"] == early["digest"]
    same = told(2, "diff", data, tmp_path / "new")
    assert same["data"]["equal"] is True
    # Not even the memberships agree: addresses are new.
    assert (same["same_cluster"], same["first_difference"]) == (False, 1)
    other = tmp_path / "other"
    entries = standard_entries()
    entries[19] = Entry(20, 2, 0, 0, payload(words("SET k20 other"), words("RPUSH k3 x"), at_ms=T0_MS))
    entries = entries[:25]
    write_directory(other, entries)
    document = told(2, "diff", data, other)
    assert (document["first_difference"], document["last"]) == (20, [40, 25])
    assert document["data"]["index"] == 25
    assert document["data"]["different"] == ["0:k20 (string value)"]
    assert document["data"]["only_in_first"] == document["data"]["only_in_second"] == []
    assert document["entries"][1]["items"][0]["commands"][0]["argv"] == ["SET", "k20", "other"]
    assert run("diff", data, data.parent / "data").exit_code == 1


def test_backup_and_back(data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "backups" / "monday"
    made = told(0, "backup", "create", data, "--out", kept)
    assert (made["last"], made["known_committed"]) == (40, 40)
    assert told(0, "backup", "verify", kept)["faults"] == []
    listed = told(0, "backup", "list", tmp_path / "backups")["backups"]
    assert [(row["backup"], row["last"]) for row in listed] == [(str(kept), 40)]
    assert told(0, "inspect", kept)["start"].startswith("refuses to start: it is a backup")
    with pytest.raises(Exception, match="lost its hard state"), opened(kept):
        pass
    told(0, "restore", kept, "--to-index", 40, "--out", tmp_path / "new")
    assert digest(state(tmp_path / "new").keyspace) == digest(state(data).keyspace)
    for name in ("backup.json", "IDENTITY", f"log/{segments(kept)[1].name}"):
        flip(kept / name, 50)
        assert run("backup", "verify", kept).exit_code in {2, 70}, name
        flip(kept / name, 50)
    assert told(0, "backup", "verify", kept)["faults"] == []
