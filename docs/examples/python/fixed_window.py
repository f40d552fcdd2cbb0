"""Rate limit with a fixed window: a counter that begins with the first request and goes away with its window.

Relies on MULTI being all or nothing: there is never a counter without a deadline, which would lock somebody out for
good. After an unknown outcome the request may have been counted; asking again may count it twice, never not at all.
"""

import argparse

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class FixedWindow:
    """At most ``limit`` requests of one caller in ``window_s`` seconds."""

    def __init__(self, r: redis.Redis, limit: int, window_s: int) -> None:
        self.r = r
        self.limit = limit
        self.window_s = window_s

    def allow(self, who: str) -> bool:
        """Count one request; whether it is within the limit."""
        key = f"window:{who}"
        with self.r.pipeline(transaction=True) as p:
            p.incr(key)
            p.expire(key, self.window_s, nx=True)
            count, _ = p.execute()
        return bool(count <= self.limit)


def main() -> None:
    """Five requests where three are allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    with redis.Redis(port=parser.parse_args().port, retry=Retry(NoBackoff(), 0)) as r:
        r.delete("window:ann")
        limiter = FixedWindow(r, limit=3, window_s=60)
        print("allowed", sum(limiter.allow("ann") for _ in range(5)), "of 5")


if __name__ == "__main__":
    main()
