"""durakv-cli on directories whose log begins behind a checkpoint: what is there, what is damaged, what is in reach."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from durakv.checkpoint.place import environment
from durakv.checkpoint.snapshot_file import write_snapshot
from durakv.cli.admin_progress import unseen
from durakv.cli.recovery_survey import CUTS_TAIL, FINISHES, REFUSES, STARTS, survey
from durakv.storage.hardstate import decode_slot
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv

from .checkpoint_directory import CHECKPOINT, LAST, add_checkpoint, make
from .damage import Booted, boot, table
from .recovery_directory import T0_MS, flip, run, segments, told

NEXT = CHECKPOINT + 1


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``full`` has all of its log, ``data`` what a server would keep, ``archive`` the rest."""
    root = tmp_path_factory.mktemp("places")
    make(root / "full", drop=False, snapshot=True)
    make(root / "data", archive=root / "archive", snapshot=True)
    return root


@pytest.fixture
def data(places: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(places / "data", tmp_path / "data"))


def files_of(path: Path) -> dict[str, bytes]:
    """All but the table of readers, which LMDB makes where it reads."""
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file() and f.name != "lock.mdb"}


def digest_at(path: Path, *more: object) -> str:
    return str(told(0, "digest", path, *more)["digest"])


def test_inspect(places: Path, data: Path) -> None:
    before = files_of(data)
    document = told(0, "inspect", data)
    assert (document["log"]["first"], document["log"]["last"]) == (CHECKPOINT, LAST)
    checkpoint = document["checkpoint"]
    assert (checkpoint["environment"], checkpoint["index"], checkpoint["term"]) == ("env-1", CHECKPOINT, 2)
    assert (checkpoint["entries_to_replay"], checkpoint["time_ms"]) == (LAST - CHECKPOINT, T0_MS + 1000 * CHECKPOINT)
    assert checkpoint["keys"] == told(0, "digest", data, "--at-index", CHECKPOINT)["keys"]["0"]
    assert document["stream"] == {"files": 1, "bytes": 100}
    assert document["in_reach"] == [[CHECKPOINT, LAST]]
    assert document["membership"]["voters"] == [1]
    assert (document["start"], document["findings"], document["notes"]) == (STARTS, [], [])
    text = run("inspect", data).output
    assert f"checkpoint  env-1 index {CHECKPOINT} term 2" in text
    assert f"{LAST - CHECKPOINT} entries to replay" in text
    assert f"index {CHECKPOINT}..{LAST}" in text
    whole = told(0, "inspect", places / "full")
    assert (whole["log"]["first"], whole["in_reach"]) == (1, [[0, LAST]])
    assert whole["log"]["before_checkpoint"] > 2
    assert files_of(data) == before


def test_verify_deep(places: Path, data: Path) -> None:
    deep = told(0, "verify", data, "--deep")["deep"]
    assert (deep["entries"], deep["checkpoint_equals_log"]) == (LAST - CHECKPOINT, None)
    deep = told(0, "verify", places / "full", "--deep")["deep"]
    assert (deep["entries"], deep["checkpoint_equals_log"]) == (LAST, True)
    assert "counts and sums fit" in run("verify", data).output


def test_deep_finds_a_checkpoint_of_another_history(places: Path, tmp_path: Path) -> None:
    """Every row sound, and yet not what the log leads to."""
    data = Path(shutil.copytree(places / "full", tmp_path / "data"))
    early = tmp_path / "early"
    make(early, at=CHECKPOINT - 6, drop=False)
    store, other = (open_kv(environment(str(path), 1), write=path == data) for path in (data, early))
    from durakv.checkpoint.materialise import _write_meta
    from durakv.checkpoint.meta import read_meta

    txn = store.begin(write=True)
    meta = read_meta(txn)
    txn.abort()
    other.close()
    store.close()
    assert meta is not None
    shutil.rmtree(data / "ckpt/env-1")
    shutil.copytree(early / "ckpt/env-1", data / "ckpt/env-1")
    store = open_kv(environment(str(data), 1), write=True)
    txn = store.begin(write=True)
    mine = read_meta(txn)
    assert mine is not None
    mine.applied = meta.applied
    _write_meta(txn, mine)
    txn.commit()
    store.close()
    assert run("verify", data).exit_code == 0
    finding = told(2, "verify", data, "--deep")["findings"][0]
    assert (finding["index"], "other data than the log leads to" in finding["detail"]) == (CHECKPOINT, True)


