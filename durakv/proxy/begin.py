"""From a plan to what happens, for everything that is not simply sent to one node.

Rule: the only place that says which task does which command. What has a task waits until the client has nothing out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.proxy import local, transaction
from durakv.proxy.blocking import Blocking
from durakv.proxy.broadcast import Broadcast, RandomKey, Scan
from durakv.proxy.identity import Login, Reset, Select
from durakv.proxy.info import Info
from durakv.proxy.plans import BLOCKING, EVERY, HERE, REFUSED, Plan
from durakv.proxy.slot_commands import OfSlot
from durakv.proxy.subscriptions import Ping, Subscribe
from durakv.proxy.task import Task
from durakv.proxy.tracking import Track
from durakv.proxy.waiting import Wait
from durakv.resp.encoder import error_line

if TYPE_CHECKING:
    from durakv.proxy.client import Client

# None: no task of its own, see begin().
_TASKS: Final[dict[str, type[Task]]] = {
    "hello": Login, "auth": Login, "select": Select, "reset": Reset,
    "exec": transaction.Exec, "watch": transaction.WatchKeys, "unwatch": transaction.Unwatch,
    "discard": transaction.Discard,
    "subscribe": Subscribe, "unsubscribe": Subscribe, "psubscribe": Subscribe, "punsubscribe": Subscribe,
    "ssubscribe": Subscribe, "sunsubscribe": Subscribe, "ping": Ping,
    "wait": Wait, "waitaof": Wait, "scan": Scan, "randomkey": RandomKey, "info": Info, "client|tracking": Track,
    "cluster|countkeysinslot": OfSlot, "cluster|getkeysinslot": OfSlot,
}  # fmt: skip


def begin(client: Client, plan: Plan, argv: list[bytes]) -> bool:
    """Begin a request that no single node answers; False when it must wait for what is out."""
    code = plan.code
    if code == REFUSED:
        client.answer(error_line(plan.refusal))
        return True
    if code == HERE:
        local.answer(client, plan, argv)
        return True
    if plan.name == "multi":
        transaction.multi(client)
        return True
    if client.window:
        return False
    kind: type[Task]
    if plan.name in _TASKS:
        kind = _TASKS[plan.name]
    elif code == EVERY:
        kind = Broadcast
    else:
        kind = Blocking
    muted = client.muted or client.skip
    client.skip = False
    task = kind(client, plan, argv, muted)
    client.task = task
    client.window.append(task)
    task.start()
    return True


def queue_in(client: Client, plan: Plan, argv: list[bytes]) -> None:
    """Take a request into the client's transaction."""
    transaction.queue(client, plan, argv)


def has_task(plan: Plan) -> bool:
    """Whether begin() knows what to do with it; for a test over all plans."""
    return plan.name in _TASKS or plan.name == "multi" or plan.code in (REFUSED, HERE, EVERY, BLOCKING)
