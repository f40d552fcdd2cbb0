"""durakv-cli recover: a node whose group is gone comes back, and what nobody can know is called UNKNOWN."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from durakv.storage.hardstate import decode_slot, encode_slot

from .checkpoint_directory import CHECKPOINT, LAST, make
from .damage import boot
from .recovery_directory import flip, run, segments, told


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("places")
    make(root / "member", voters=(1, 2, 3))
    make(root / "alone")
    return root


@pytest.fixture
def member(places: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(places / "member", tmp_path / "member"))


@pytest.fixture
def alone(places: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(places / "alone", tmp_path / "alone"))


def files_of(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file() and f.name != "lock.mdb"}


def knew_of(data: Path, index: int) -> None:
    """The hard state of a member that knew this to be committed."""
    path = data / "raft/hardstate"
    image = bytearray(path.read_bytes())
    for at in (0, 4096):
        slot = decode_slot(bytes(image[at : at + 512]))
        assert slot is not None
        image[at : at + 512] = encode_slot(slot[1].voted(7, 3, index, index), slot[0])
    path.write_bytes(image)


def test_a_new_cluster_says_what_is_given_up(member: Path) -> None:
    knew_of(member, LAST - 3)
    wanted = told(0, "digest", member)["digest"]
    before = files_of(member)
    shown = told(70, "recover", "unsafe-new-cluster", member, "--this-node", 1)
    assert (shown["given_up"], shown["last_index"], shown["lost"]) == ([2, 3], LAST, "UNKNOWN")
    assert files_of(member) == before
    text = run("recover", "unsafe-new-cluster", member, "--this-node", 1).output
    assert "given up: nodes 2, 3" in text
    assert "writes other members acknowledged beyond this: UNKNOWN" in text
    assert "included: 3 entries this node did not know to be committed" in text
    assert run("recover", "unsafe-new-cluster", member, "--this-node", 2, "--yes-lose-data").exit_code == 70
    assert files_of(member) == before
    done = told(3, "recover", "unsafe-new-cluster", member, "--this-node", 1, "--yes-lose-data")
    document = told(0, "verify", member, "--deep")
    assert document["membership"]["voters"] == [1]
    assert document["membership"]["addresses"] == {"1": "127.0.0.1:7001@17001"}
    assert document["identity"]["cluster"] == done["cluster"]
    assert (document["hard_state"]["term"], document["hard_state"]["voted_for"]) == (8, 0)
    assert (document["log"]["first"], document["log"]["last"]) == (CHECKPOINT + 1, LAST)
    assert told(0, "digest", member)["digest"] == wanted
    record = json.loads(Path(done["audit"]).read_text())
    assert (record["verb"], record["given_up"]) == ("unsafe-new-cluster", [2, 3])
    kept = files_of(Path(done["kept_in"]))
    assert kept == {name: content for name, content in before.items() if name in kept}
    assert {name for name in before if name.startswith(("log", "ckpt", "raft"))} | {"IDENTITY"} == set(kept)
    assert not (member / "recover.new").exists()


def test_an_interrupted_swap_goes_on(member: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = told(0, "digest", member)["digest"]
    arguments = ("recover", "unsafe-new-cluster", member, "--this-node", 1, "--yes-lose-data")
    rename = Path.rename
    left = 0
    for allowed in range(1, 12):
        left = allowed

        def stop(self: Path, target: Path) -> Path:
            nonlocal left
            swapping = "recover.new" in str(self) and "partial" not in str(self)
            if swapping or "before-recover" in str(target):
                left -= 1
                if left < 0:
                    raise OSError(5, "stopped here")
            return rename(self, target)

        data = Path(shutil.copytree(member, member.parent / f"data{allowed}"))
        mine = tuple(data if word == member else word for word in arguments)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", stop)
            first = run(*mine)
        if first.exit_code == 3:
            assert allowed > 5
            break
        assert first.exit_code == 74, first.output
        # No server begins afresh on what is half done.
        assert boot(Path(shutil.copytree(data, member.parent / f"copy{allowed}"))) is None
        assert run(*mine).exit_code == 3
        assert told(0, "verify", data, "--deep")["membership"]["voters"] == [1]
        assert told(0, "digest", data)["digest"] == wanted
    else:
        raise AssertionError("it never ran through")


def test_a_damaged_directory_is_restored_instead(member: Path) -> None:
    flip(segments(member)[1], 500)
    refused = run("recover", "unsafe-new-cluster", member, "--this-node", 1, "--yes-lose-data")
    assert (refused.exit_code, "restore" in refused.output) == (70, True)


def test_the_hard_state_of_a_group_of_one(alone: Path) -> None:
    wanted = told(0, "digest", alone)["digest"]
    assert run("recover", "hardstate", alone).exit_code == 0
    for at in (20, 4096 + 20):
        flip(alone / "raft/hardstate", at)
    hurt = (alone / "raft/hardstate").read_bytes()
    assert boot(Path(shutil.copytree(alone, alone.parent / "copy"))) is None
    shown = told(70, "recover", "hardstate", alone)
    assert (shown["term"], shown["lost"]) == (3, "UNKNOWN")
    assert (alone / "raft/hardstate").read_bytes() == hurt
    done = told(3, "recover", "hardstate", alone, "--yes-lose-data")
    assert Path(done["kept"][0]).read_bytes() == hurt
    document = told(0, "verify", alone)
    assert (document["start"], document["findings"]) == ("starts", [])
    assert (document["hard_state"]["term"], document["hard_state"]["synced_hint"]) == (3, LAST)
    assert told(0, "digest", alone)["digest"] == wanted
    (alone / "raft/hardstate").unlink()
    assert told(3, "recover", "hardstate", alone, "--yes-lose-data")["kept"] == []
    assert boot(alone) is not None


def test_a_member_does_not_get_a_new_vote(member: Path) -> None:
    (member / "raft/hardstate").unlink()
    refused = run("recover", "hardstate", member, "--yes-lose-data")
    assert (refused.exit_code, "two leaders" in refused.output) == (70, True)
    assert not (member / "raft/hardstate").exists()
    told(3, "recover", "unsafe-new-cluster", member, "--this-node", 1, "--yes-lose-data")
    assert told(0, "verify", member)["start"] == "starts"


def test_accept_tail(alone: Path) -> None:
    assert run("recover", "accept-tail", alone).exit_code == 0
    last = segments(alone)[-1]
    size = last.stat().st_size
    flip(last, last.read_bytes().rfind(b"SET\r\n$5\r\nafter"))
    hurt = last.read_bytes()
    document = told(2, "verify", alone)
    good = document["log"]["last"]
    assert "prove that index" in document["findings"][0]["detail"]
    assert run("repair", alone, "--yes").exit_code == 70
    shown = told(70, "recover", "accept-tail", alone, "--others-are-gone")
    assert shown["to_index"] == good
    assert "bytes at offset" in shown["lost"]["unreadable"][0]
    text = run("recover", "accept-tail", alone, "--others-are-gone").output
    assert "holds an UNKNOWN number of writes" in text
    done = told(3, "recover", "accept-tail", alone, "--others-are-gone", "--yes-lose-data")
    kept = Path(done["kept"][0]).read_bytes()
    assert hurt[size - len(kept) :] == kept
    document = told(0, "verify", alone, "--deep")
    assert (document["log"]["last"], document["start"]) == (good, "starts")
    assert json.loads(Path(done["audit"]).read_text())["what"] == "accept-tail"
    booted = boot(alone)
    assert booted is not None
    assert booted.last == good


def test_accept_tail_is_for_tails(alone: Path) -> None:
    flip(segments(alone)[1], 500)
    refused = run("recover", "accept-tail", alone, "--yes-lose-data", "--others-are-gone")
    assert (refused.exit_code, "more than a damaged end" in refused.output) == (70, True)