KINDS = {
    "CURRENT": ("ckpt/CURRENT", 4, True, "repair"),
    "a head page": ("ckpt/env-1/data.mdb", None, True, "restore"),
    "a sealed segment": ("log/dk.00000000000000000011.log", 400, True, "restore"),
    "hard state": ("raft/hardstate", 30, False, "none needed"),
    "a snapshot's header": (f"ckpt/snap-{CHECKPOINT}.dksnap", 30, False, "delete it"),
    "a snapshot's data": (f"ckpt/snap-{CHECKPOINT}.dksnap", 60_000, False, "delete it"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_flips_are_placed(data: Path, kind: str) -> None:
    name, at, stops, advice = KINDS[kind]
    if at is None:
        # In the list of databases: both head pages name its root.
        for page in (0, 1):
            flip(data / name, page * 4096 + 16 + 24 + 48 + 40, 4)
    else:
        flip(data / name, at)
    findings = told(2, "verify", data)["findings"]
    mine = [finding for finding in findings if finding["file"] == name]
    assert mine, findings
    assert (mine[0]["stops_server"], advice in mine[0]["repair"]) == (stops, True), mine
    text = run("verify", data)
    assert (text.exit_code, f"{name} offset" in text.output, "Traceback" in text.output) == (2, True, False)


def test_a_flip_in_a_row_names_the_row(data: Path) -> None:
    file = data / "ckpt/env-1/data.mdb"
    # Every copy, for pages that are free again keep theirs.
    for at in places_of(file, b"value-20"):
        flip(file, at)
    finding = told(2, "verify", data)["findings"][0]
    assert finding["file"] == "ckpt/env-1/data.mdb"
    assert "database keys, row" in finding["detail"]
    assert "the checksum is wrong" in finding["detail"]
    refused = run("digest", data)
    assert (refused.exit_code, "checkpoint damaged" in refused.output) == (2, True)
    assert told(0, "inspect", data)["start"] == STARTS, "only verify reads rows"


def places_of(file: Path, text: bytes) -> Iterator[int]:
    content = file.read_bytes()
    at = content.find(text)
    while at >= 0:
        yield at
        at = content.find(text, at + 1)


def test_damage_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    make(data, snapshot=True)
    rows = table(data, tmp_path / "work", 311)
    with capsys.disabled():
        print()
        for row in rows:
            print(row.text())
    assert [row.wrong for row in rows] == [[]] * len(rows)
    assert all(row.harmless == 0 for row in rows if not row.name.startswith("data.mdb"))
    assert all(row.found for row in rows)


def predicted(path: Path, work: Path) -> tuple[str, Booted | None]:
    outcome = survey(str(path), unseen, live=False).outcome
    shutil.copytree(path, work, ignore=shutil.ignore_patterns("lock.mdb"))
    booted = boot(work)
    shutil.rmtree(work)
    return outcome, booted


def test_the_prediction_is_what_a_start_does(places: Path, tmp_path: Path) -> None:
    """Whichever segments are there, and wherever the last one ends."""
    full, work = places / "full", tmp_path / "work"
    count = len(segments(full))
    seen = set()
    for proven in (0, LAST):
        for present in [range(first, last) for first in (0, 5, 9, 10, 11) for last in (6, 9, 10, 12, count)]:
            data = Path(shutil.copytree(full, tmp_path / "data", ignore=shutil.ignore_patterns("lock.mdb")))
            for at, segment in enumerate(segments(data)):
                if at not in present:
                    segment.unlink()
            if not proven:
                claim_nothing(data)
            if not segments(data):
                shutil.rmtree(data)
                continue
            outcome, booted = predicted(data, work)
            assert (booted is None) == (outcome == REFUSES), (present, proven, outcome)
            if booted is not None:
                looked = survey(str(data), unseen, live=False)
                assert booted.last == looked.last_good
            seen.add(outcome)
            shutil.rmtree(data)
    for length in range(256, segments(full)[-1].stat().st_size, 317):
        data = Path(shutil.copytree(full, tmp_path / "data", ignore=shutil.ignore_patterns("lock.mdb")))
        os.truncate(segments(data)[-1], length)
        claim_nothing(data)
        outcome, booted = predicted(data, work)
        assert (booted is None) == (outcome == REFUSES), (length, outcome)
        seen.add(outcome)
        shutil.rmtree(data)
    assert seen >= {STARTS, CUTS_TAIL, FINISHES, REFUSES}


def claim_nothing(data: Path) -> None:
    """The hard state of a node that never had time to note what was synced."""
    from durakv.storage.hardstate import encode_slot

    path = data / "raft/hardstate"
    image = bytearray(path.read_bytes())
    for at in (0, 4096):
        slot = decode_slot(bytes(image[at : at + 512]))
        assert slot is not None
        image[at : at + 512] = encode_slot(slot[1].voted(2, 1, 0, 0), slot[0])
    path.write_bytes(image)


def test_a_gap_is_named(data: Path) -> None:
    segments(data)[0].unlink()
    finding = told(2, "verify", data)["findings"][0]
    assert f"the checkpoint ends at {CHECKPOINT}" in finding["detail"]
    assert f"the entries {NEXT} to" in finding["detail"]
    assert (finding["index"], finding["stops_server"]) == (NEXT, True)
    assert told(0, "inspect", data)["in_reach"] == [[CHECKPOINT, CHECKPOINT]]
    assert told(0, "digest", data, "--at-index", CHECKPOINT)["index"] == CHECKPOINT
    refused = run("digest", data)
    assert (refused.exit_code, "damaged" in refused.output) == (70, True)


def test_a_half_installed_snapshot_is_explained(places: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(places / "full", tmp_path / "data"))
    for segment in segments(data)[5:]:
        segment.unlink()
    claim_nothing(data)
    document = told(0, "inspect", data)
    assert (document["start"], document["findings"]) == (FINISHES, [])
    assert "half installed" in document["notes"][0]
    assert "HALF-INSTALLED SNAPSHOT" in run("inspect", data).output
    assert told(0, "verify", data, "--deep")["checkpoint"]["rows_checked"] is True
    assert digest_at(data) == digest_at(places / "full", "--at-index", CHECKPOINT)
    booted = boot(data)
    assert booted is not None
    assert booted.last == CHECKPOINT


def test_an_older_damaged_segment_stops_nothing(places: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(places / "full", tmp_path / "data"))
    flip(segments(data)[3], 500)
    finding = told(2, "verify", data)["findings"][0]
    assert (finding["stops_server"], "none needed" in finding["repair"]) == (False, True)
    assert told(0, "inspect", data)["start"] == STARTS
    assert digest_at(data) == digest_at(places / "full")
    # What lies before the damage is still in reach, and what lies between it and the checkpoint is not.
    good = finding["index"] - 1
    assert digest_at(data, "--at-index", good) == digest_at(places / "full", "--at-index", good)
    refused = run("digest", data, "--at-index", good + 1)
    assert (refused.exit_code, f"0..{good} and {CHECKPOINT}..{LAST}" in refused.output) == (70, True), refused.output


@pytest.mark.parametrize("at", [30, LAST - 1])
def test_damage_before_the_checkpoint_in_a_segment_still_needed(tmp_path: Path, at: int) -> None:
    """Once in a sealed segment that others follow, once in the active one."""
    data = tmp_path / "data"
    make(data, at=at, drop=False)
    wanted = digest_at(data)
    intact = boot(Path(shutil.copytree(data, tmp_path / "copy", ignore=shutil.ignore_patterns("lock.mdb"))))
    index = at - 1
    segment = next(file for file in segments(data) if b"#DK1 Q %016x" % index in file.read_bytes())
    place = segment.read_bytes().find(b"#DK1 Q %016x" % index)
    flip(segment, place + 140)
    hurt = segment.read_bytes()
    finding = told(2, "verify", data)["findings"][0]
    assert (finding["offset"], finding["stops_server"]) == (place, True)
    assert finding["index"] in (index, at + 1)
    assert "durakv-cli repair" in finding["repair"]
    assert any(span == [at, LAST] for span in told(0, "inspect", data)["in_reach"])
    assert digest_at(data, "--at-index", LAST) == wanted
    told(0, "restore", data, "--out", tmp_path / "new")
    assert digest_at(tmp_path / "new") == wanted
    assert run("repair", data).exit_code == 70
    assert segment.read_bytes() == hurt
    done = told(3, "repair", data, "--yes")
    assert hurt.startswith(Path(done["kept"][0]).read_bytes())
    document = told(0, "verify", data, "--deep")
    assert (document["start"], document["log"]["first"], document["log"]["last"]) == (STARTS, at + 1, LAST)
    assert digest_at(data) == wanted
    booted = boot(data)
    assert booted is not None
    assert intact is not None
    assert booted.same(intact)


def test_whole_entries_behind_damage_and_checkpoint_are_not_given_up(tmp_path: Path) -> None:
    """The hard state had no time to note that they were synced."""
    data = tmp_path / "data"
    make(data, at=LAST - 1, drop=False)
    wanted = digest_at(data)
    claim_nothing(data)
    last = segments(data)[-1]
    flip(last, last.read_bytes().find(b"#DK1 Q %016x" % (LAST - 2)) + 140)
    finding = told(2, "verify", data)["findings"][0]
    assert f"whole entries {LAST} to {LAST} follow" in finding["detail"]
    told(3, "repair", data, "--yes")
    assert told(0, "verify", data)["start"] == STARTS
    assert digest_at(data) == wanted


def test_damage_on_both_sides_of_the_checkpoint_is_not_mended(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make(data, at=30, drop=False)
    segment = next(file for file in segments(data) if b"#DK1 Q %016x" % 29 in file.read_bytes())
    for index in (29, 31):
        flip(segment, segment.read_bytes().find(b"#DK1 Q %016x" % index) + 140)
    before = files_of(data)
    refused = run("repair", data, "--yes")
    assert (refused.exit_code, "cannot be repaired here" in refused.output) == (70, True)
    assert files_of(data) == before
    # Log before the damage, the checkpoint, and nothing in between or behind.
    assert told(0, "inspect", data)["in_reach"] == [[0, 28], [30, 30]]


def test_current_comes_back(data: Path) -> None:
    intact = (data / "ckpt/CURRENT").read_bytes()
    flip(data / "ckpt/CURRENT", 9)
    hurt = (data / "ckpt/CURRENT").read_bytes()
    assert run("repair", data).exit_code == 70
    done = told(3, "repair", data, "--yes")
    assert Path(done["kept"][0]).read_bytes() == hurt
    assert (data / "ckpt/CURRENT").read_bytes() == intact
    assert told(0, "verify", data)["start"] == STARTS
    (data / "ckpt/CURRENT").unlink()
    finding = told(2, "verify", data)["findings"][0]
    assert (finding["file"], "missing" in finding["detail"]) == ("ckpt/CURRENT", True)
    assert told(3, "repair", data, "--yes")["kept"] == []
    assert (data / "ckpt/CURRENT").read_bytes() == intact


def test_a_damaged_checkpoint_goes_where_the_log_has_everything(places: Path, data: Path, tmp_path: Path) -> None:
    full = Path(shutil.copytree(places / "full", tmp_path / "full"))
    for path in (full, data):
        for at in places_of(path / "ckpt/env-1/data.mdb", b"value-20"):
            flip(path / "ckpt/env-1/data.mdb", at)
    assert "moves ckpt/ to quarantine/" in told(2, "verify", full)["findings"][0]["repair"]
    done = told(3, "repair", full, "--yes")
    assert (Path(done["kept"][0]) / "env-1/data.mdb").exists()
    assert told(0, "verify", full, "--deep")["log"]["first"] == 1
    assert digest_at(full) == digest_at(places / "full")
    refused = run("repair", data, "--yes")
    assert (refused.exit_code, "restore" in refused.output) == (70, True)
    assert (data / "ckpt").exists()


def test_a_peer_is_not_asked_for_a_log_that_is_whole(data: Path) -> None:
    nobody = "127.0.0.1:1"
    assert run("repair", data, "--from-peer", nobody, "--yes").exit_code == 0
    for page in range(2):
        flip(data / "ckpt/env-1/data.mdb", page * 4096 + 16 + 24 + 48 + 40, 4)
    # Without the checkpoint the log begins too late: only a member with the whole log could help.
    refused = run("repair", data, "--from-peer", nobody, "--yes")
    assert (refused.exit_code, "entries 1 to " in refused.output) == (70, True)


@pytest.mark.parametrize("index", [3, 12, CHECKPOINT - 1, CHECKPOINT, CHECKPOINT + 1, LAST])
def test_states_on_both_sides_of_the_checkpoint(places: Path, tmp_path: Path, index: int) -> None:
    wanted = digest_at(places / "full", "--at-index", index)
    more = ("--archive", places / "archive")
    assert digest_at(places / "data", "--at-index", index, *more) == wanted
    told(0, "restore", places / "data", "--to-index", index, "--out", tmp_path / "new", *more)
    assert digest_at(tmp_path / "new") == wanted
    shown = told(0, "verify", tmp_path / "new", "--deep")
    assert (shown["start"], shown["log"]["last"]) == (STARTS, index)
    assert shown["identity"]["cluster"] != told(0, "inspect", places / "data")["identity"]["cluster"]
    assert shown["hard_state"]["synced_hint"] == index
    told(0, "restore", places / "data", "--to-index", index, "--rdb", tmp_path / "x.rdb", *more)
    told(0, "export", places / "data", "--at-index", index, "--rdb", tmp_path / "y.rdb", *more)


def test_points_out_of_reach_say_what_is_in_reach(data: Path, tmp_path: Path) -> None:
    for arguments in (("--to-index", 12), ("--to-time", "1700000005"), ("--before", "SET k12")):
        refused = run("restore", data, *arguments, "--out", tmp_path / "new")
        assert (refused.exit_code, f"{CHECKPOINT}..{LAST} can be reached" in refused.output) == (70, True), arguments
        assert "--archive" in refused.output
    assert not (tmp_path / "new").exists()
    assert run("log", "dump", data, "--from", 3).exit_code == 70


def test_times_and_commands_before_the_checkpoint(places: Path, tmp_path: Path) -> None:
    more = ("--archive", places / "archive")
    for arguments in (("--to-time", str(T0_MS + 12_500)), ("--before", "SET k13")):
        out = tmp_path / arguments[0].strip("-")
        assert told(0, "restore", places / "data", *arguments, *more, "--out", out)["index"] == 12
        assert digest_at(out) == digest_at(places / "full", "--at-index", 12)
    document = told(0, "restore", places / "data", "--before", "FLUSHALL", "--out", tmp_path / "new")
    assert (document["index"], document["items_of_last_entry"]) == (LAST - 1, 1)
    assert document["from"]["index"] == CHECKPOINT
    at = T0_MS + 1000 * CHECKPOINT + 1
    assert told(0, "restore", places / "data", "--to-time", str(at), "--rdb", tmp_path / "z")["index"] == CHECKPOINT


def test_dump_from_the_archive(places: Path) -> None:
    lines = run("log", "dump", places / "data", "--archive", places / "archive", "--json").stdout.splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(1, LAST + 1))
    assert json.loads(run("log", "dump", places / "data", "--json").stdout.splitlines()[0])["index"] == CHECKPOINT


def test_diff(places: Path, tmp_path: Path) -> None:
    same = told(0, "diff", places / "data", places / "full")
    assert (same["compared"], same["data"]["index"], same["data"]["equal"]) == ([CHECKPOINT, LAST], LAST, True)
    make(tmp_path / "other", at=CHECKPOINT + 6)
    other = told(0, "diff", places / "data", tmp_path / "other")
    assert other["data"]["equal"] is True


def test_backup_of_checkpoint_and_log(places: Path, data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "backups" / "monday"
    made = told(0, "backup", "create", data, "--out", kept)
    assert (made["first"], made["last"], made["in_reach"]) == (CHECKPOINT, LAST, [[CHECKPOINT, LAST]])
    assert made["checkpoint"]["index"] == CHECKPOINT
    names = {one["name"] for one in made["files"]}
    assert {"IDENTITY", "ckpt/CURRENT", "ckpt/env-1/data.mdb"} < names
    assert told(0, "backup", "verify", kept)["faults"] == []
    listed = told(0, "backup", "list", tmp_path / "backups")["backups"]
    assert [(row["last"], row["in_reach"]) for row in listed] == [(LAST, [[CHECKPOINT, LAST]])]
    assert f"index {CHECKPOINT}..{LAST}" in run("backup", "list", tmp_path / "backups").output
    assert told(0, "inspect", kept)["start"].startswith("refuses to start: it is a backup")
    assert digest_at(kept) == digest_at(data)
    told(0, "restore", kept, "--to-index", NEXT, "--out", tmp_path / "new")
    assert digest_at(tmp_path / "new") == digest_at(places / "full", "--at-index", NEXT)
    for name in sorted(names):
        size = (kept / name).stat().st_size
        for at in (7, size // 2, size - 3):
            flip(kept / name, at)
            assert run("backup", "verify", kept).exit_code in {2, 70}, (name, at)
            flip(kept / name, at)


def test_an_old_backup_and_an_archive_reach_what_the_node_has_forgotten(places: Path, tmp_path: Path) -> None:
    """The node's own checkpoint is later than the point; the backup's is earlier, and the archive leads there."""
    old, backup, archive = tmp_path / "old", tmp_path / "backup", tmp_path / "archive"
    make(old, at=9, drop=False)
    for segment in segments(old)[5:]:
        segment.unlink()
    claim_nothing(old)
    told(0, "backup", "create", old, "--out", backup)
    shutil.rmtree(backup / "log")
    shutil.copytree(places / "archive", archive)
    for path in sorted(archive.iterdir())[:2]:
        path.unlink()
    wanted = digest_at(places / "full", "--at-index", 20)
    assert run("restore", places / "data", "--to-index", 20, "--out", tmp_path / "no").exit_code == 70
    assert run("restore", places / "data", "--archive", archive, "--to-index", 20, "--out", tmp_path / "no").exit_code
    sources = ("--archive", archive, "--backup", backup)
    document = told(0, "restore", places / "data", *sources, "--to-index", 20, "--out", tmp_path / "new")
    assert document["from"]["index"] == 9
    assert digest_at(tmp_path / "new") == wanted
    # The other way round: the backup is what is restored, and the archive carries it on.
    told(0, "restore", backup, "--archive", archive, "--to-index", 20, "--out", tmp_path / "again")
    assert digest_at(tmp_path / "again") == wanted


def test_a_damaged_piece_of_the_archive_is_told(places: Path, tmp_path: Path) -> None:
    archive = Path(shutil.copytree(places / "archive", tmp_path / "archive"))
    third = sorted(archive.iterdir())[3]
    flip(third, 400)
    document = told(0, "restore", places / "data", "--archive", archive, "--to-index", 3, "--out", tmp_path / "new")
    assert any(str(third) in note for note in document["notes"])
    refused = run("restore", places / "data", "--archive", archive, "--to-index", 20, "--out", tmp_path / "no")
    assert refused.exit_code == 70
    assert f"and {CHECKPOINT}..{LAST} can be reached" in refused.output


def test_truncate_stays_behind_the_checkpoint(data: Path) -> None:
    refused = run("truncate", data, "--to-index", CHECKPOINT - 1, "--yes-lose-data")
    assert (refused.exit_code, f"up to index {CHECKPOINT}" in refused.output) == (70, True)
    lost = told(70, "truncate", data, "--to-index", CHECKPOINT)["lost"]
    assert lost["entries"] == LAST - CHECKPOINT
    told(3, "truncate", data, "--to-index", CHECKPOINT + 3, "--yes-lose-data")
    assert told(0, "verify", data, "--deep")["log"]["last"] == CHECKPOINT + 3
    told(3, "truncate", data, "--to-index", CHECKPOINT, "--yes-lose-data")
    assert told(0, "verify", data, "--deep")["log"]["last"] == CHECKPOINT
    booted = boot(data)
    assert booted is not None
    assert booted.last == CHECKPOINT


def test_a_torn_tail_behind_a_checkpoint(data: Path) -> None:
    claim_nothing(data)
    last = segments(data)[-1]
    last.write_bytes(last.read_bytes()[:-100])
    assert told(0, "inspect", data)["start"] == CUTS_TAIL
    told(3, "repair", data, "--yes")
    assert told(0, "verify", data)["start"] == STARTS


def test_space(places: Path, data: Path) -> None:
    (data / "ckpt/env-7").mkdir()
    (data / "ckpt/env-7/data.mdb").write_bytes(b"x" * 9000)
    document = told(0, "space", data, "--archive", places / "archive")
    rooms = {room["name"]: room for room in document["rooms"]}
    assert rooms["checkpoint"]["files"] >= 2
    assert rooms["old checkpoints"]["bytes"] >= 9000
    assert (rooms["snapshots"]["files"], rooms["fx"]["files"]) == (1, 1)
    assert rooms["archive"]["files"] == len(list((places / "archive").iterdir()))
    whole = {room["name"]: room for room in told(0, "space", places / "full")["rooms"]}
    assert whole["log, covered"]["files"] == rooms["archive"]["files"]


def test_checkpoints_of_others_are_not_taken(data: Path, tmp_path: Path) -> None:
    told(0, "restore", data, "--out", tmp_path / "other")
    shutil.rmtree(data / "ckpt")
    shutil.copytree(tmp_path / "other/ckpt", data / "ckpt")
    finding = told(2, "verify", data)["findings"][0]
    assert (finding["file"], "put this node's own ckpt/ back" in finding["repair"]) == ("ckpt/env-1/data.mdb", True)
    assert run("digest", data).exit_code == 70


def test_a_second_environment_and_a_fresh_snapshot(data: Path) -> None:
    """What a snapshot replaced is worth nothing and stops nothing."""
    (data / "ckpt/env-3").mkdir()
    document = told(0, "verify", data)
    assert any("env-3" in note for note in document["notes"])
    store = open_kv(environment(str(data), 1), write=False)
    disk = RealDisk(lambda job: job())
    write_snapshot(store, disk, str(data / "ckpt"))
    store.close()
    disk.close()
    assert run("verify", data).exit_code == 0


def test_one_that_was_never_named(places: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(places / "full", data)
    (data / "ckpt/CURRENT").unlink()
    document = told(0, "inspect", data)
    assert (document["checkpoint"], document["start"]) == (None, STARTS)
    assert any("no CURRENT" in note for note in document["notes"])


def test_checkpoint_at_the_end_of_the_log(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make(data, at=LAST, drop=False)
    document = told(0, "verify", data, "--deep")
    assert (document["checkpoint"]["entries_to_replay"], document["deep"]["checkpoint_equals_log"]) == (0, True)
    told(0, "restore", data, "--out", tmp_path / "new")
    assert digest_at(tmp_path / "new") == digest_at(data)
    add_checkpoint(data, 5, number=2)
    assert told(0, "verify", data, "--deep")["checkpoint"]["index"] == 5
