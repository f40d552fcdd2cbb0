"""Streams of the simulated network: order, delay, cuts, clogs, resets, refusals, machines without power."""

from __future__ import annotations

import pytest

from durakv.replication.transport import KIND_FORWARD, KIND_RAFT, FrameReader, frame
from durakv.world.ports import Stream
from jstyle.sim.clock import OpenDoor
from jstyle.sim.interposer import FrameOptions
from jstyle.sim.net import Fabric, NetOptions
from jstyle.sim.timeline import MS, SECOND, Timeline

PORT = 7


class Party:
    """Records what a stream tells its handler."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.got = b""
        self.pieces: list[bytes] = []
        self.opens = 0
        self.closes: list[Exception | None] = []

    def on_open(self, stream: Stream) -> None:
        self.stream = stream
        self.opens += 1

    def on_data(self, data: bytes) -> None:
        self.got += data
        self.pieces.append(data)

    def on_close(self, error: Exception | None) -> None:
        self.closes.append(error)

    def write(self, data: bytes) -> None:
        assert self.stream is not None
        self.stream.write(data)


class World:
    def __init__(self, seed: int = 1, peer_port: int = 0, **ranges: object) -> None:
        self.time = Timeline()
        self.fabric = Fabric(self.time, seed, NetOptions(**ranges), peer_port)  # type: ignore[arg-type]
        self.accepted: list[Party] = []

        def accept() -> Party:
            self.accepted.append(Party())
            return self.accepted[-1]

        self.listener = self.fabric.listen("b", PORT, accept)

    def dial(self, timeout_ms: int = 1000) -> Party:
        party = Party()
        self.fabric.connect("a", "b", PORT, party, timeout_ms)
        return party

    def pair(self) -> tuple[Party, Party]:
        here = self.dial()
        assert self.run(SECOND, lambda: bool(self.accepted) and self.accepted[-1].opens == 1)
        return here, self.accepted[-1]

    def run(self, ns: int, until: object = None) -> bool:
        return self.time.run_for(ns, until)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_bytes_arrive_in_order_in_pieces_and_all(seed: int) -> None:
    world = World(seed, split=(0.5, 0.5), tail=(0.3, 0.3), loss=(0.2, 0.2))
    here, there = world.pair()
    for n in range(200):
        here.write(b"<%d>" % n)
        there.write(b"[%d]" % n)
        world.run(n % 7 * MS)
    world.run(300 * SECOND)
    assert there.got == b"".join(b"<%d>" % n for n in range(200))
    assert here.got == b"".join(b"[%d]" % n for n in range(200))
    assert len(there.pieces) > 30


def test_what_is_written_at_one_instant_travels_together() -> None:
    world = World(split=(0.0, 0.0))
    here, there = world.pair()
    for n in range(10):
        here.write(b"%d" % n)
    world.run(SECOND)
    assert there.pieces == [b"0123456789"]


def test_addresses_name_hosts() -> None:
    here, there = World().pair()
    assert here.stream is not None and there.stream is not None
    assert here.stream.peer_address() == ("b", PORT) == there.stream.local_address()
    assert there.stream.peer_address() == here.stream.local_address()
    assert there.stream.peer_address()[0] == "a"


def test_a_cut_holds_one_direction_until_it_heals() -> None:
    world = World()
    here, there = world.pair()
    world.fabric.cut("a", "b")
    here.write(b"held")
    there.write(b"passes")
    world.run(SECOND)
    assert there.got == b"" and here.got == b"passes"
    world.fabric.heal()
    world.run(SECOND)
    assert there.got == b"held"


def test_a_stream_without_acknowledgement_is_given_up() -> None:
    world = World(give_up_ms=(5000, 5000))
    here, there = world.pair()
    world.fabric.partition(["a"], ["b"])
    here.write(b"lost")
    world.run(6 * SECOND)
    assert [type(e) for e in here.closes] == [TimeoutError]
    assert there.closes == []
    world.fabric.heal()
    world.run(SECOND)


def test_a_healed_stream_is_not_given_up_later() -> None:
    world = World(give_up_ms=(5000, 5000))
    here, there = world.pair()
    world.fabric.cut("a", "b")
    here.write(b"x")
    world.run(3 * SECOND)
    world.fabric.heal()
    world.run(20 * SECOND)
    assert there.got == b"x" and here.closes == [] and there.closes == []


def test_a_clog_delivers_in_a_burst() -> None:
    world = World(delay_min_us=(100, 100), delay_mean_us=(200, 200))
    here, there = world.pair()
    world.fabric.clog("a", "b", 2 * SECOND)
    for n in range(5):
        here.write(b"%d" % n)
        world.run(300 * MS)
    assert there.got == b""
    world.run(520 * MS)
    assert there.got == b"01234"


def test_a_clog_ended_early_stays_ended_and_ends_no_later_one() -> None:
    world = World()
    here, there = world.pair()
    world.fabric.clog("a", "b", 10 * SECOND)
    here.write(b"held")
    world.run(SECOND)
    assert there.got == b""
    world.fabric.unclog("a", "b")
    world.run(SECOND)
    assert there.got == b"held"
    world.fabric.clog("a", "b", 20 * SECOND)
    here.write(b" again")
    world.run(10 * SECOND)
    assert there.got == b"held"
    world.run(12 * SECOND)
    assert there.got == b"held again"


@pytest.mark.parametrize("how", ["unclog", "repair"])
def test_a_swizzle_does_not_go_on_after_its_end(how: str) -> None:
    blocked = 0
    for seed in range(20):
        world = World(seed)
        world.fabric.swizzle(["a", "b"], 20 * SECOND)
        link = world.fabric.link("a", "b")
        if how == "unclog":
            world.fabric.unclog("a", "b")
        else:
            world.fabric.repair()
        assert not world.run(20 * SECOND, lambda link=link: link.blocked)
        world.fabric.swizzle(["a", "b"], 20 * SECOND)
        blocked += world.run(20 * SECOND, lambda link=link: link.blocked)
    assert blocked > 3


def test_partition_isolates_sides_only() -> None:
    world = World()
    world.fabric.partition(["a"], ["b", "c"])
    cuts = {(link.source, link.target) for link in world.fabric.links() if link.cut}
    assert cuts == {("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")}
    world.fabric.heal(source="a", target="b")
    assert not world.fabric.is_cut("a", "b") and world.fabric.is_cut("b", "a")


def test_swizzled_links_are_all_free_again() -> None:
    world = World()
    here, there = world.pair()
    world.fabric.swizzle(["a", "b", "c"], 3 * SECOND)
    blocked = False
    for _ in range(60):
        here.write(b".")
        world.run(50 * MS)
        blocked |= any(link.blocked for link in world.fabric.links())
    world.run(SECOND)
    assert blocked and not any(link.blocked for link in world.fabric.links())
    assert there.got == b"." * 60


@pytest.mark.parametrize("seed", range(30))
def test_a_reset_ends_both_ends_after_a_prefix(seed: int) -> None:
    world = World(seed)
    here, there = world.pair()
    here.write(b"0123456789")
    world.fabric.reset(lambda end: end.host.name == "a")
    world.run(10 * SECOND)
    assert b"0123456789".startswith(there.got)
    assert len(here.closes) == len(there.closes) == 1
    here.write(b"more")
    world.run(SECOND)
    assert b"more" not in there.got


def test_resets_cut_at_many_different_bytes() -> None:
    lengths: list[int] = []
    for seed in range(60):
        world = World(seed)
        here, there = world.pair()
        here.write(b"0123456789")
        world.fabric.reset(lambda end: end.host.name == "a")
        world.run(10 * SECOND)
        lengths.append(len(there.got))
    assert len(set(lengths)) >= 6


def test_refused_without_a_listener_or_when_told() -> None:
    world = World()
    world.fabric.refuse("b")
    party = world.dial()
    world.run(SECOND)
    assert [type(e) for e in party.closes] == [ConnectionRefusedError] and party.opens == 0
    world.fabric.refuse("b", refusing=False)
    world.listener.close()
    party = world.dial()
    world.run(SECOND)
    assert [type(e) for e in party.closes] == [ConnectionRefusedError]


@pytest.mark.parametrize("cut", [("a", "b"), ("b", "a")])
def test_dialling_across_a_cut_times_out(cut: tuple[str, str]) -> None:
    world = World()
    world.fabric.cut(*cut)
    party = world.dial(timeout_ms=700)
    begin_ns = world.time.now_ns
    world.run(5 * SECOND, lambda: bool(party.closes))
    assert [type(e) for e in party.closes] == [TimeoutError] and world.accepted == []
    assert world.time.now_ns - begin_ns == 700 * MS


def test_an_orderly_close_comes_after_the_bytes() -> None:
    world = World(split=(0.9, 0.9))
    here, there = world.pair()
    here.write(b"x" * 1000)
    assert here.stream is not None
    here.stream.close()
    here.write(b"ignored")
    world.run(SECOND)
    assert there.got == b"x" * 1000 and there.closes == [None] and here.closes == [None]


def test_unread_bytes_wait_and_show_in_the_senders_buffer() -> None:
    world = World(window_bytes=(1000, 1000))
    here, there = world.pair()
    assert here.stream is not None and there.stream is not None
    there.stream.pause_reading()
    here.write(b"x" * 1500)
    world.run(SECOND)
    assert there.got == b"" and here.stream.write_buffer_bytes() == 500
    there.stream.resume_reading()
    world.run(SECOND)
    assert there.got == b"x" * 1500 and here.stream.write_buffer_bytes() == 0


def test_a_killed_process_says_goodbye_a_machine_without_power_does_not() -> None:
    world = World()
    here, _ = world.pair()
    world.fabric.host("b").stop(power_cut=False)
    world.run(SECOND)
    assert len(here.closes) == 1

    world = World(give_up_ms=(60_000, 60_000))
    here, _ = world.pair()
    host = world.fabric.host("b")
    host.stop(power_cut=True)
    here.write(b"anybody?")
    world.run(10 * SECOND)
    assert here.closes == []
    host.start(host.door)
    world.run(SECOND)
    assert [type(e) for e in here.closes] == [ConnectionResetError]


@pytest.mark.parametrize("listens", [True, False])
def test_a_process_that_ends_while_it_is_dialled_resets_the_stream(listens: bool) -> None:
    """The kernel has answered for a process that is gone: nobody may be left waiting on such a stream."""
    world = World(delay_min_us=(1000, 1000), delay_mean_us=(1001, 1001), tail=(0.0, 0.0))
    host = world.fabric.host("b")
    knocked = world.time.now_ns
    here = world.dial()
    # Half a round trip and a little: the dial has been answered, and the answer is on its way.
    while world.time.now_ns == knocked:
        assert world.time.run_for(SECOND, lambda: world.time.now_ns > knocked)
    accept = host.listeners[PORT]
    host.stop(power_cut=False)
    host.start(OpenDoor())
    if listens:
        world.fabric.listen("b", PORT, accept)
    world.run(SECOND)
    assert [type(error) for error in here.closes] == [ConnectionResetError]
    assert world.accepted == []


def test_a_silent_peer_is_found_by_keepalive() -> None:
    world = World()
    here, _ = world.pair()
    world.fabric.host("b").stop(power_cut=True)
    world.run(299 * SECOND)
    assert here.closes == []
    world.run(2 * SECOND)
    assert [type(e) for e in here.closes] == [TimeoutError]


def test_repair_ends_everything() -> None:
    world = World(loss=(0.3, 0.3))
    here, there = world.pair()
    world.fabric.cut("a", "b")
    world.fabric.clog("a", "b", 50 * SECOND)
    world.fabric.slow(100)
    world.fabric.refuse("b")
    here.write(b"x")
    world.run(SECOND)
    world.fabric.repair(lossless=True)
    world.run(SECOND)
    assert there.got == b"x"
    assert world.fabric.link("a", "b").loss == 0
    world.run(60 * SECOND)
    assert not world.fabric.link("a", "b").blocked


def frames_sent(options: FrameOptions, kind: int, count: int = 300) -> list[bytes]:
    """What arrives of ``count`` numbered frames on a peer lane."""
    world = World(peer_port=PORT, frames=options)
    here, there = world.pair()
    for n in range(count):
        here.write(frame(kind, b"%d" % n))
        world.run(MS)
    world.run(10 * SECOND)
    return [payload for _, payload in FrameReader().feed(there.got)]


@pytest.mark.parametrize(
    "options",
    [FrameOptions(drop=0.3), FrameOptions(duplicate=0.3), FrameOptions(delay=0.3), FrameOptions(replay=0.3)],
    ids=["drop", "duplicate", "delay", "replay"],
)
def test_consensus_frames_suffer_and_stay_whole(options: FrameOptions) -> None:
    sent = [b"%d" % n for n in range(300)]
    got = frames_sent(options, KIND_RAFT)
    assert set(got) <= set(sent)
    assert (len(got) < 300) == (options.drop > 0)
    assert (len(got) > 300) == (options.duplicate > 0 or options.replay > 0)
    assert (got != sorted(got, key=int)) == (options.drop == 0)


def test_other_frames_pass_untouched() -> None:
    got = frames_sent(FrameOptions(drop=0.2, duplicate=0.2, delay=0.2, replay=0.2), KIND_FORWARD)
    assert got == [b"%d" % n for n in range(300)]


def test_a_damaged_frame_differs_by_one_bit() -> None:
    world = World(peer_port=PORT, frames=FrameOptions(flip=0.5))
    here, there = world.pair()
    sent = [frame(KIND_FORWARD, b"%04d" % n) for n in range(100)]
    for data in sent:
        here.write(data)
    world.run(SECOND)
    size = len(sent[0])
    got = [there.got[at : at + size] for at in range(0, len(there.got), size)]
    flips = [sum((a ^ b).bit_count() for a, b in zip(x, y, strict=True)) for x, y in zip(got, sent, strict=True)]
    assert set(flips) == {0, 1} and 25 < sum(flips) < 75


def test_repair_lets_slow_bytes_arrive_soon() -> None:
    world = World(delay_min_us=(1000, 1000), delay_mean_us=(2000, 2000))
    here, there = world.pair()
    world.fabric.slow(100_000)
    for n in range(5):
        here.write(b"%d" % n)
        world.run(MS)
    assert there.got == b""
    world.fabric.repair()
    here.write(b"5")
    world.run(SECOND)
    assert there.got == b"012345"
    world.run(1000 * SECOND)
    assert there.got == b"012345"
