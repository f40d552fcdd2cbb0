"""A queue in a list: BLMOVE puts each job aside for the worker that takes it, so a worker that dies loses none.

Relies on acknowledged writes surviving, and on -UNBLOCKED (a wait cut short, as by an election) being definite.
After an unknown outcome a job may be there twice (put) or set aside already (take): ``recover`` brings it back.
Jobs therefore carry an id and may run twice.
"""

import argparse

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class ListQueue:
    """Jobs are strings, first in first out. The client must decode replies and wait longer than ``take`` does."""

    def __init__(self, r: redis.Redis, name: str) -> None:
        self.r = r
        self.waiting = f"{{{name}}}:waiting"
        self.running = f"{{{name}}}:running:"

    def put(self, job: str) -> None:
        """Add a job."""
        self.r.lpush(self.waiting, job)

    def take(self, worker: str, timeout_s: int = 1) -> str | None:
        """The next job, set aside for ``worker``; None when none came in time or the wait was cut short."""
        try:
            job = self.r.blmove(self.waiting, self.running + worker, timeout_s, "RIGHT", "LEFT")
        except redis.ResponseError as error:
            if str(error).startswith("UNBLOCKED"):
                return None
            raise
        return None if job is None else str(job)

    def done(self, worker: str, job: str) -> None:
        """Forget a job that ran; may be repeated."""
        self.r.lrem(self.running + worker, 1, job)

    def recover(self, worker: str) -> int:
        """Give back what a worker held that has ended; how many. A worker does it for itself when it starts."""
        count = 0
        while self.r.lmove(self.running + worker, self.waiting, "LEFT", "RIGHT") is not None:
            count += 1
        return count

    def pop(self, timeout_s: int = 1) -> str | None:
        """The next job at most once: plain BRPOP, for jobs that may be lost with their worker."""
        found = self.r.brpop([self.waiting], timeout_s)
        return None if found is None else str(found[1])


def main() -> None:
    """One worker dies with a job, another one runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    with redis.Redis(port=parser.parse_args().port, decode_responses=True, retry=Retry(NoBackoff(), 0)) as r:
        queue = ListQueue(r, "mail")
        queue.put("job-1")
        queue.put("job-2")
        print("first worker takes", queue.take("first"), "and dies")
        print("given back", queue.recover("first"))
        for _ in range(2):
            job = queue.take("second")
            queue.done("second", str(job))
            print("second worker ran", job)


if __name__ == "__main__":
    main()
