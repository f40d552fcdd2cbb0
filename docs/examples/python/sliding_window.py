"""Rate limit with a sliding window: a sorted set of the requests of the last moments, judged by a script.

Relies on scripts being one log entry with the entry's time: every caller is judged by one clock, whatever node it asks.
A request carries an id, so asking again after an unknown outcome gives the same answer and counts once.
"""

import argparse
import uuid

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ALLOW = """
local key, window_ms, limit, id = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now_us - window_ms * 1000))
if redis.call('ZSCORE', key, id) then return 1 end
if redis.call('ZCARD', key) >= limit then return 0 end
redis.call('ZADD', key, string.format('%.0f', now_us), id)
redis.call('PEXPIRE', key, window_ms)
return 1
"""


class SlidingWindow:
    """At most ``limit`` requests of one caller in any ``window_ms`` milliseconds; refused ones do not count."""

    def __init__(self, r: redis.Redis, limit: int, window_ms: int) -> None:
        self.limit = limit
        self.window_ms = window_ms
        self.script = r.register_script(ALLOW)

    def allow(self, who: str, request_id: str = "") -> bool:
        """Whether this request is within the limit; give the same ``request_id`` when asking again."""
        request_id = request_id or uuid.uuid4().hex
        return bool(self.script(keys=[f"sliding:{who}"], args=[self.window_ms, self.limit, request_id]) == 1)


def main() -> None:
    """Five requests where three are allowed, and one of them asked again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    with redis.Redis(port=parser.parse_args().port, retry=Retry(NoBackoff(), 0)) as r:
        r.delete("sliding:ann")
        limiter = SlidingWindow(r, limit=3, window_ms=60_000)
        print("allowed", sum(limiter.allow("ann", f"request-{i}") for i in range(5)), "of 5")
        print("asked again:", "allowed" if limiter.allow("ann", "request-0") else "refused")


if __name__ == "__main__":
    main()
