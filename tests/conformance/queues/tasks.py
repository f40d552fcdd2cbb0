"""What the workers of test_queues.py run. Each job appends its number to a file: the record no server can lose."""

from __future__ import annotations

import os

from celery import Celery  # type: ignore[import-untyped]

_RECORD = "QUEUE_RECORD"
_URL = "QUEUE_URL"


def record(number: int) -> None:
    """One line, one write: appends of this size are whole even from several processes."""
    fd = os.open(os.environ[_RECORD], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, b"%d\n" % number)
    finally:
        os.close(fd)


app = Celery("conformance", broker=os.environ.get(_URL), backend=None)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # What a worker took and did not acknowledge comes back after two seconds, not after an hour.
    broker_transport_options={"visibility_timeout": 2, "unacked_restore_limit": None},
)
celery_task = app.task(name="record")(record)
