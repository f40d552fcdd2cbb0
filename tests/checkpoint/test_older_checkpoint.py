"""A checkpoint that is sound but older than the one the log was shortened for: no node starts with a hole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from durakv.cli.admin_progress import unseen
from durakv.cli.recovery_survey import REFUSES, STARTS, survey
from durakv.storage.errors import RecoveryRefused
from durakv.storage.recovery import recover_log
from durakv.storage.segment import Covered
from durakv.world.real_disk import RealDisk
from tests.cli.checkpoint_directory import LAST, add_checkpoint, drop_covered, rich_entries
from tests.cli.damage import boot
from tests.cli.fake_peer import FakePeer
from tests.cli.recovery_directory import CLUSTER, run, told, write_directory

OLDER, NEWER = 12, 26


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped node whose log was shortened for a checkpoint at NEWER; ``older`` beside it is one of OLDER."""
    path = tmp_path_factory.mktemp("node")
    write_directory(path / "data", rich_entries(voters=(1, 2, 3)), batch=2)
    add_checkpoint(path / "data", OLDER)
    (path / "data/ckpt").rename(path / "older")
    shutil.rmtree(path / "data/fx")
    add_checkpoint(path / "data", NEWER)
    assert drop_covered(path / "data", path / "archive") > 2
    return path


def aged(node: Path, tmp_path: Path) -> Path:
    data = Path(shutil.copytree(node / "data", tmp_path / "data"))
    shutil.rmtree(data / "ckpt")
    shutil.copytree(node / "older", data / "ckpt")
    return data


def test_an_older_commit_is_refused_by_name(node: Path, tmp_path: Path) -> None:
    data = aged(node, tmp_path)
    found = survey(str(data), unseen, live=False, thorough=True)
    base = found.pool[0][0].header.base
    assert found.checkpoint is not None
    assert (found.checkpoint.sound, found.checkpoint.index) == (True, OLDER)
    assert OLDER + 1 < base <= NEWER + 1
    disk = RealDisk(lambda job: job())
    with pytest.raises(RecoveryRefused, match=f"begins at index {base}, but the checkpoint ends at {OLDER}") as told_:
        recover_log(disk, str(data), CLUSTER, 1, 0, found.covered())
    disk.close()
    assert "ckpt/ is an older one" in str(told_.value)
    assert "repair --from-peer" in str(told_.value)
    assert boot(data) is None
    assert found.outcome == REFUSES
    finding = told(2, "verify", data)["findings"][0]
    assert f"the entries {OLDER + 1} to {base - 1} in between are missing" in finding["detail"]
    assert run("repair", data, "--yes").exit_code == 70


def test_what_is_missing_comes_from_a_peer_or_the_archive(node: Path, tmp_path: Path) -> None:
    wanted = boot(Path(shutil.copytree(node / "data", tmp_path / "wanted")))
    assert wanted is not None
    digest = told(0, "digest", node / "data")["digest"]
    data = aged(node, tmp_path)
    with FakePeer(rich_entries(voters=(1, 2, 3))) as peer:
        told(3, "repair", data, "--from-peer", peer.address, "--yes")
    started = boot(data)
    assert started is not None
    assert started.last == wanted.last == LAST
    assert told(0, "digest", data)["digest"] == digest
    (tmp_path / "archived").mkdir()
    data = aged(node, tmp_path / "archived")
    for segment in (node / "archive").iterdir():
        shutil.copy(segment, data / "log" / segment.name)
    assert survey(str(data), unseen, live=False).outcome == STARTS
    assert told(0, "digest", data)["digest"] == digest
    assert boot(data) is not None


def test_an_older_commit_whose_log_is_still_there_is_no_harm(node: Path, tmp_path: Path) -> None:
    """Every index a checkpoint may have: refused below what the log begins with, taken from there on."""
    data = Path(shutil.copytree(node / "data", tmp_path / "data"))
    found = survey(str(data), unseen, live=False)
    base = found.scans[0].header.base
    disk = RealDisk(lambda job: job())
    outcomes = []
    refusals: list[str] = []
    for index in range(1, NEWER + 1):
        term = 1 if index == 1 else 2
        try:
            recovered = recover_log(disk, str(data), CLUSTER, 1, LAST, Covered(index, term, 0))
        except RecoveryRefused as error:
            refusals.append(str(error))
            outcomes.append(False)
            continue
        for segment in recovered.segments:
            if segment.file is not None:
                segment.file.close()
        assert recovered.segments[0].base <= index + 1
        outcomes.append(True)
    disk.close()
    assert outcomes == [index >= base - 1 for index in range(1, NEWER + 1)]
    assert all("entries are missing in between" in text for text in refusals)
    assert False in outcomes
    assert True in outcomes
