"""Averages of what each slot used over the last minute and the last ten, from counters read now and then.

Rule: time comes with each reading and may be uneven; a slot may be read at any moment, so that a node can spread the
reading of its slots over many turns of its loop. Knows neither groups nor what the averages are for.
"""

from __future__ import annotations

import math
from typing import Final

from durakv.cluster.rebalance.load import Load, SlotLoad

MINUTE: Final = 0
TEN_MINUTES: Final = 1
WINDOWS_MS: Final = (60_000.0, 600_000.0)


class SlotRates:
    """Exponentially weighted averages of one slot's rates, by window.

    ``weight`` is how much of a window has been seen: dividing by it makes the average of a young slot the plain average
    of its short life instead of a climb from zero.
    """

    __slots__ = ("bytes", "bytes_seen", "cpu_us", "cpu_us_seen", "keys", "memory_bytes", "read_ms", "weight",
                 "windows_ms", "writes", "written_seen")  # fmt: skip

    def __init__(
        self, now_ms: int, cpu_us: int, bytes_: int, written_bytes: int, windows_ms: tuple[float, float] = WINDOWS_MS
    ) -> None:
        self.windows_ms = windows_ms
        self.read_ms = now_ms
        self.cpu_us_seen = cpu_us
        self.bytes_seen = bytes_
        self.written_seen = written_bytes
        self.cpu_us = [0.0, 0.0]
        self.bytes = [0.0, 0.0]
        self.writes = [0.0, 0.0]
        self.weight = [0.0, 0.0]
        self.keys = 0
        self.memory_bytes = 0

    def read(self, now_ms: int, cpu_us: int, bytes_: int, written_bytes: int) -> None:
        """Counters as they stand at ``now_ms``. Ones below what was seen were started again, from nothing."""
        past_ms = now_ms - self.read_ms
        if past_ms <= 0:
            return
        per_s = 1000.0 / past_ms
        cpu_rate = _since(cpu_us, self.cpu_us_seen) * per_s
        bytes_rate = _since(bytes_, self.bytes_seen) * per_s
        write_rate = _since(written_bytes, self.written_seen) * per_s
        for window in (MINUTE, TEN_MINUTES):
            gain = -math.expm1(-past_ms / self.windows_ms[window])
            self.cpu_us[window] += gain * (cpu_rate - self.cpu_us[window])
            self.bytes[window] += gain * (bytes_rate - self.bytes[window])
            self.writes[window] += gain * (write_rate - self.writes[window])
            self.weight[window] += gain * (1.0 - self.weight[window])
        self.read_ms = now_ms
        self.cpu_us_seen = cpu_us
        self.bytes_seen = bytes_
        self.written_seen = written_bytes

    def load(self, slot: int, window: int) -> SlotLoad:
        """Rates over the window; memory and keys as last read."""
        weight = self.weight[window] or 1.0
        used = Load(self.cpu_us[window] / weight, self.bytes[window] / weight, float(self.memory_bytes))
        return SlotLoad(slot, used, self.keys, self.writes[window] / weight)


def _since(now: int, before: int) -> int:
    return now - before if now >= before else now


class SlotRateTable:
    """The slots a group serves. A node keeps one while it leads; a new leader starts a new one.

    ``windows_ms``: what MINUTE and TEN_MINUTES stand for.
    """

    def __init__(self, windows_ms: tuple[float, float] = WINDOWS_MS) -> None:
        self.windows_ms = windows_ms
        self.rates: dict[int, SlotRates] = {}

    def read(self, slot: int, now_ms: int, cpu_us: int, bytes_: int, written_bytes: int, memory_bytes: int,
             keys: int) -> None:  # fmt: skip
        """One slot's counters: CPU, traffic both ways, bytes written by commands; memory and keys as they are.

        The first reading only says where the counters stand.
        """
        rates = self.rates.get(slot)
        if rates is None:
            rates = self.rates[slot] = SlotRates(now_ms, cpu_us, bytes_, written_bytes, self.windows_ms)
        else:
            rates.read(now_ms, cpu_us, bytes_, written_bytes)
        rates.memory_bytes = memory_bytes
        rates.keys = keys

    def forget(self, slot: int) -> None:
        """The slot left, or came anew."""
        self.rates.pop(slot, None)

    def loads(self, window: int) -> list[SlotLoad]:
        """All slots, ascending."""
        return [self.rates[slot].load(slot, window) for slot in sorted(self.rates)]

    def used(self, window: int) -> Load:
        """All slots together; much cheaper than adding up loads()."""
        cpu = traffic = memory = 0.0
        for rates in self.rates.values():
            weight = rates.weight[window] or 1.0
            cpu += rates.cpu_us[window] / weight
            traffic += rates.bytes[window] / weight
            memory += rates.memory_bytes
        return Load(cpu, traffic, memory)

    def seen(self, window: int) -> float:
        """How much of the window was seen of the oldest slot, 0 to 1: what a trigger should wait for."""
        return max((rates.weight[window] for rates in self.rates.values()), default=0.0)
