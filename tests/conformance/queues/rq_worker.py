"""One RQ worker on the queue ``conformance`` until it is stopped; argv: the server's URL."""

from __future__ import annotations

import sys

import redis
from rq import Queue, SimpleWorker

if __name__ == "__main__":
    connection = redis.Redis.from_url(sys.argv[1], socket_timeout=30, socket_connect_timeout=2)
    SimpleWorker([Queue("conformance", connection=connection)], connection=connection).work(logging_level="WARNING")
