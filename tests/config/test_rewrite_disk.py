"""CONFIG REWRITE on a real disk: atomic, and refused without harm when the disk refuses."""

from __future__ import annotations

import pytest

from durakv.config.load import load
from durakv.config.rewrite import DiskConfigFile, rewrite
from durakv.world.real_disk import RealDisk


@pytest.fixture
def disk():
    disk = RealDisk(lambda fn: fn())
    yield disk
    disk.close()


def test_the_file_is_replaced(tmp_path, disk):
    path = tmp_path / "durakv.conf"
    path.write_text("timeout 1\n")
    settings = load([str(path)], lambda p: path.read_text())
    settings.files = DiskConfigFile(disk)
    settings.set("timeout", "44")
    rewrite(settings)
    assert path.read_text() == "timeout 44\n"
    assert [p.name for p in tmp_path.iterdir()] == ["durakv.conf"]


def test_a_missing_file_is_an_error_and_nothing_is_created(tmp_path, disk):
    path = tmp_path / "durakv.conf"
    settings = load([str(path)], lambda p: "timeout 1\n")
    settings.files = DiskConfigFile(disk)
    with pytest.raises(OSError):
        rewrite(settings)
    assert list(tmp_path.iterdir()) == []
