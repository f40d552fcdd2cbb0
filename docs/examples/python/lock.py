"""A lock: SET NX PX with a token, a fence number beside it, and a script that releases only what one holds.

Relies on no acknowledged write being lost (a failover never gives the lock to a second holder) and on reads being
linearizable. After an unknown outcome ``acquire`` reads whose token is there; release is safe to repeat.
A holder can outlive its deadline without noticing: what the lock protects must refuse lower fence numbers.
"""

import argparse
import time
import uuid

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end"


def outcome_unknown(error: redis.RedisError) -> bool:
    """Whether the command may have happened; every other error says that it has not."""
    return isinstance(error, redis.ConnectionError | redis.TimeoutError) or str(error).startswith("UNKNOWN")


class Lock:
    """One attempt to hold ``name`` for ``ttl_ms``; make a new one for each. The client must decode replies."""

    def __init__(self, r: redis.Redis, name: str, ttl_ms: int) -> None:
        self.r = r
        self.key = f"lock:{{{name}}}"
        self.fence_key = f"fence:{{{name}}}"
        self.ttl_ms = ttl_ms
        self.token = uuid.uuid4().hex
        self.script = r.register_script(RELEASE)

    def acquire(self) -> int:
        """The fence number, higher than that of every holder before; 0 when somebody else holds the lock."""
        try:
            with self.r.pipeline(transaction=True) as p:
                p.incr(self.fence_key)
                p.set(self.key, self.token, nx=True, px=self.ttl_ms)
                fence, held = p.execute()
                return int(fence) if held else 0
        except redis.RedisError as error:
            if not outcome_unknown(error):
                raise
        return self._ask()

    def _ask(self) -> int:
        # A read may be repeated until the cluster answers again, and nobody else gets the lock within its deadline.
        deadline_s = time.monotonic() + self.ttl_ms / 1000
        while True:
            try:
                held_by, fence = self.r.mget(self.key, self.fence_key)
                return int(str(fence)) if held_by == self.token else 0
            except redis.RedisError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)

    def release(self) -> bool:
        """Whether it was still held; a lock that has passed on to somebody else is left alone."""
        return bool(self.script(keys=[self.key], args=[self.token]) == 1)


def main() -> None:
    """Two holders one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    with redis.Redis(port=parser.parse_args().port, decode_responses=True, retry=Retry(NoBackoff(), 0)) as r:
        r.delete("lock:{report}", "fence:{report}")
        first, second = Lock(r, "report", ttl_ms=10_000), Lock(r, "report", ttl_ms=10_000)
        print("first holds fence", first.acquire())
        print("second waits:", second.acquire() == 0)
        print("second cannot release:", not second.release())
        print("first releases:", first.release())
        print("second holds fence", second.acquire())


if __name__ == "__main__":
    main()
