"""A cache that computes each missing value once: whoever gets the mutex computes, everybody else waits for the value.

Relies on reads being linearizable: whoever finds the mutex gone also finds the value that was stored before, on every
node. After an unknown outcome (a mutex perhaps taken, a value perhaps stored) the next ``get`` waits for the deadline.
"""

import argparse
import time
import uuid
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end"
POLL_S = 0.02


class Cache:
    """Values are strings. ``mutex_ms`` is longer than computing takes. The client must decode replies."""

    def __init__(self, r: redis.Redis, ttl_s: int, mutex_ms: int) -> None:
        self.r = r
        self.ttl_s = ttl_s
        self.mutex_ms = mutex_ms

    def get(self, key: str, compute: Callable[[], str]) -> str:
        """The cached value, computed by at most one caller at a time."""
        mutex, token = f"mutex:{{{key}}}", uuid.uuid4().hex
        while True:
            value = self.r.get(key)
            if value is not None:
                return str(value)
            if self.r.set(mutex, token, nx=True, px=self.mutex_ms):
                break
            time.sleep(POLL_S)
        try:
            # Somebody may have stored it between our GET and our SET.
            value = self.r.get(key)
            if value is None:
                value = compute()
                self.r.set(key, value, ex=self.ttl_s)
            return str(value)
        finally:
            self.r.eval(RELEASE, 1, mutex, token)


def main() -> None:
    """Three reads, one computation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    with redis.Redis(port=parser.parse_args().port, decode_responses=True, retry=Retry(NoBackoff(), 0)) as r:
        r.delete("page")
        calls: list[int] = []

        def render() -> str:
            calls.append(1)
            return "<html>"

        cache = Cache(r, ttl_s=60, mutex_ms=5000)
        print("values", {cache.get("page", render) for _ in range(3)} == {"<html>"})
        print("computed", len(calls), "time")


if __name__ == "__main__":
    main()
