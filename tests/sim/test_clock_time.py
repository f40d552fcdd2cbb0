"""A simulated node's clock and door: offset, rate, steps, pauses, slow calls."""

from __future__ import annotations

import pytest

from jstyle.sim.clock import RATE_ONE, NodeClock, PowerCut
from jstyle.sim.timeline import MS, SECOND, Timeline


class Rig:
    def __init__(self, rate_ppm: int = RATE_ONE, step_cost_ns: int = 0) -> None:
        self.time = Timeline()
        self.cuts = 0
        self.failures: list[BaseException] = []
        self.heard: list[str] = []
        self.clock = NodeClock(
            self.time, 5 * SECOND, 250, rate_ppm, step_cost_ns, self._cut, self.failures.append
        )  # fmt: skip

    def _cut(self) -> None:
        self.cuts += 1
        self.clock.kill()

    def say(self, what: str) -> None:
        self.heard.append(f"{what}@{(self.time.now_ns - 10**12) // MS}")

    def input_at(self, ms: int, what: str) -> None:
        self.time.at(ms * MS, lambda: self.clock.enter(lambda: self.say(what)))


def test_clocks_run_at_their_own_rate() -> None:
    rig = Rig(1_100_000)
    start_ns, start_ms = rig.clock.monotonic_ns(), rig.clock.wall_ms()
    assert start_ns == 5 * SECOND
    rig.time.run_for(10 * SECOND)
    assert rig.clock.monotonic_ns() - start_ns == 11 * SECOND
    assert rig.clock.wall_ms() - start_ms == 11_000


def test_a_changed_rate_leaves_no_jump() -> None:
    rig = Rig(900_000)
    rig.time.run_for(10 * SECOND)
    before_ns, before_ms = rig.clock.monotonic_ns(), rig.clock.wall_ms()
    rig.clock.set_rate(1_100_000)
    assert (rig.clock.monotonic_ns(), rig.clock.wall_ms()) == (before_ns, before_ms)
    rig.time.run_for(10 * SECOND)
    assert rig.clock.monotonic_ns() - before_ns == 11 * SECOND


def test_timers_follow_the_rate() -> None:
    rig = Rig(1_250_000)
    rig.clock.call_later(1000, lambda: rig.say("late"))
    rig.time.run_for(2 * SECOND)
    assert rig.heard == ["late@800"]


def test_the_wall_steps_and_the_monotonic_clock_does_not() -> None:
    rig = Rig()
    wall_ms, monotonic_ns = rig.clock.wall_ms(), rig.clock.monotonic_ns()
    rig.clock.step_wall(-3_600_000)
    assert rig.clock.wall_ms() == wall_ms - 3_600_000
    assert rig.clock.monotonic_ns() == monotonic_ns


def test_a_cancelled_timer_stays_silent_even_at_the_door() -> None:
    rig = Rig()
    timer = rig.clock.call_later(10, lambda: rig.say("no"))
    rig.clock.pause()
    rig.time.run_for(SECOND)
    timer.cancel()
    rig.clock.resume()
    rig.time.run_for(SECOND)
    assert rig.heard == []


def test_a_paused_node_hears_everything_late_and_in_order() -> None:
    rig = Rig()
    rig.clock.call_later(20, lambda: rig.say("timer"))
    rig.input_at(10, "first")
    rig.input_at(30, "third")
    rig.input_at(600, "last")
    rig.clock.pause()
    rig.time.run_for(500 * MS)
    assert rig.heard == []
    rig.clock.resume()
    rig.time.run_for(SECOND)
    assert rig.heard == ["first@500", "timer@500", "third@500", "last@600"]


def test_another_thread_stops_with_the_process_but_not_with_the_loop() -> None:
    rig = Rig()
    rig.clock.enter(lambda: rig.clock.take_time(100 * MS))
    rig.clock.aside(lambda: rig.say("beside"))
    assert rig.heard == ["beside@0"]
    rig.clock.pause()
    rig.clock.aside(lambda: rig.say("stopped"))
    rig.time.run_for(50 * MS)
    rig.clock.resume()
    rig.time.run_for(SECOND)
    assert rig.heard == ["beside@0", "stopped@50"]


def test_a_long_call_holds_up_what_comes_meanwhile() -> None:
    rig = Rig()

    def long() -> None:
        before_ns = rig.clock.monotonic_ns()
        rig.clock.take_time(100 * MS)
        assert rig.clock.monotonic_ns() - before_ns == 100 * MS
        rig.clock.call_later(50, lambda: rig.say("after"))

    rig.clock.enter(long)
    rig.input_at(30, "waits")
    rig.input_at(60, "waits too")
    rig.time.run_for(SECOND)
    assert rig.heard == ["waits@100", "waits too@100", "after@150"]


def test_call_soon_runs_after_all_input_of_the_turn() -> None:
    rig = Rig()
    rig.clock.enter(lambda: rig.clock.take_time(100 * MS))
    for name in ("one", "two"):
        rig.time.at(10 * MS, lambda name=name: rig.clock.enter(lambda: _say_and_more(rig, name)))  # type: ignore[misc]
    rig.time.run_for(SECOND)
    assert rig.heard == ["one@100", "two@100", "end one@100", "end two@100"]


def _say_and_more(rig: Rig, name: str) -> None:
    rig.say(name)
    rig.clock.call_soon(lambda: rig.say(f"end {name}"))


def test_a_slow_processor_takes_time_for_each_call() -> None:
    rig = Rig(step_cost_ns=10 * MS)
    for name in ("one", "two", "three"):
        rig.input_at(1, name)
    rig.input_at(15, "four")
    rig.time.run_for(SECOND)
    assert rig.heard == ["one@1", "two@11", "three@11", "four@31"]


def test_nothing_enters_the_dead() -> None:
    rig = Rig()
    rig.clock.call_later(10, lambda: rig.say("timer"))
    rig.clock.pause()
    rig.input_at(5, "queued")
    rig.time.run_for(7 * MS)
    rig.clock.kill()
    rig.clock.resume()
    rig.input_at(20, "input")
    rig.time.run_for(SECOND)
    assert rig.heard == []


def test_power_cuts_and_exceptions_reach_the_machine() -> None:
    rig = Rig()

    def cut() -> None:
        raise PowerCut

    def fail() -> None:
        raise KeyError("a defect")

    rig.clock.enter(fail)
    assert [type(e) for e in rig.failures] == [KeyError] and rig.cuts == 0
    rig.clock.enter(cut)
    assert rig.cuts == 1
    rig.clock.enter(lambda: rig.say("dead"))
    assert rig.heard == []


def test_the_timeline_refuses_the_past() -> None:
    with pytest.raises(AssertionError, match="in the past"):
        Timeline().at(-1, lambda: None)


def test_however_short_a_delay_time_passes() -> None:
    rig = Rig()
    rig.clock.set_rate(1_100_000)
    waits: list[int] = []

    def again() -> None:
        waits.append(rig.time.now_ns)
        if len(waits) < 5:
            rig.clock.call_later(1 / MS, again)

    rig.clock.call_later(1 / MS, again)
    rig.time.run_for(100)
    assert waits == sorted(set(waits)) and len(waits) == 5
