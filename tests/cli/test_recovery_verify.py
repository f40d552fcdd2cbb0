"""durakv-cli inspect and verify: every flipped bit is found and placed; what is predicted is what recovery does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from durakv.cli.admin_progress import unseen
from durakv.cli.recovery_survey import CUTS_TAIL, REFUSES, STARTS, Survey, survey
from durakv.storage.errors import StorageError
from durakv.storage.hardstate import decode_slot
from durakv.storage.identity import read_identity
from durakv.storage.recovery import recover_log
from durakv.world.real_disk import RealDisk
from raft.types import Entry

from .recovery_directory import (
    CLUSTER,
    flip,
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
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "data"
    write_directory(path, standard_entries())
    assert len(segments(path)) > 2
    return path


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def look(path: Path) -> Survey:
    return survey(str(path), unseen, live=False)


def place_of(path: Path, text: bytes) -> tuple[Path, int]:
    for segment in segments(path):
        at = segment.read_bytes().find(text)
        if at >= 0:
            return segment, at
    raise AssertionError(text)


def test_a_clean_directory(data: Path) -> None:
    before = tree(data)
    document = told(0, "inspect", data)
    assert document["log"]["last"] == 40
    assert document["log"]["terms"] == [1, 2]
    assert document["membership"]["voters"] == [1]
    assert document["membership"]["addresses"] == {"1": "127.0.0.1:7001@17001"}
    assert (document["start"], document["verdict"], document["findings"]) == (STARTS, "clean end", [])
    deep = told(0, "verify", data, "--deep")["deep"]
    assert (deep["entries"], deep["keys"], deep["internal_errors"]) == (40, 2, 0)
    assert run("verify", data).exit_code == 0
    assert tree(data) == before


def test_a_flip_in_the_middle_names_segment_offset_index_and_repair(data: Path) -> None:
    segment, at = place_of(data, b"#DK1 Q %016x" % 7)
    value = segment.read_bytes().find(b"value-7")
    flip(segment, value)
    before = tree(data)
    finding = told(2, "verify", data)["findings"][0]
    assert finding["file"] == f"log/{segment.name}"
    assert (finding["offset"], finding["index"], finding["stops_server"]) == (at, 7, True)
    assert "body crc" in finding["detail"]
    assert "CORRUPT, not torn" in finding["detail"]
    assert f"restore {data} --to-index 6 --out NEWDIR" in finding["repair"]
    text = run("verify", data)
    assert text.exit_code == 2
    assert f"log/{segment.name} offset {at:#x} index 7" in text.output
    refused = run("repair", data, "--yes")
    assert refused.exit_code == 70
    assert f"offset {at:#x} index 7" in refused.output
    assert "restore" in refused.output
    assert tree(data) == before


def test_a_member_of_a_group_is_told_to_be_replaced(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_directory(data, standard_entries(voters=(1, 2, 3)))
    segment, _ = place_of(data, b"value-7")
    flip(segment, segment.read_bytes().find(b"value-7"))
    finding = told(2, "verify", data)["findings"][0]
    assert "the other nodes have this data: 'durakv cluster remove-node'" in finding["repair"]
    last = segments(data)[-1]
    shutil.rmtree(data)
    write_directory(data, standard_entries(voters=(1, 2, 3)))
    flip(last, 256 + 130)
    assert "durakv cluster remove-node" in told(2, "verify", data)["findings"][0]["repair"]


KINDS = {
    "identity": ("IDENTITY", 14, 0, True),
    "hard state, slot 0": ("raft/hardstate", 30, 0, False),
    "hard state, slot 1": ("raft/hardstate", 4096 + 120, 4096, False),
    "hard state, padding": ("raft/hardstate", 3000, 3000, False),
    "first line of a segment": ("log/dk.00000000000000000002.log", 60, 0, True),
    "number of a segment": ("log/dk.00000000000000000001.log", 77, 0, True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file(data: Path, kind: str) -> None:
    name, at, place, stops = KINDS[kind]
    flip(data / name, at)
    findings = told(2, "verify", data)["findings"]
    found = [f for f in findings if (f["file"], f["offset"]) == (name, place)]
    assert found, findings
    assert (found[0]["stops_server"], bool(found[0]["repair"])) == (stops, True)


def test_both_slots_damaged(data: Path) -> None:
    for at in (20, 4096 + 20):
        flip(data / "raft/hardstate", at)
    assert told(0, "inspect", data)["start"] == REFUSES
    assert "both slots" in told(2, "verify", data)["findings"][0]["detail"]


def test_a_missing_segment_and_a_renamed_one(data: Path) -> None:
    second = segments(data)[1]
    second.rename(data / "aside")
    finding = told(2, "verify", data)["findings"][0]
    assert "a segment is missing or foreign" in finding["detail"]
    (data / "aside").rename(segments(data)[-1].with_name("dk.00000000000000000099.log"))
    assert any("holds segment 2" in f["detail"] for f in told(2, "verify", data)["findings"])


def test_a_kept_piece_that_changed(data: Path) -> None:
    assert run("truncate", data, "--to-index", 30, "--yes-lose-data").exit_code == 3
    assert run("verify", data).exit_code == 0
    kept = sorted((data / "quarantine").glob("cut-*.bin"))
    flip(kept[0], 3)
    finding = told(2, "verify", data)["findings"][0]
    assert finding["file"] == f"quarantine/{kept[0].name}"


def test_every_byte_of_every_file(data: Path) -> None:
    files = [data / "IDENTITY", *segments(data)]
    spots = [(file, at) for file in files for at in range(file.stat().st_size)][::37]
    hard = data / "raft/hardstate"
    spots += [(hard, at) for at in (*range(0, 512, 37), *range(4096, 4608, 37), *range(512, 4096, 397))]
    for number, (file, at) in enumerate(spots):
        flip(file, at, number % 8)
        findings = look(data).findings
        assert findings, (file.name, at)
        relative = str(file.relative_to(data))
        mine = [f for f in findings if f.path == relative]
        assert mine, (file.name, at, [f.line() for f in findings])
        if file.parent.name == "log":
            assert mine[0].offset <= at
        flip(file, at, number % 8)
    assert not look(data).findings


def recovers(path: Path) -> str:
    """What the storage layer does with the directory, in the survey's words."""
    disk = RealDisk(lambda fn: fn())
    try:
        identity = read_identity(disk, str(path), cluster_id=CLUSTER, node_id=1)
        assert identity is not None
        image = (path / "raft/hardstate").read_bytes()
        slots = [slot for slot in (decode_slot(image[at : at + 512]) for at in (0, 4096)) if slot is not None]
        hard = max(slots, key=lambda slot: slot[0])[1]
        recovered = recover_log(disk, str(path), CLUSTER, 1, hard.synced_hint)
    except StorageError:
        return REFUSES
    finally:
        disk.close()
    return CUTS_TAIL if recovered.quarantined else STARTS


