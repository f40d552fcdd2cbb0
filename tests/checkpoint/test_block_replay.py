"""Pages of real LMDB commits lost, torn and mixed: a start has one commit whole, or says by name why it has none."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from durakv.checkpoint import materialise
from durakv.checkpoint.materialise import Materialiser
from durakv.checkpoint.place import DATA_NAME, open_checked
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv
from jstyle.crash.campaign import Tally
from jstyle.crash.kernel import strace_missing
from jstyle.crash.pages import PAGE_BYTES, Commit, State, differences, protocol_broken, recorded
from jstyle.crash.pages_states import Judge, build, judged, try_pages, words
from jstyle.mutants.checkpoint_mutants import index_ahead_of_its_rows

MISSING = strace_missing()


@pytest.fixture(scope="module")
def commits() -> list[Commit]:
    return recorded()


def states_before(commits: list[Commit], position: int) -> list[State]:
    return [commit.old for commit in commits[: position + 1]]


def found(commits: list[Commit], position: int, subsets: int = 2) -> Tally:
    tally = Tally("checkpoint")
    with Judge() as judge:
        for word in words(commits[position], subsets):
            tally.tried += 1
            tally.add(position, word, judged(judge, commits[position], word, states_before(commits, position), tally))
        tally.states = judge.distinct
    return tally


def test_a_life_has_commits_of_every_sort(commits: list[Commit]) -> None:
    assert len(commits) > 12
    assert all(one.new == other.old for one, other in itertools.pairwise(commits))
    sizes = [len(commit.written()) for commit in commits]
    assert min(sizes) < 5
    assert max(sizes) > 20
    assert {commit.head() for commit in commits} == {0, 1}
    assert any(not commit.frames for commit in commits), "garbage is collected in transactions of its own"
    assert any(len(c.before) == len(c.after) for c in commits), "free pages are used again"


@pytest.mark.parametrize("name", ["one key", "large ones go", "flushed", "garbage of databases"])
def test_every_state_of_a_commit(commits: list[Commit], name: str) -> None:
    position = next(number for number, commit in enumerate(commits) if commit.name == name)
    tally = found(commits, position)
    assert [(failure.word, failure.text) for failure in tally.failures] == []
    assert tally.tried > 40
    assert tally.states > 30


def test_older_commits_are_counted_and_whole(commits: list[Commit]) -> None:
    """Head pages torn where no disk tears them lead to the commit before the last."""
    tally = Tally("checkpoint")
    with Judge() as judge:
        assert judged(judge, commits[4], "tail:136/all", states_before(commits, 4), tally) == []
        opened = judge.opened(build(commits[4], "tail:136/all"))
    assert opened.state == commits[3].old
    assert tally.unprovable == 1


def test_a_wrong_state_is_seen(commits: list[Commit]) -> None:
    """The judge can fail: a commit said to lead elsewhere, and one whose rows come later than its index."""
    commit = commits[3]
    lie = Commit(commit.name, commit.before, commit.after, commit.old, (commit.new[0], "0" * 32), commit.frames)
    with Judge() as judge:
        checks = {f.check for f in judged(judge, lie, "new/all", [commit.old], Tally("t"))}
        assert checks == {"C2", "D1"}
        assert [f.check for f in judged(judge, lie, "old/none", [commit.old], Tally("t"))] == ["ONWARD"]
        back = Commit(commit.name, commit.before, commit.after, commit.new, commit.old, b"")
        assert "C2" in {f.check for f in judged(judge, back, "old/all", [commit.new], Tally("t"))}


@pytest.mark.skipif(not materialise.__file__.endswith(".py"), reason="mistakes are planted in source modules")
def test_a_planted_mistake_is_seen() -> None:
    with index_ahead_of_its_rows():
        planted = recorded()
    assert {"C2", "D1"} & set(found(planted, 3, 0).by_check)


def test_a_failure_is_repeated_by_its_words() -> None:
    tally = Tally("checkpoint")
    try_pages(tally, only=(2, "new/but:0"))
    assert (tally.tried, tally.failure_count) == (1, 0)
    with pytest.raises(ValueError, match="no position 99"):
        try_pages(tally := Tally("checkpoint"), only=(99, "new/all"))
    with pytest.raises(ValueError, match="no state"):
        try_pages(Tally("checkpoint"), only=(2, "new/but:77"))
    with pytest.raises(ValueError, match="no head"):
        try_pages(Tally("checkpoint"), only=(2, "other/all"))


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_lmdb_writes_as_is_taken_for_granted() -> None:
    assert protocol_broken() == []


def test_another_way_to_write_would_be_noticed() -> None:
    good = [
        'openat(AT_FDCWD, "/e/data.mdb", O_RDWR|O_DSYNC) = 5</e/data.mdb>',
        "lseek(4</e/data.mdb>, 12288, SEEK_SET) = 12288",
        'writev(4</e/data.mdb>, [{iov_base=""..., iov_len=4096}], 1) = 4096',
        "fdatasync(4</e/data.mdb>) = 0",
        'pwrite64(5</e/data.mdb>, ""..., 120, 4096) = 120',
    ]
    path = "/e/data.mdb"
    assert list(differences(good, path)) == []
    assert "before the data it names is synced" in next(differences([*good[:3], good[4]], path))
    lazy = [line.replace("|O_DSYNC", "") for line in good]
    assert "behind a head that is not synced" in next(differences([*lazy, *lazy[1:3]], path))
    assert "do not know" in next(differences([*good, "msync(4</e/data.mdb>) = 0"], path))
    assert list(differences(good[:3], path)) == ["no commit was seen"]


def test_a_compaction_that_was_cut_off(commits: list[Commit], tmp_path: Path) -> None:
    """Before its rename the old file counts, whatever there is of the new one; the materialiser goes on from it."""
    commit = commits[-1]
    (tmp_path / DATA_NAME).write_bytes(commit.before)
    disk = RealDisk(lambda job: job())
    for size in (0, 100, PAGE_BYTES, 3 * PAGE_BYTES + 7):
        (tmp_path / f"{DATA_NAME}.new").write_bytes(commit.before[:size])
        kv = open_checked(disk, open_kv, str(tmp_path), write=True)
        assert Materialiser(kv).applied.index == commit.old[0]
        kv.compact()
        kv.close()
        kv = open_checked(disk, open_kv, str(tmp_path), write=False)
        assert Materialiser(kv).applied.index == commit.old[0]
        kv.close()
        assert not (tmp_path / f"{DATA_NAME}.new").exists()
        assert (tmp_path / DATA_NAME).stat().st_size < len(commit.before)
    disk.close()
