"""The measuring instruments of one node besides Stats, set up from its settings and kept in step with them.

Rule: built once per node; the only place that ties a directive to an instrument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from durakv.observe.latency import LatencyMonitor
from durakv.observe.monitor import Monitors
from durakv.observe.process import ProcessProbe
from durakv.observe.slowlog import SlowLog

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.config.settings import Settings


class Instruments:
    """``slowlog``, ``large_requests``, ``large_replies``, ``latency``, ``monitors`` and the ``process`` probe.

    ``wake`` asks for a flush of a session.
    """

    def __init__(self, settings: Settings, process: ProcessProbe, wake: Callable[[Session], None]) -> None:
        self.settings = settings
        self.process = process
        self.slowlog = SlowLog()
        self.large_requests = SlowLog()
        self.large_replies = SlowLog()
        self.latency = LatencyMonitor()
        self.monitors = Monitors(wake)
        for name in (
            "slowlog-log-slower-than", "slowlog-max-len", "latency-monitor-threshold", "commandlog-request-larger-than",
            "commandlog-large-request-max-len", "commandlog-reply-larger-than", "commandlog-large-reply-max-len",
        ):  # fmt: skip
            settings.watch(name, self._follow)
        self._follow("")

    def _follow(self, name: str) -> None:
        self.slowlog.threshold_us = self.settings.slowlog_log_slower_than
        self.slowlog.length_max = self.settings.slowlog_max_len
        self.slowlog.trim()
        self.large_requests.threshold_us = self.settings.commandlog_request_larger_than
        self.large_requests.length_max = self.settings.commandlog_large_request_max_len
        self.large_requests.trim()
        self.large_replies.threshold_us = self.settings.commandlog_reply_larger_than
        self.large_replies.length_max = self.settings.commandlog_large_reply_max_len
        self.large_replies.trim()
        self.latency.threshold_ms = self.settings.latency_monitor_threshold
