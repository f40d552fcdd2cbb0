"""durakv-cli repair --from-peer: a damaged log becomes what it was, or nothing is changed and the reason is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from durakv.cli import recovery_repair
from durakv.cli.admin_files import FileSink
from durakv.cli.admin_progress import unseen
from durakv.cli.recovery_entries import stored_entries
from durakv.cli.recovery_survey import survey
from raft.types import Entry

from .checkpoint_directory import CHECKPOINT, LAST, make, rich_entries
from .fake_peer import FakePeer
from .recovery_directory import flip, opened, run, segments, standard_entries, told, tree, write_directory

ENTRIES = standard_entries(voters=(1, 2, 3))
KEYS = [(e.index, e.term, e.subterm, int(e.kind), e.data) for e in ENTRIES]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "data"
    write_directory(path, ENTRIES)
    assert len(segments(path)) > 3
    return path


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def held(path: Path) -> list[tuple[int, int, int, int, bytes]]:
    """All entries of a directory with which nothing is wrong."""
    found = survey(str(path), unseen, live=False, thorough=True)
    assert found.findings == []
    return [
        (e.index, e.term, e.subterm, e.kind, e.data)
        for e in stored_entries(found.disk, found.scans, found.scans[0].header.base, found.scans[-1].last_index)
    ]


def repaired(path: Path, peer: FakePeer) -> dict[str, object]:
    return told(3, "repair", path, "--from-peer", peer.address, "--yes")


def check_whole(path: Path, keys: list[tuple[int, int, int, int, bytes]] = KEYS) -> None:
    assert held(path) == keys


def test_the_plan_is_told_first_and_then_carried_out(data: Path) -> None:
    segment = segments(data)[1]
    place = segment.read_bytes().find(b"#DK1 Q")
    index = int(segment.read_bytes()[place + 7 : place + 23], 16)
    flip(segment, place + 140)
    damaged = segment.read_bytes()
    before = tree(data)
    finding = told(2, "verify", data)["findings"][0]
    assert (finding["file"], finding["index"]) == (f"log/{segment.name}", index)
    assert f"repair {data} --from-peer HOST:PORT" in finding["repair"]
    with FakePeer(ENTRIES) as peer:
        plan = run("repair", data, "--from-peer", peer.address)
        assert plan.exit_code == 70
        assert f"log/{segment.name} is damaged" in plan.output
        assert f"{index} to {index} (term 2 to 2" in plan.output
        assert f"from {peer.address}" in plan.output
        assert "add --yes" in plan.output
        assert tree(data) == before
        done = repaired(data, peer)
        assert done["left"] == []
        again = run("repair", data, "--from-peer", peer.address, "--yes")
        assert (again.exit_code, "Nothing to repair" in again.output) == (0, True)
    check_whole(data)
    assert isinstance(done["kept"], list)
    assert [Path(path).read_bytes() for path in done["kept"]] == [damaged.rstrip(b"\0")]
    record = json.loads(Path(str(done["audit"])).read_text())
    assert record["what"] == "repair"
    assert peer.address in record["plan"][0]
    with opened(data) as (_, store):
        assert store.log.last_index() == 40


def test_flips_everywhere_are_mended_or_refused(whole: Path, tmp_path: Path) -> None:
    """Every 67th byte of every segment: what verify calls damage is mended to the very entries that were there; only
    behind the last frame that tells anything is it refused.
    """
    data = Path(shutil.copytree(whole, tmp_path / "data"))
    mended = refused = 0
    with FakePeer(ENTRIES, piece=100) as peer:
        for number, segment in enumerate(segments(whole)):
            good = segment.read_bytes()
            for at in range(0, len(good.rstrip(b"\0")), 67):
                mine = data / "log" / segment.name
                flip(mine, at, at % 8)
                damaged = any(finding.stops for finding in survey(str(data), unseen, live=False).findings)
                if damaged:
                    result = run("repair", data, "--from-peer", peer.address, "--yes")
                    assert result.exit_code in (3, 70), result.output
                    if result.exit_code == 3:
                        mended += 1
                        check_whole(data)
                    else:
                        refused += 1
                        assert number == len(segments(whole)) - 1
                        assert "cannot be known" in result.output
                mine.write_bytes(good)
                shutil.rmtree(data / "quarantine", ignore_errors=True)
    assert mended > 80
    assert refused < 10


def test_many_damages_at_once(data: Path) -> None:
    files = segments(data)
    first, second, third = files[0], files[1], files[2]
    flip(first, 60)
    first.write_bytes(first.read_bytes()[:700] + bytes(512) + first.read_bytes()[1212:])
    second.unlink()
    third.write_bytes(bytes(256) + third.read_bytes()[256:])
    flip(third, third.read_bytes().rfind(b"#DK1 S") + 130)
    last = files[-1]
    flip(last, last.read_bytes().find(b"#DK1 Q") + 20)
    flip(last, last.read_bytes().rfind(b"#DK1 Q") + 135)
    with FakePeer(ENTRIES) as peer:
        done = repaired(data, peer)
    # What the second held goes into the third, whose first line no longer says where it began.
    assert len(done["plan"]) == 3  # type: ignore[arg-type]
    assert len(done["kept"]) == 3  # type: ignore[arg-type]
    check_whole(data)
    with opened(data) as (_, store):
        assert store.log.last_index() == 40


def test_damage_that_needs_nobody_is_mended_without_asking(data: Path) -> None:
    """First lines, marks and seals hold no entries."""
    files = segments(data)
    flip(files[1], 200)
    flip(files[2], files[2].read_bytes().rfind(b"#DK1 S") + 60)
    with FakePeer(ENTRIES) as peer:
        repaired(data, peer)
        assert peer.asked == []
    check_whole(data)


def test_an_interrupted_repair_is_run_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for segment in segments(data)[:3]:
        flip(segment, segment.read_bytes().find(b"#DK1 Q") + 140)
    published: list[Path] = []
    publish = FileSink.publish

    def stops_after(sink: FileSink) -> None:
        if sink.path.parent.name == "log":
            published.append(sink.path)
            if len(published) == 2:
                raise OSError(5, "the power failed")
        publish(sink)

    with FakePeer(ENTRIES) as peer:
        with monkeypatch.context() as patch:
            patch.setattr(FileSink, "publish", stops_after)
            assert run("repair", data, "--from-peer", peer.address, "--yes").exit_code == 74
        assert len(told(2, "verify", data)["findings"]) >= 1
        repaired(data, peer)
    check_whole(data)


def refusal(path: Path, *addresses: str) -> str:
    before = tree(path)
    result = run("repair", path, "--from-peer", ",".join(addresses), "--yes")
    assert result.exit_code == 70, result.output
    assert tree(path) == before
    return str(result.output)


def test_members_that_cannot_help_are_named(data: Path) -> None:
    segment = segments(data)[1]
    flip(segment, segment.read_bytes().find(b"#DK1 Q") + 140)
    other = [Entry(e.index, e.term, 0, e.kind, e.data + b"?" if e.kind == 0 else e.data) for e in ENTRIES]
    with FakePeer(ENTRIES, first=35) as dropped, FakePeer(ENTRIES, committed=3) as behind:
        text = refusal(data, dropped.address, behind.address)
        assert f"{dropped.address}: its log begins at index 35: its checkpoint" in text
        assert f"{behind.address}: it knows entries up to 3 to be committed" in text
        assert "fetches a snapshot: 'durakv cluster remove-node'" in text
        with FakePeer(ENTRIES) as good:
            done = told(70, "repair", data, "--from-peer", f"{dropped.address},{good.address}")
            assert good.address in str(done["plan"])
    with FakePeer(ENTRIES, cluster=bytes(16)) as foreign:
        assert "this directory belongs to group 1 of" in refusal(data, foreign.address)
    with FakePeer(ENTRIES, group=2) as foreign:
        assert "it is group 2" in refusal(data, foreign.address)
    with FakePeer(other) as foreign:
        assert "belongs to another history" in refusal(data, foreign.address)
    with FakePeer(ENTRIES, error=b"NOPERM this user has no permissions") as closed:
        assert "NOPERM this user" in refusal(data, closed.address)
    with FakePeer(ENTRIES) as gone:
        address = gone.address
    assert "refused" in refusal(data, address).lower()
    assert "is no address of a member" in refusal(data, "host:port")


def test_a_user_logs_in(data: Path) -> None:
    flip(segments(data)[1], segments(data)[1].read_bytes().find(b"#DK1 Q") + 140)
    with FakePeer(ENTRIES) as peer:
        told(70, "repair", data, "--from-peer", peer.address, "--user", "op", "--password", "pw")
        assert peer.asked[0] == [b"AUTH", b"op", b"pw"]
        assert peer.asked[1][:2] == [b"CLUSTER", b"LOGENTRIES"]


def test_an_end_that_cannot_be_known_is_not_made_up(data: Path) -> None:
    """Nothing is left behind the damage to say which entries this node had promised to keep."""
    last = segments(data)[-1]
    content = last.read_bytes()
    at = content.rfind(b"#DK1 Q")
    last.write_bytes(content[:at] + bytes(len(content) - at))
    with FakePeer(ENTRIES) as peer:
        assert "cannot be known" in refusal(data, peer.address)
        last.write_bytes(bytes(300))
        assert "too few of its frames are left" in refusal(data, peer.address)
        last.unlink()
        assert "cannot be known" in refusal(data, peer.address)


def test_an_end_whose_header_is_left_is_fetched(data: Path) -> None:
    last = segments(data)[-1]
    content = last.read_bytes()
    at = content.rfind(b"#DK1 Q")
    last.write_bytes(content[: at + 130] + bytes(len(content) - at - 130))
    with FakePeer(ENTRIES) as peer:
        repaired(data, peer)
    check_whole(data)


def test_an_unfinished_write_at_the_end_is_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_directory(data, ENTRIES, proven=5, segment_bytes=1 << 20, batch=40)
    (segment,) = segments(data)
    content = segment.read_bytes()
    end = content.rfind(b"#DK1 Q")
    # The last five of these are zeros, as what follows them.
    segment.write_bytes(content[: end + 150] + bytes(1000))
    flip(segment, content.find(b"#DK1 Q") + 140)
    flip(segment, end + 30)
    with FakePeer(ENTRIES) as peer:
        plan = repaired(data, peer)["plan"]
    assert "145 bytes behind them are left out, an unfinished write" in str(plan)
    check_whole(data, KEYS[:-1])


def test_a_member_that_tells_another_subterm_is_not_believed(data: Path) -> None:
    """The digest does not cover it, but the header that is left says it."""
    flip(segments(data)[1], segments(data)[1].read_bytes().find(b"#DK1 Q") + 140)
    lying = [Entry(e.index, e.term, 9 if e.kind == 0 else 0, e.kind, e.data) for e in ENTRIES]
    with FakePeer(lying) as peer:
        assert "does not go on from" in refusal(data, peer.address)


def test_a_vote_is_never_guessed(data: Path) -> None:
    for at in (100, 4196):
        flip(data / "raft/hardstate", at)
    flip(segments(data)[1], 400)
    with FakePeer(ENTRIES) as peer:
        text = refusal(data, peer.address)
        assert peer.asked == []
    assert "second vote" in text
    assert "durakv cluster remove-node 1" in text


def test_a_foreign_segment_is_not_written_over(data: Path, tmp_path: Path) -> None:
    files = segments(data)
    files[1].write_bytes(files[2].read_bytes())
    with FakePeer(ENTRIES) as peer:
        assert "is segment 3 of node 1" in refusal(data, peer.address)
        files[1].unlink()
        repaired(data, peer)
    check_whole(data)


def test_a_lost_identity_comes_back_with_the_rest(data: Path) -> None:
    flip(data / "IDENTITY", 20)
    flip(segments(data)[1], segments(data)[1].read_bytes().find(b"#DK1 Q") + 140)
    with FakePeer(ENTRIES) as peer:
        done = repaired(data, peer)
        assert "IDENTITY" in str(done["left"])
        repaired(data, peer)
    check_whole(data)


# -- with a checkpoint -------------------------------------------------------------------------------------------------

RICH = rich_entries(voters=(1, 2, 3))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    make(tmp_path / "data", voters=(1, 2, 3))
    return tmp_path / "data"


def rich_keys(path: Path) -> list[tuple[int, int, int, int, bytes]]:
    base = held(path)[0][0]
    return [(e.index, e.term, e.subterm, int(e.kind), e.data) for e in RICH if e.index >= base]


def place_of(path: Path, index: int) -> tuple[Path, int]:
    for segment in segments(path):
        at = segment.read_bytes().find(b"#DK1 Q %016x" % index)
        if at >= 0:
            return segment, at
    raise AssertionError(index)


@pytest.mark.parametrize("index", [CHECKPOINT, CHECKPOINT + 1, CHECKPOINT + 2, LAST - 3])
def test_behind_a_checkpoint(kept: Path, index: int) -> None:
    segment, at = place_of(kept, index)
    flip(segment, at + 140)
    assert told(2, "verify", kept)["findings"]
    with FakePeer(RICH) as peer:
        repaired(kept, peer)
    check_whole(kept, rich_keys(kept))
    assert told(0, "verify", kept, "--deep")["checkpoint"]["index"] == CHECKPOINT


def test_a_log_that_begins_behind_the_checkpoint_gets_what_is_missing(kept: Path) -> None:
    segments(kept)[0].unlink()
    segments(kept)[0].unlink()
    assert told(2, "verify", kept)["findings"]
    with FakePeer(RICH) as peer:
        repaired(kept, peer)
    check_whole(kept, rich_keys(kept))
    assert held(kept)[0][0] == CHECKPOINT + 1


def test_a_damaged_checkpoint_goes_when_the_log_has_everything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make(data, drop=False, voters=(1, 2, 3))
    for page in range(2):
        flip(data / "ckpt/env-1/data.mdb", page * 4096 + 16 + 24 + 48 + 40, 4)
    segment, at = place_of(data, 9)
    flip(segment, at + 140)
    with FakePeer(RICH) as peer:
        assert "ckpt/" in str(repaired(data, peer)["left"])
        assert "ckpt/ is moved to quarantine/" in str(repaired(data, peer)["plan"])
    check_whole(data, rich_keys(data))


def test_a_damaged_checkpoint_before_a_shortened_log_means_joining_again(kept: Path) -> None:
    for page in range(2):
        flip(kept / "ckpt/env-1/data.mdb", page * 4096 + 16 + 24 + 48 + 40, 4)
    with FakePeer(RICH, first=20) as peer:
        assert "remove-node" in refusal(kept, peer.address)


def test_plain_repair_still_refuses_and_names_this(data: Path) -> None:
    flip(segments(data)[1], segments(data)[1].read_bytes().find(b"#DK1 Q") + 140)
    refused = run("repair", data, "--yes")
    assert refused.exit_code == 70
    assert "--from-peer HOST:PORT" in refused.output
    assert recovery_repair.repair.name == "repair"
