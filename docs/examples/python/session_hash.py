"""Sessions: one hash each, deleted when idle; a code in it has a shorter deadline of its own and is used at most once.

Relies on acknowledged writes surviving: nobody is logged out by a failover, and a code that was used stays used.
After an unknown outcome start, log-out and giving a code are repeated; a code that may be used up is replaced.
"""

import argparse
import hmac
import secrets
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class Sessions:
    """Sessions that end after ``idle_s`` seconds without a read. The client must decode replies."""

    def __init__(self, r: redis.Redis, idle_s: int) -> None:
        self.r = r
        self.idle_s = idle_s

    def start(self, session_id: str, user: str, **fields: str) -> None:
        """Begin a session; ``session_id`` must be unguessable."""
        values: dict[Any, Any] = {"user": user, **fields}
        with self.r.pipeline(transaction=True) as p:
            p.hset(f"session:{session_id}", mapping=values)
            p.expire(f"session:{session_id}", self.idle_s)
            p.execute()

    def read(self, session_id: str) -> dict[Any, Any]:
        """The fields, empty when the session is over. Costs a write only once half of the idle time has passed."""
        key = f"session:{session_id}"
        with self.r.pipeline(transaction=True) as p:
            p.hgetall(key)
            p.pttl(key)
            fields, left_ms = p.execute()
        if "user" not in fields:
            return {}
        if left_ms < self.idle_s * 500:
            self.r.expire(key, self.idle_s)
        return dict(fields)

    def give_code(self, session_id: str, code: str, valid_ms: int) -> None:
        """Put a one-time code into a session; it vanishes by itself after ``valid_ms``."""
        with self.r.pipeline(transaction=True) as p:
            p.hsetex(f"session:{session_id}", mapping={"code": code}, px=valid_ms)
            p.expire(f"session:{session_id}", self.idle_s)
            p.execute()

    def use_code(self, session_id: str, code: str) -> bool:
        """Whether this was the code; every attempt uses it up."""
        (stored,) = self.r.hgetdel(f"session:{session_id}", "code")
        return stored is not None and hmac.compare_digest(str(stored), code)

    def end(self, session_id: str) -> None:
        """Log out."""
        self.r.unlink(f"session:{session_id}")


def main() -> None:
    """One session from log-in to log-out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    with redis.Redis(port=parser.parse_args().port, decode_responses=True, retry=Retry(NoBackoff(), 0)) as r:
        sessions, session_id = Sessions(r, idle_s=1800), secrets.token_urlsafe()
        sessions.start(session_id, "ann", theme="dark")
        sessions.give_code(session_id, "123456", valid_ms=60_000)
        print("user", sessions.read(session_id)["user"])
        print("code", [sessions.use_code(session_id, "123456") for _ in range(2)].count(True), "time")
        sessions.end(session_id)
        print("after log-out", len(sessions.read(session_id)), "fields")


if __name__ == "__main__":
    main()
