"""A cache whose values are renewed before they expire, by a throw of the dice (XFetch): nobody waits for a hot one.

The nearer the deadline and the dearer the computation, the likelier a reader renews it while others read the old value.
Relies on reads being linearizable: once a reader has stored the new value no node shows the old one, so the dice stop.
After an unknown outcome the old or the new value is there, both valid: nothing needs to be done.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class EarlyCache:
    """``beta`` above 1 renews earlier. ``dice`` draws from [0, 1); ``clock`` is in seconds since 1970."""

    def __init__(
        self,
        r: redis.Redis,
        ttl_s: float,
        beta: float = 1.0,
        dice: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.r = r
        self.ttl_s = ttl_s
        self.beta = beta
        self.dice = dice
        self.clock = clock

    def get(self, key: str, compute: Callable[[], str]) -> str:
        """The cached value, or a new one when it is absent or the dice say so."""
        stored = self.r.get(key)
        if stored is not None:
            value, cost_s, deadline_s = json.loads(stored)
            early_s = -cost_s * self.beta * math.log(1.0 - self.dice())
            if self.clock() + early_s < deadline_s:
                return str(value)
        began_s = self.clock()
        value = compute()
        ended_s = self.clock()
        entry = json.dumps([value, ended_s - began_s, ended_s + self.ttl_s])
        self.r.set(key, entry, px=int(self.ttl_s * 1000))
        return str(value)


def main() -> None:
    """A reader far from the deadline, and one whom the dice tell to renew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    with redis.Redis(port=parser.parse_args().port, retry=Retry(NoBackoff(), 0)) as r:
        r.delete("top")
        versions = iter(["first", "second"])

        def rank() -> str:
            time.sleep(0.02)
            return next(versions)

        print("computed", EarlyCache(r, ttl_s=60).get("top", rank))
        print("cached", EarlyCache(r, ttl_s=60, dice=lambda: 0.0).get("top", rank))
        print("renewed", EarlyCache(r, ttl_s=60, beta=10_000.0, dice=lambda: 0.9).get("top", rank))


if __name__ == "__main__":
    main()
