"""Redlock: a lock held by a majority of independent groups, for when whole groups may be lost or out of reach.

One durakv group needs none of this against the loss of nodes; the groups here are sites that fail as a whole.
Relies on no group forgetting an acknowledged SET, not even when all its nodes restart: a vote is never given twice.
A group whose outcome is unknown casts no vote; its key is released all the same, or goes away by its deadline.
"""

import argparse
import time
import uuid
from collections.abc import Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end"
CLOCK_DRIFT = 0.01


class Redlock:
    """One attempt to hold ``name``; clients need socket timeouts far below ``ttl_ms``, and no retries."""

    def __init__(self, groups: Sequence[redis.Redis], name: str, ttl_ms: int) -> None:
        self.groups = groups
        self.key = f"redlock:{name}"
        self.ttl_ms = ttl_ms
        self.token = uuid.uuid4().hex

    def acquire(self) -> int:
        """Milliseconds for which the lock is surely held; 0 when it is not, and then nothing is kept."""
        began_s = time.monotonic()
        votes = sum(self._ask(group) for group in self.groups)
        elapsed_ms = (time.monotonic() - began_s) * 1000
        valid_ms = int(self.ttl_ms - elapsed_ms - self.ttl_ms * CLOCK_DRIFT - 2)
        if votes > len(self.groups) // 2 and valid_ms > 0:
            return valid_ms
        self.release()
        return 0

    def release(self) -> int:
        """Release in every group, also where no vote came back; in how many it was held."""
        return sum(self._give_back(group) for group in self.groups)

    def _ask(self, group: redis.Redis) -> bool:
        try:
            return group.set(self.key, self.token, nx=True, px=self.ttl_ms) is True
        except redis.RedisError:
            return False  # whether it is down or the outcome is unknown: no vote

    def _give_back(self, group: redis.Redis) -> bool:
        try:
            return bool(group.eval(RELEASE, 1, self.key, self.token) == 1)
        except redis.RedisError:
            return False  # the deadline will do it


def main() -> None:
    """Two who want the same lock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, action="append", required=True, help="once for each group")
    groups = [
        redis.Redis(port=port, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0))
        for port in parser.parse_args().port
    ]
    first, second = Redlock(groups, "invoice", 10_000), Redlock(groups, "invoice", 10_000)
    print("first holds:", first.acquire() > 0)
    print("second waits:", second.acquire() == 0)
    print("released in", first.release(), "groups")
    print("second holds:", second.acquire() > 0)
    second.release()
    for group in groups:
        group.close()


if __name__ == "__main__":
    main()
