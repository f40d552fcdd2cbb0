"""The values in force on this node: one typed attribute per directive, changed only through ``set_many``.

Directives of foreign.py, which nothing reads, are attributes without a type.

Rule: attributes are read anywhere and written only here. What a value may be is the directive's business; what follows
from a change is the business of whoever watches the name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Protocol

from durakv.config.declare import Directive
from durakv.config.directives import BY_NAME, DIRECTIVES
from durakv.config.values import OutputLimits, Value

Watcher = Callable[[str], None]


class ConfigFile(Protocol):
    """Where the configuration file lives."""

    def read(self, path: str) -> str:
        """Its text. Raises OSError."""

    def replace(self, path: str, text: str) -> None:
        """Put ``text`` in its place, durably and all or nothing. Raises OSError."""


class ConfigError(Exception):
    """A directive is unknown or its value is refused. ``name`` is the directive, ``reason`` what is wrong.

    ``str()`` is one line that also says where (for files and flags) and what to do.
    """

    def __init__(self, name: str, reason: str, *, where: str = "", known: bool = True) -> None:
        super().__init__(f"{where}: {name}: {reason}" if where else f"{name}: {reason}")
        self.name = name
        self.reason = reason
        self.known = known


def find_directive(name: str) -> Directive:
    """The directive called ``name`` (any case, aliases too). Raises ConfigError with the nearest names."""
    directive = BY_NAME.get(name.lower())
    if directive is None:
        near = get_close_matches(name.lower(), list(BY_NAME), n=2)
        hint = "did you mean " + " or ".join(near) + "?" if near else "see `durakv --help-config` for all directives"
        raise ConfigError(name, f"unknown directive; {hint}", known=False)
    return directive


class Settings:
    """See the module's text. ``given`` are the names set by a file, a flag or CONFIG SET."""

    port: int
    peer_port: int
    bind: tuple[str, ...]
    tcp_backlog: int
    tcp_keepalive: int
    timeout: int
    maxclients: int
    protected_mode: bool
    unixsocket: str
    unixsocketperm: int
    tls_port: int
    tls_replication: bool
    tls_cluster: bool
    client_output_buffer_limit: tuple[str, ...]
    client_query_buffer_limit: int
    proto_max_bulk_len: int
    max_new_connections_per_cycle: int
    dir: str
    daemonize: bool
    supervised: str
    pidfile: str
    logfile: str
    loglevel: str
    log_format: str
    databases: int
    hz: int
    dynamic_hz: bool
    activerehashing: bool
    active_expire_effort: int
    io_threads: int
    always_show_logo: bool
    set_proc_title: bool
    proc_title_template: str
    crash_log_enabled: bool
    syslog_enabled: bool
    shutdown_timeout: int
    shutdown_on_sigint: tuple[str, ...]
    shutdown_on_sigterm: tuple[str, ...]
    busy_reply_threshold: int
    script_max_instructions: int
    script_max_memory: int
    scripts_atomic: bool
    availability_zone: str
    extended_redis_compatibility: bool
    ignore_warnings: str
    locale_collate: str
    hide_user_data_from_log: bool
    enable_debug_command: str
    enable_protected_configs: str
    enable_module_command: str
    requirepass: str
    aclfile: str
    acllog_max_len: int
    acl_pubsub_default: str
    masterauth: str
    masteruser: str
    maxmemory: int
    maxmemory_policy: str
    maxmemory_samples: int
    maxmemory_eviction_tenacity: int
    maxmemory_clients: int
    lfu_log_factor: int
    lfu_decay_time: int
    activedefrag: bool
    lazyfree_lazy_eviction: bool
    lazyfree_lazy_expire: bool
    lazyfree_lazy_server_del: bool
    lazyfree_lazy_user_del: bool
    lazyfree_lazy_user_flush: bool
    list_max_listpack_size: int
    list_compress_depth: int
    hash_max_listpack_entries: int
    hash_max_listpack_value: int
    set_max_intset_entries: int
    set_max_listpack_entries: int
    set_max_listpack_value: int
    zset_max_listpack_entries: int
    zset_max_listpack_value: int
    hll_sparse_max_bytes: int
    stream_node_max_bytes: int
    stream_node_max_entries: int
    notify_keyspace_events: str
    slowlog_log_slower_than: int
    slowlog_max_len: int
    commandlog_request_larger_than: int
    commandlog_large_request_max_len: int
    commandlog_reply_larger_than: int
    commandlog_large_reply_max_len: int
    latency_monitor_threshold: int
    latency_tracking: bool
    latency_tracking_info_percentiles: tuple[str, ...]
    tracking_table_max_keys: int
    appendfsync: str
    appendonly: bool
    save: str
    dbfilename: str
    durability_default: str
    durability_min: str
    durability_timeout: int
    log_sync: str
    segment_size: int
    checkpoints: bool
    checkpoint_interval: int
    checkpoint_bytes: int
    archive_dir: str
    log_max: int
    log_follower_keep: int
    min_free: int
    reserve_size: int
    node_id: int
    cluster_id: str
    group_id: int
    cluster_seeds: tuple[str, ...]
    join: bool
    replication_mode: str
    lease_duration_ms: int
    lease_grace_ms: int
    lease_clock_bound: int
    min_isr: int
    holder_members: tuple[str, ...]
    holder_etcd: tuple[str, ...]
    holder_etcd_prefix: str
    holder_etcd_user: str
    holder_etcd_password: str
    holder_etcd_tls: bool
    holder_etcd_ca_file: str
    holder_etcd_cert_file: str
    holder_etcd_key_file: str
    reads: str
    tick_ms: int
    heartbeat_interval_ms: int
    election_timeout_ms: int
    clock_drift_bound: int
    max_uncommitted_bytes: int
    max_apply_lag_bytes: int
    replica_serve_stale_reads: bool
    replica_priority: int
    replica_read_only: bool
    min_data_copies: int
    min_replicas_to_write: int
    min_replicas_max_lag: int
    repl_timeout: int
    repl_diskless_sync: bool
    repl_diskless_sync_delay: int
    repl_backlog_size: int
    repl_backlog_ttl: int
    repl_ping_replica_period: int
    replicaof: str
    cluster_enabled: bool
    handoff_park_limit_ms: int
    handoff_max_pause_ms: int
    handoff_throttle_after_ms: int
    cluster_announce_ip: str
    cluster_announce_hostname: str
    cluster_announce_human_nodename: str
    cluster_announce_port: int
    cluster_announce_tls_port: int
    cluster_announce_bus_port: int
    cluster_preferred_endpoint_type: str
    cluster_node_timeout: int
    cluster_require_full_coverage: bool
    cluster_allow_reads_when_down: bool
    cluster_allow_pubsubshard_when_down: bool
    cluster_allow_replica_migration: bool
    cluster_migration_barrier: int
    cluster_replica_no_failover: bool
    cluster_replica_validity_factor: int
    cluster_slot_stats_enabled: bool
    cluster_databases: int
    rebalance: str
    rebalance_threshold: int
    rebalance_skew: int
    rebalance_window: int
    rebalance_bandwidth: int
    rebalance_network_capacity: int
    rebalance_draining: bool
    cluster_config_file: str
    cluster_port: int

    def __init__(self) -> None:
        self.given: dict[str, None] = {}
        # Absolute path of the file the node was started with; empty when there was none.
        self.config_file = ""
        # How CONFIG REWRITE reaches that file; None where there is no file system.
        self.files: ConfigFile | None = None
        # (command, new name or "") of ``rename-command`` lines.
        self.renames: list[tuple[str, str]] = []
        # ``user <name> <rule>...`` lines of the configuration, in order.
        self.user_lines: list[str] = []
        self._watchers: dict[str, list[Watcher]] = {}
        for directive in DIRECTIVES:
            setattr(self, directive.attribute, directive.default)

    # -- reading ---------------------------------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """The checked value of a directive by its name."""
        value: Value = getattr(self, BY_NAME[name].attribute)
        return value

    def text(self, name: str) -> str:
        """The value as CONFIG GET shows it."""
        return BY_NAME[name].kind.show(self.value(name))

    def get(self, pattern: str) -> list[tuple[str, str]]:
        """(name, text) of every directive and alias whose name matches the glob ``pattern``, in any case."""
        pattern = pattern.lower()
        if pattern in BY_NAME:
            return [(pattern, self.text(pattern))]
        if not any(letter in pattern for letter in "*?["):
            return []
        return [(name, self.text(name)) for name in BY_NAME if fnmatchcase(name, pattern.replace("[^", "[!"))]

    def output_limit(self, client_class: str) -> tuple[int, int, int]:
        """(hard bytes, soft bytes, soft seconds) of ``normal``, ``slave`` or ``pubsub`` clients; 0 is no limit."""
        words = self.client_output_buffer_limit
        at = words.index(client_class)
        return int(words[at + 1]), int(words[at + 2]), int(words[at + 3])

    def database_count(self) -> int:
        """Databases that clients may select."""
        return self.cluster_databases if self.cluster_enabled else self.databases

    def effective_peer_port(self) -> int:
        """``peer-port``, or the client port + 10000."""
        return self.peer_port or self.port + 10_000

    # -- changing --------------------------------------------------------------------------------------------------

    def watch(self, name: str, watcher: Watcher) -> None:
        """Call ``watcher(name)`` after each change of the directive. It may raise ValueError to refuse the change.

        One that refuses must have changed nothing; the others are called again when the old value is back.
        """
        self._watchers.setdefault(name, []).append(watcher)

    def load(self, name: str, text: str, where: str = "") -> None:
        """Set one directive at start-up, immutable ones too. Raises ConfigError."""
        directive = _find(name, where)
        setattr(self, directive.attribute, self._parsed(directive, text, where))
        self.given[directive.name] = None

    def set(self, name: str, text: str) -> None:
        """Change one directive at run time. Raises ConfigError and changes nothing when it is refused."""
        self.set_many([(name, text)])

    def set_many(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Change all or none. Raises ConfigError; unknown names are told apart by ``known``."""
        parsed: dict[str, Value] = {}
        for name, text in pairs:
            directive = find_directive(name)
            if not directive.mutable:
                raise ConfigError(name, "can't set immutable config")
            if directive.name in parsed:
                raise ConfigError(name, "duplicate parameter")
            parsed[directive.name] = self._parsed(directive, text, "")
        old = {name: self.value(name) for name in parsed}
        self._assign(parsed)
        # Who took the change and must hear of its end; not who refused it, for it may refuse the old value too.
        told: list[tuple[Watcher, str]] = []
        for name in parsed:
            try:
                for watcher in self._watchers.get(name, ()):
                    watcher(name)
                    told.append((watcher, name))
            except ValueError as e:
                self._assign(old)
                for back, of in told:
                    back(of)
                raise ConfigError(name, str(e)) from None
        self.given.update(dict.fromkeys(parsed))

    def check(self) -> None:
        """Judge the values together, once all are loaded. Raises ConfigError."""
        if self.election_timeout_ms < 2 * self.heartbeat_interval_ms:
            raise ConfigError(
                "election-timeout-ms",
                f"{self.election_timeout_ms} is less than twice heartbeat-interval-ms {self.heartbeat_interval_ms}, so "
                "one lost heartbeat would start an election; raise it",
            )
        if self.heartbeat_interval_ms < self.tick_ms:
            raise ConfigError(
                "heartbeat-interval-ms",
                f"{self.heartbeat_interval_ms} is less than tick-ms {self.tick_ms}; raise it or lower tick-ms",
            )
        if self.port and self.effective_peer_port() > 65535:
            raise ConfigError("peer-port", f"port {self.port} + 10000 is above 65535; set peer-port")
        if self.port and self.effective_peer_port() == self.port:
            raise ConfigError("peer-port", f"is the same as port {self.port}; choose another")
        if self.cluster_id and (len(self.cluster_id) != 32 or set(self.cluster_id) - set("0123456789abcdef")):
            raise ConfigError("cluster-id", "must be 32 lower-case hex digits, as CLUSTER INFO shows it")
        if self.group_id and not self.cluster_enabled:
            raise ValueError("group-id: several groups need cluster-enabled yes")
        for seed in self.cluster_seeds:
            if not seed.rpartition(":")[0] or not seed.rpartition(":")[2].isdigit():
                raise ValueError(f"cluster-seeds: '{seed}' is not host:peer-port")
        if self.join and not (self.cluster_id and self.node_id):
            raise ConfigError("join", "needs cluster-id and node-id: those given to CLUSTER ADDNODE")

    def _assign(self, values: dict[str, Value]) -> None:
        for name, value in values.items():
            setattr(self, BY_NAME[name].attribute, value)

    def _parsed(self, directive: Directive, text: str, where: str) -> Value:
        try:
            value = directive.kind.parse(text)
        except ValueError as e:
            raise ConfigError(directive.name, str(e), where=where) from None
        kind = directive.kind
        if isinstance(kind, OutputLimits):
            assert isinstance(value, tuple)
            value = kind.merge(self.client_output_buffer_limit, value)
        return value


def _find(name: str, where: str) -> Directive:
    try:
        return find_directive(name)
    except ConfigError as e:
        raise ConfigError(e.name, e.reason, where=where, known=False) from None
