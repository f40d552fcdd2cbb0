"""A queue in a stream: a consumer group shares out the jobs, and those of a dead consumer are claimed by another.

Relies on acknowledged writes surviving: pending lists, deliveries and XACK are in the log like any other write.
After an unknown outcome XADD is repeated (jobs carry an id and may run twice), what XREADGROUP delivered to nobody is
found by ``claim``, and XACK is repeated.
"""

import argparse
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

Job = tuple[str, dict[str, str]]


class StreamQueue:
    """Jobs are (entry id, fields). The client must decode replies and speak RESP2 (``protocol=2``)."""

    def __init__(self, r: redis.Redis, stream: str, group: str) -> None:
        self.r = r
        self.stream = stream
        self.group = group
        try:
            r.xgroup_create(stream, group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def add(self, **fields: str) -> str:
        """Add a job; its entry id."""
        entry: dict[Any, Any] = dict(fields)
        return str(self.r.xadd(self.stream, entry))

    def read(self, consumer: str, count: int = 10, block_ms: int = 1000) -> list[Job]:
        """New jobs for this consumer, empty when none came in time."""
        found: Any = self.r.xreadgroup(self.group, consumer, {self.stream: ">"}, count=count, block=block_ms)
        return [(str(entry_id), fields) for _, entries in found or [] for entry_id, fields in entries]

    def claim(self, consumer: str, idle_ms: int, count: int = 10) -> list[Job]:
        """Take over up to ``count`` jobs delivered to anybody at least ``idle_ms`` ago and not acknowledged since."""
        cursor, jobs = "0-0", list[Job]()
        while len(jobs) < count:
            reply = self.r.xautoclaim(self.stream, self.group, consumer, idle_ms, cursor, count - len(jobs))
            cursor = reply[0]
            jobs += [(str(entry_id), fields) for entry_id, fields in reply[1]]
            if cursor == "0-0":
                break
        return jobs

    def done(self, entry_id: str) -> bool:
        """Acknowledge and delete; False when somebody had done it before."""
        with self.r.pipeline(transaction=True) as p:
            p.xack(self.stream, self.group, entry_id)
            p.xdel(self.stream, entry_id)
            return bool(p.execute()[0])


def main() -> None:
    """One consumer dies with its jobs, another one claims them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    port = parser.parse_args().port
    with redis.Redis(port=port, decode_responses=True, protocol=2, retry=Retry(NoBackoff(), 0)) as r:
        r.delete("orders")
        queue = StreamQueue(r, "orders", "workers")
        for number in range(3):
            queue.add(order=str(number))
        print("first takes", len(queue.read("first", count=2)), "and dies")
        print("second claims", len(queue.claim("second", idle_ms=0)))
        print("second reads", len(queue.read("second")))


if __name__ == "__main__":
    main()
