"""link() of a disk: a second name, once; the simulated one agrees with the kernel's."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from durakv.world.real_disk import RealDisk
from jstyle.sim.disk import DiskOptions, SimDisk
from jstyle.sim.disk_crash import CrashPolicy, after_power_cut
from jstyle.sim.timeline import Timeline


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "real":
        made = RealDisk(lambda fn: fn())
        yield made, str(tmp_path)
        made.close()
    else:
        simulated = SimDisk(Timeline(), 1, "n", DiskOptions())
        simulated.mkdir("/d")
        yield simulated, "/d"


def test_a_second_name_for_the_same_file(disk):
    d, root = disk
    file = d.open(f"{root}/a", create=True)
    file.pwrite(b"one", 0)
    d.link(f"{root}/a", f"{root}/b")
    file.pwrite(b"two", 0)
    file.close()
    d.unlink(f"{root}/a")
    assert d.listdir(root) == ["b"]
    assert d.open(f"{root}/b").pread(10, 0) == b"two"


def test_a_name_that_is_taken_stays_as_it_is(disk):
    d, root = disk
    for name in ("a", "b"):
        d.open(f"{root}/{name}", create=True).pwrite(name.encode(), 0)
    with pytest.raises(FileExistsError):
        d.link(f"{root}/a", f"{root}/b")
    with pytest.raises(FileNotFoundError):
        d.link(f"{root}/none", f"{root}/c")
    assert d.open(f"{root}/b").pread(10, 0) == b"b"
    assert d.listdir(root) == ["a", "b"]


@pytest.mark.parametrize("synced", [True, False])
def test_a_link_is_durable_with_its_directory(synced: bool):
    disk = SimDisk(Timeline(), 1, "n", DiskOptions())
    disk.mkdir("/d")
    file = disk.open("/d/a", create=True)
    file.pwrite(b"data", 0)
    file.fsync()
    disk.link("/d/a", "/d/b")
    disk.unlink("/d/a")
    if synced:
        disk.fsync_dir("/d")
    after_power_cut(disk, CrashPolicy("nothing"), Random(1))
    assert disk.listdir("/d") == (["b"] if synced else [])
    if synced:
        assert disk.open("/d/b").pread(10, 0) == b"data"
