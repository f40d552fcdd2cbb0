"""Every workload by name.

Rule: the only place that names them all; each client of a run gets an instance of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jstyle.sim.workloads.action import Workload
from jstyle.sim.workloads.append import Appends
from jstyle.sim.workloads.collections import Logs, Queues, Sets, Waiters
from jstyle.sim.workloads.expiry import Expiries
from jstyle.sim.workloads.lock import Locks
from jstyle.sim.workloads.register import Registers, UniqueRegisters
from jstyle.sim.workloads.sums import Bank, Counters

WORKLOADS: Final[dict[str, Callable[[], Workload]]] = {
    "append": Appends,
    "bank": Bank,
    "blocking": Waiters,
    "counter": Counters,
    "expiry": Expiries,
    "lock": Locks,
    "order": Logs,
    "queue": Queues,
    "register": Registers,
    "set": Sets,
    "unique-register": UniqueRegisters,
}
