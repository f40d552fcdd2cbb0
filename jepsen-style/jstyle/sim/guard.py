"""Inside a simulation nothing may reach for the real world: such a call raises, so that a run stays a function of its
seed.

Rule: guards module-level functions that anybody could import; what was bound earlier under another name escapes, which
the two-process digest comparison then finds.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

_FUNCTIONS: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (
        time,
        (
            "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "clock_gettime",
            "clock_gettime_ns", "process_time", "process_time_ns", "sleep",
        ),
    ),
    (os, ("urandom", "getrandom")),
    (
        random,
        (
            "random", "randrange", "randint", "getrandbits", "randbytes", "choice", "choices", "shuffle", "sample",
            "uniform", "expovariate", "gauss", "seed",
        ),
    ),
    (socket, ("socket", "create_connection", "getaddrinfo")),
    (threading.Thread, ("start",)),
)  # fmt: skip


class RealWorldTouched(AssertionError):
    """Simulated code called something that depends on more than the seed."""


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise RealWorldTouched(f"{name} called inside a simulation; take it from the node's World")

    return refuse


@contextmanager
def no_real_world() -> Iterator[None]:
    """While open, real clocks, dice, sockets and threads raise RealWorldTouched. Nests."""
    saved: list[tuple[Any, str, object]] = []
    try:
        for owner, names in _FUNCTIONS:
            for name in names:
                if hasattr(owner, name):
                    saved.append((owner, name, getattr(owner, name)))
                    setattr(owner, name, _refusal(f"{owner.__name__}.{name}"))
        yield
    finally:
        for owner, name, value in reversed(saved):
            setattr(owner, name, value)
