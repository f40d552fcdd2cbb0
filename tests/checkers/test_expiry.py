import pytest

from jstyle.checkers import expiry
from jstyle.history.op import HistoryError
from tests.checkers.collection_histories import Recorder, names, ops_of


class Store:
    """Keys with deadlines under a clock that is ``off_ms()`` off."""

    def __init__(self, off_ms):
        self.off_ms = off_ms
        self.held = {}
        self.latest_ms = -(10**9)

    def clock(self, now_ms):
        # Like the log's time: it stands still rather than go back.
        self.latest_ms = max(self.latest_ms, now_ms + self.off_ms())
        return self.latest_ms

    def live(self, key, now_ms):
        at = self.clock(now_ms)
        if key in self.held and self.held[key][1] is not None and self.held[key][1] <= at:
            del self.held[key]
        return self.held.get(key)

    def set(self, key, value, px):
        def apply(now_ms):
            self.held[key] = [value, None if px is None else self.clock(now_ms) + px]
            return "ok", {"value": value, "px": px}, None

        return "set", key, {"value": value, "px": px}, apply

    def read(self, key):
        def apply(now_ms):
            found = self.live(key, now_ms)
            return "ok", found and found[0], None

        return "read", key, None, apply

    def ttl(self, key):
        def apply(now_ms):
            found = self.live(key, now_ms)
            if found is None:
                return "ok", -2, None
            return "ok", -1 if found[1] is None else found[1] - self.latest_ms, None

        return "ttl", key, None, apply

    def persist(self, key):
        def apply(now_ms):
            found = self.live(key, now_ms)
            took = found is not None and found[1] is not None
            if took:
                found[1] = None
            return "ok", took, None

        return "persist", key, None, apply


def recorded(seed, *, again=False):
    clocks = [0, 0]
    store = Store(lambda: clocks[0])

    def draw(dice, n):
        if dice.random() < 0.2:
            clocks[0] = dice.randint(-10, 10)
        key = f"e{n // 8}" if not again else f"e{n // 40}"
        kind = dice.random()
        if n % 8 == 0 or (again and kind < 0.2):
            return store.set(key, n + 1, dice.choice((15, 40, 120, None)))
        if kind < 0.7:
            return store.read(key)
        return store.ttl(key) if kind < 0.9 else store.persist(key)

    return Recorder(seed).run(120, draw)


@pytest.mark.parametrize("seed", range(80))
def test_keys_that_behave_are_true_within_the_bound_of_their_clocks(seed):
    for again in (False, True):
        verdict = expiry.check(recorded(seed, again=again).ops, {"bound_ms": 21})
        assert (verdict.valid, verdict.anomalies) == ("true", [])


@pytest.mark.parametrize("seed", range(20))
def test_without_a_bound_it_is_unknown_and_says_what_to_do(seed):
    verdict = expiry.check(recorded(seed).ops, {})
    assert verdict.valid == "unknown" and "bound_ms" in verdict.why


def test_clocks_worse_than_the_bound_are_found():
    seen = set()
    for seed in range(80):
        seen.update(names(expiry.check(recorded(seed).ops, {"bound_ms": -5})))
    assert {"readable-after-deadline", "gone-before-deadline"} <= seen


def test_what_it_cannot_read_is_an_error():
    with pytest.raises(HistoryError, match="operation 0: the value of set must be a map"):
        expiry.check(ops_of((0, "invoke", "set", 5)), {})
    with pytest.raises(HistoryError, match="operation 1: ttl must answer milliseconds"):
        expiry.check(ops_of((0, "invoke", "ttl", None), (0, "ok", "ttl", -3)), {})
    with pytest.raises(HistoryError, match="operation 1: persist must be answered by true or false"):
        expiry.check(ops_of((0, "invoke", "persist", None), (0, "ok", "persist", 1)), {})