def test_the_prediction_is_what_recovery_does(tmp_path: Path) -> None:
    source = tmp_path / "source"
    # The last batch is proven by nothing, so that all three outcomes occur.
    write_directory(source, standard_entries(), proven=20, batch=8)
    with_tail = segments(source)[-1]
    with_tail.write_bytes(with_tail.read_bytes() + bytes(700))
    seen = set()
    size = with_tail.stat().st_size
    spots = [(with_tail.name, at) for at in range(0, size, 97)]
    spots += [(segments(source)[0].name, at) for at in (9, 300, 500)]
    for name, at in spots:
        data = tmp_path / "data"
        shutil.copytree(source, data)
        flip(data / "log" / name, at, 3)
        expected = look(data).outcome
        assert recovers(data) == expected, (name, at)
        seen.add(expected)
        shutil.rmtree(data)
    for length in range(256, size, 211):
        shutil.copytree(source, data)
        torn = data / "log" / with_tail.name
        torn.write_bytes(torn.read_bytes()[:length])
        expected = look(data).outcome
        assert recovers(data) == expected, length
        seen.add(expected)
        shutil.rmtree(data)
    assert seen == {STARTS, CUTS_TAIL, REFUSES}


def test_deep_finds_what_checksums_cannot(tmp_path: Path) -> None:
    data = tmp_path / "data"
    entries = standard_entries(8)
    entries.append(Entry(9, 2, 0, 0, payload(words("SET a 1"), words("SET b 2"))[:-1]))
    write_directory(data, entries)
    assert run("verify", data).exit_code == 0
    finding = told(2, "verify", data, "--deep")["findings"][0]
    assert finding["index"] == 9
    assert "cannot be decoded" in finding["detail"]


def test_usage_errors_are_told_from_damage(data: Path) -> None:
    assert run("verify", data, "--nonsense").exit_code == 1
    assert run("verify", data.parent / "nowhere").exit_code == 1
    assert run("verify", data.parent).exit_code == 70
