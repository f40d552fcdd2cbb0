"""The log in good health: group commit, policies, cuts, segments, marks, and a model."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durakv.storage.errors import RecoveryRefused
from durakv.storage.options import SYNC_ALWAYS, SYNC_EVERYSEC, SYNC_NO, LogOptions

from .sim_disk import SimDisk
from .world import Entry, Node, normal, segment_paths

BIG = 1 << 20


def ops(disk: SimDisk, since: int) -> list[str]:
    return [kind for kind, path in disk.trace[since:]]


def test_appends_during_a_job_become_one_write_and_one_sync() -> None:
    disk = SimDisk()
    node = Node(disk, segment_bytes=BIG)
    first = node.append(normal(1))
    order: list[int] = []
    for index in range(2, 102):
        node.log.append([normal(index)], lambda _, index=index: order.append(index))  # type: ignore[misc]
    assert len(disk.jobs) == 1
    before = len(disk.trace)
    disk.run_one()
    assert ops(disk, before) == ["fallocate", "pwrite", "fdatasync"]
    assert (first, order) == ([None], [])
    before = len(disk.trace)
    disk.run_one()
    assert ops(disk, before) == ["pwrite", "fdatasync"]
    assert order == list(range(2, 102))
    assert not disk.jobs
    assert node.log.durable_index() == 101
    assert node.store.lane.stats.queued_bytes == 0


def test_nothing_is_acknowledged_before_its_sync() -> None:
    disk = SimDisk()
    node = Node(disk, segment_bytes=BIG)
    heard = node.append(normal(1))
    assert (heard, node.log.durable_index(), node.log.last_index()) == ([], 0, 1)
    node.settle()
    assert (heard, node.log.durable_index()) == ([None], 1)
    assert Node(disk.after_crash("none")).held() == [normal(1).key()]


def test_big_backlog_is_split_but_acknowledged_in_order() -> None:
    disk = SimDisk()
    node = Node(disk, options=LogOptions(batch_bytes_max=1000), segment_bytes=BIG)
    heard: list[int] = []
    for index in range(1, 21):
        node.log.append([normal(index, 1, 200)], lambda _, index=index: heard.append(index))  # type: ignore[misc]
    counts = []
    while disk.jobs:
        disk.run_one()
        counts.append(len(heard))
    assert heard == list(range(1, 21))
    assert len(counts) > 4
    assert counts == sorted(counts)


def test_policy_no_answers_at_hand_off_and_never_syncs() -> None:
    disk = SimDisk()
    node = Node(disk, options=LogOptions(sync=SYNC_NO), segment_bytes=BIG)
    before = len(disk.trace)
    heard = node.append(normal(1))
    assert heard == [], "never inside append"
    node.clock.run_soon()
    assert heard == [None]
    node.settle()
    node.clock.advance(5000)
    node.settle()
    assert ops(disk, before) == ["fallocate", "pwrite"]
    assert node.log.durable_index() == 0
    assert node.close() == [None]
    assert Node(disk.after_crash("none")).held() == [normal(1).key()]


def test_policy_everysec_syncs_once_a_second() -> None:
    disk = SimDisk()
    node = Node(disk, options=LogOptions(sync=SYNC_EVERYSEC), segment_bytes=BIG)
    for index in range(1, 6):
        node.append(normal(index))
        node.settle()
    assert "fdatasync" not in ops(disk, 0)[-10:]
    before = len(disk.trace)
    node.clock.advance(1000)
    node.settle()
    assert ops(disk, before) == ["fdatasync"]
    assert node.log.durable_index() == 5
    before = len(disk.trace)
    node.clock.advance(1500)
    node.settle()
    assert "fdatasync" not in ops(disk, before), "nothing new, nothing to sync"


def test_policy_changes_at_run_time() -> None:
    disk = SimDisk()
    node = Node(disk, options=LogOptions(sync=SYNC_NO), segment_bytes=BIG)
    node.append(normal(1))
    node.settle()
    node.log.set_sync(SYNC_ALWAYS)
    node.settle()
    assert node.log.durable_index() == 1
    assert Node(disk.after_crash("none")).held() == [normal(1).key()]
    heard = node.append(normal(2))
    node.clock.run_soon()
    assert heard == []
    node.settle()
    assert heard == [None]
    node.log.set_sync(SYNC_EVERYSEC)
    heard = node.append(normal(3))
    node.clock.run_soon()
    assert heard == [None]
    node.settle()
    node.clock.advance(1000)
    node.settle()
    assert node.log.durable_index() == 3
    with pytest.raises(AssertionError, match="sync policy"):
        node.log.set_sync("sometimes")


def test_inline_when_idle_and_on_the_lane_when_busy() -> None:
    disk = SimDisk()
    node = Node(disk, segment_bytes=BIG)
    heard: list[OSError | None] = []
    assert node.log.append_inline([normal(1)], heard.append)
    assert heard == [None]
    assert node.log.durable_index() == 1
    assert node.log.append_inline([normal(2)])
    assert Node(disk.after_crash("none")).held() == [normal(1).key(), normal(2).key()]
    slow = node.append(normal(3))
    assert not node.log.append_inline([normal(4)], heard.append)
    assert (slow, heard) == ([], [None])
    node.settle()
    assert (slow, heard) == ([None], [None, None])


def test_entries_already_held_are_kept() -> None:
    node = Node(SimDisk(), segment_bytes=BIG)
    node.append(normal(1), normal(2), normal(3))
    node.settle()
    node.log.set_committed(3)
    calls = node.disk.calls
    heard = node.append(normal(2), normal(3))
    assert heard == []
    node.settle()
    assert heard == [None]
    assert node.disk.calls == calls
    heard = node.append(normal(3), normal(4))
    node.settle()
    assert heard == [None]
    assert [key[0] for key in node.held()] == [1, 2, 3, 4]


def test_committed_entries_cannot_be_cut() -> None:
    node = Node(SimDisk())
    node.append(normal(1), normal(2))
    node.settle()
    node.log.set_committed(2)
    with pytest.raises(AssertionError, match="committed"):
        node.append(normal(2, 5))
    with pytest.raises(AssertionError, match="entry 5 after 2"):
        node.append(normal(5, 5))


@pytest.mark.parametrize("cut", range(1, 13))
def test_cut_at_every_place_with_work_in_flight(cut: int) -> None:
    disk = SimDisk()
    node = Node(disk)
    for index in range(1, 9):
        node.append(normal(index, 1, 900))
    node.settle()
    assert len(segment_paths(disk)) >= 3
    node.append(normal(9, 1), normal(10, 1))
    old = node.append(normal(11, 1), normal(12, 1))
    new = node.append(normal(cut, 2), normal(cut + 1, 2))
    node.settle()
    assert (old, new) == ([None], [None])
    want = [normal(index, 1, 900 if index < 9 else 20).key() for index in range(1, cut)]
    want += [normal(cut, 2).key(), normal(cut + 1, 2).key()]
    assert node.held() == want
    assert [node.log.term(index) for index in range(cut + 2)] == [0] + [1] * (cut - 1) + [2, 2]
    assert node.log.durable_index() == cut + 1
    again = Node(disk.after_crash("none"))
    assert again.held() == want
    assert again.log.durable_index() == cut + 1


def test_segments_roll_ahead_of_need_and_oversize_frames_get_their_own() -> None:
    disk = SimDisk()
    node = Node(disk)
    node.append(normal(1, 1, 3000))
    node.settle()
    assert "/d/log/dk.spare.tmp" in disk.names, "the next segment is allocated before it is needed"
    node.append(normal(2, 1, 50_000))
    node.append(normal(3, 1, 100))
    node.settle()
    paths = segment_paths(disk)
    assert len(paths) == 3
    assert disk.names[paths[1]].data.endswith(b"#SEAL %016x %016x\r\n" % (2, 2))
    assert [key[0] for key in Node(disk.after_crash("none")).held()] == [1, 2, 3]
    assert node.close() == [None]
    assert "/d/log/dk.spare.tmp" not in disk.names
    for path in segment_paths(disk):
        assert not disk.names[path].data.endswith(b"\x00"), "no zero tail after a clean stop"


def test_a_mark_follows_an_idle_moment() -> None:
    disk = SimDisk()
    node = Node(disk, segment_bytes=BIG)
    node.append(normal(1))
    node.settle()
    node.clock.advance(19)
    node.settle()
    assert b"#DK1 M" not in disk.names[segment_paths(disk)[0]].data
    before = len(disk.trace)
    node.clock.advance(2)
    node.settle()
    assert ops(disk, before) == ["pwrite"], "a mark is not synced"
    assert disk.names[segment_paths(disk)[0]].data.count(b"#DK1 M %016x" % 1) == 1
    node.clock.advance(500)
    node.settle()
    assert disk.names[segment_paths(disk)[0]].data.count(b"#DK1 M") == 1


def test_a_mark_follows_a_start_from_a_log_whose_newest_entry_nothing_proves() -> None:
    disk = SimDisk()
    node = Node(disk, segment_bytes=BIG)
    node.append(normal(1), normal(2))
    node.settle()
    image = disk.after_crash("none")
    path = segment_paths(image)[0]
    again = Node(image, segment_bytes=BIG)
    again.clock.advance(20)
    again.settle()
    assert image.names[path].data.count(b"#DK1 M %016x" % 2) == 1
    again.clock.advance(500)
    again.settle()
    assert image.names[path].data.count(b"#DK1 M") == 1
    # The rot of the newest entry is no torn write any more.
    image = image.after_crash("all")
    at = image.names[path].data.rfind(b"#DK1 Q %016x" % 2)
    image.names[path].data[at + 1] ^= 1
    image.names[path].durable[at + 1] ^= 1
    with pytest.raises(RecoveryRefused, match="index 2 was synced"):
        Node(image)


def test_no_mark_follows_a_start_from_a_log_that_has_one() -> None:
    disk = SimDisk()
    node = Node(disk, segment_bytes=BIG)
    node.append(normal(1))
    node.settle()
    node.clock.advance(50)
    node.settle()
    image = disk.after_crash("all")
    again = Node(image, segment_bytes=BIG)
    begun = len(image.trace)
    again.clock.advance(500)
    again.settle()
    assert ops(image, begun) == []


def test_unsynced_field_tells_the_truth() -> None:
    disk = SimDisk()
    node = Node(disk, segment_bytes=BIG)
    for batch in ([1], [2, 3], [4]):
        node.append(*[normal(index) for index in batch])
        node.settle()
    data = disk.names[segment_paths(disk)[0]].data
    unsynced = {}
    for index in range(1, 5):
        at = data.find(b"#DK1 Q %016x" % index)
        unsynced[index] = int(data[at + 81 : at + 89], 16)
    assert unsynced == {1: 1, 2: 1, 3: 2, 4: 1}


def test_reads_from_memory_from_disk_and_across_both() -> None:
    disk = SimDisk()
    node = Node(disk, options=LogOptions(cache_bytes=1500))
    for index in range(1, 41):
        node.append(normal(index, 1 + index // 10, 200, index % 3))
        node.settle()
    want = [normal(index, 1 + index // 10, 200, index % 3).key() for index in range(1, 41)]
    assert [entry.key() for entry in node.log.entries(1, 41, 1 << 30)] == want
    for lo in range(1, 41, 3):
        for hi in range(lo, 42, 5):
            assert [entry.key() for entry in node.log.entries(lo, hi, 1 << 30)] == want[lo - 1 : hi - 1]
    assert [entry.index for entry in node.log.entries(5, 41, 0)] == [5]
    assert [entry.index for entry in node.log.entries(5, 41, 650)] == [5, 6, 7]
    reads = disk.reads
    node.log.entries(39, 41, 1000)
    assert disk.reads == reads, "the newest entries come from memory"
    with pytest.raises(AssertionError, match="no entries"):
        node.log.entries(1, 43, 1)
    with pytest.raises(AssertionError, match="no entry 42"):
        node.log.term(42)


def test_stamps_go_into_the_header() -> None:
    disk = SimDisk()
    node = Node(disk, options=LogOptions(stamp=lambda data: (0x18BCFE56800 + len(data), 3)), segment_bytes=BIG)
    node.append(normal(1, 1, 10), Entry(2, 1, 0, 1, b""))
    node.settle()
    data = bytes(disk.names[segment_paths(disk)[0]].data)
    assert data[256 + 42 : 256 + 53] == b"18bcfe5680a"
    assert data[256 + 90 : 256 + 94] == b"0003"
    assert data[394 + 42 : 394 + 53] == b"0" * 11


def test_sync_statistics() -> None:
    node = Node(SimDisk(), segment_bytes=BIG)
    stats = node.store.lane.stats
    assert stats.percentile_us(99) == 0
    for index in range(1, 4):
        node.append(normal(index))
        node.settle()
    assert (stats.syncs, stats.writes) == (3, 3)
    assert stats.bytes_written == 3 * 148
    for latency in range(2000):
        stats.record_sync(latency)
    assert (stats.max_us, stats.percentile_us(50)) == (1999, 976 + 512)


STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4), st.sampled_from([10, 300, 5000])),
    st.tuples(st.just("conflict"), st.integers(0, 8), st.integers(1, 3)),
    st.tuples(st.just("run"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("time"), st.integers(1, 1100), st.just(0)),
    st.tuples(st.just("commit"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
    st.tuples(st.just("policy"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("inline"), st.integers(1, 2), st.sampled_from([10, 3000])),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=25))
def test_log_behaves_as_a_list(steps: list[tuple[str, int, int]]) -> None:
    node = Node(SimDisk(), options=LogOptions(cache_bytes=2000, batch_bytes_max=3000))
    model: list[Entry] = []
    term = 1
    asked: list[int] = []
    heard: list[int] = []
    committed = 0
    for what, a, b in steps:
        if what in ("append", "inline", "conflict"):
            keep = len(model)
            if what == "conflict":
                term += 1
                keep = max(committed, len(model) - a)
            count, size = (b, 40) if what == "conflict" else (a, b)
            batch = [normal(keep + 1 + at, term, size) for at in range(count)]
            model[keep:] = batch
            asked.append(len(asked))
            done = lambda error, number=asked[-1]: heard.append(number if error is None else -1)
            if what == "inline":
                node.log.append_inline(batch, done)
            else:
                node.log.append(batch, done)
        elif what == "run":
            for _ in range(min(a, len(node.disk.jobs))):
                node.disk.run_one()
            node.clock.run_soon()
        elif what == "time":
            node.clock.advance(a)
        elif what == "commit":
            committed = max(committed, min(node.log.durable_index(), committed + a))
            node.log.set_committed(committed)
        elif what == "policy":
            node.log.set_sync((SYNC_ALWAYS, SYNC_EVERYSEC, SYNC_NO)[a])
        else:
            node.settle()
            if a == 0 and len(asked) % 2:
                assert node.close() == [None]
            node = Node(node.disk.after_crash("all"), options=LogOptions(cache_bytes=2000, batch_bytes_max=3000))
            node.log.set_committed(committed)
        assert node.log.last_index() == len(model)
        assert node.log.first_index() == 1
    assert node.held() == [entry.key() for entry in model]
    assert [node.log.term(entry.index) for entry in model] == [entry.term for entry in model]
    node.settle()
    assert heard == asked
    assert node.held() == [entry.key() for entry in model]
    assert node.close() == [None]
    assert Node(node.disk.after_crash("none")).held() == [entry.key() for entry in model]
