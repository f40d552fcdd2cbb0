"""What a proxy is told at start: where the cluster is, what it may hold, how long it tries.

Rule: plain values with their defaults; nothing is read from files or the environment here.
"""

from __future__ import annotations


class ProxySettings:
    """``seeds`` are (host, port) of nodes of the cluster, at least one. Sizes are bytes, ``_ms`` milliseconds.

    ``lanes``: shared connections per node and identity. ``retry_ms``: how long a request that was certainly not
    executed is sent again. ``answer_ms``: a node with requests out that is silent for so long loses its connection.
    ``output_high``: unread replies above which no more of a client's requests are taken; ``output_max``: above which it
    is disconnected.
    ``idle_s``: clients silent for longer are disconnected, 0 never. ``metrics_port`` -1: no metrics. ``tls_listen`` and
    ``tls_nodes`` say whether either side speaks TLS.
    """

    def __init__(self, seeds: list[tuple[str, int]]) -> None:
        self.seeds = seeds
        self.host = "127.0.0.1"
        self.port = 6379
        self.availability_zone = ""
        self.read_from_replicas = False
        self.lanes = 2
        self.clients_max = 10_000
        self.arg_max = 64 << 20
        self.query_max = 256 << 20
        self.output_high = 1 << 20
        self.output_max = 256 << 20
        self.retry_ms = 10_000
        self.answer_ms = 15_000
        self.connect_ms = 2_000
        self.refresh_ms = 10_000
        self.idle_s = 0
        self.stop_grace_ms = 10_000
        self.tls_listen = False
        self.tls_nodes = False
        self.metrics_host = "127.0.0.1"
        self.metrics_port = -1
