"""Directives of Valkey for which there is nothing to act on here, so that a file written for it can be read.

Rule: no code of durakv reads their values. What does no harm when it is ignored is accepted, kept and shown; where
somebody would rely on it, only the value that asks for nothing is, and any other is refused with what to do instead.
"""

from __future__ import annotations

from typing import Final

from durakv.config.declare import INT_MAX, LONG_MAX, fixed, live, num, size
from durakv.config.values import Choice, Integer, Integers, Only, Text, YesNo

_BOOL: Final = YesNo()
_TEXT: Final = Text()
_PORT: Final = Integer(0, 65535)
_CPUS: Final = Only(_TEXT, "", "durakv pins no threads; start it under taskset or set CPUAffinity in its unit")
_ADDRESS: Final = "clients are told one address each node; use cluster-announce-ip"
_OOM: Final = "durakv leaves its score alone; set OOMScoreAdjust in its unit or the container's limit"
_RDMA: Final = "RDMA is not available; leave it out"
_MPTCP: Final = "Multipath TCP is not available; leave it out"
_FACILITIES: Final = ("user", *(f"local{n}" for n in range(8)))
_KEPT: Final = "Accepted."

FOREIGN: Final = (
    # Files of a persistence that is not durakv's: it has its log.
    *(
        live(name, _BOOL, default, _KEPT)
        for name, default in (
            ("aof-load-truncated", "yes"), ("aof-rewrite-incremental-fsync", "yes"), ("aof-timestamp-enabled", "no"),
            ("aof-use-rdb-preamble", "yes"), ("no-appendfsync-on-rewrite", "no"), ("rdb-del-sync-files", "no"),
            ("rdb-save-incremental-fsync", "yes"), ("rdbcompression", "yes"), ("stop-writes-on-bgsave-error", "yes"),
        )
    ),
    fixed("rdbchecksum", _BOOL, "yes", _KEPT),
    fixed("appenddirname", _TEXT, "appendonlydir", _KEPT),
    fixed("appendfilename", _TEXT, "appendonly.aof", _KEPT),
    live("auto-aof-rewrite-min-size", size(0), "64mb", _KEPT),
    live("auto-aof-rewrite-percentage", num(0, INT_MAX), "100", _KEPT),
    live("rdb-version-check", Choice("strict", "relaxed"), "strict", _KEPT),
    live("sanitize-dump-payload", Choice("no", "yes", "clients"), "no", "Accepted; payloads are always checked."),
    live("import-mode", Only(_BOOL, False, "stop the writers and use durakv-cli import"), "no", "Refused."),
    # Replication by streams.
    live("dual-channel-replication-enabled", _BOOL, "no", _KEPT),
    live("propagation-error-behavior", Choice("ignore", "panic", "panic-on-replicas"), "ignore", _KEPT),
    live("repl-disable-tcp-nodelay", _BOOL, "no", _KEPT),
    live("repl-diskless-load", Choice("disabled", "on-empty-db", "swapdb", "flush-before-load"), "disabled", _KEPT),
    live("repl-diskless-sync-max-replicas", num(0, INT_MAX), "0", _KEPT),
    live("replica-announce-ip", _TEXT, "", "Accepted; see cluster-announce-ip.", alias="slave-announce-ip"),
    live("replica-announce-port", _PORT, "0", "Accepted; see cluster-announce-port.", alias="slave-announce-port"),
    live("replica-announced", _BOOL, "yes", _KEPT),
    live("replica-ignore-disk-write-errors", _BOOL, "no", _KEPT),
    live("replica-ignore-maxmemory", _BOOL, "yes", "Accepted; the leader evicts for all.",
         alias="slave-ignore-maxmemory"),
    live("replica-lazy-flush", _BOOL, "yes", _KEPT, alias="slave-lazy-flush"),
    fixed("repl-mptcp", Only(_BOOL, False, _MPTCP), "no", "Refused."),
    live("slot-migration-max-failover-repl-bytes", num(-1, LONG_MAX), "0", _KEPT),
    # Memory of an allocator that is not ours.
    live("active-defrag-cycle-max", num(1, 99), "25", _KEPT),
    live("active-defrag-cycle-min", num(1, 99), "1", _KEPT),
    live("active-defrag-cycle-us", num(0, 100_000), "500", _KEPT),
    live("active-defrag-ignore-bytes", size(1), "100mb", _KEPT),
    live("active-defrag-max-scan-fields", num(1, LONG_MAX), "1000", _KEPT),
    live("active-defrag-threshold-lower", num(0, 1000), "10", _KEPT),
    live("active-defrag-threshold-upper", num(0, 1000), "100", _KEPT),
    live("jemalloc-bg-thread", _BOOL, "yes", _KEPT),
    fixed("disable-thp", _BOOL, "yes", _KEPT),
    live("oom-score-adj", Choice("no", later=dict.fromkeys(("yes", "relative", "absolute"), _OOM)), "no", "Refused."),
    live("oom-score-adj-values", Integers(3, -2000, 2000), "0 200 800", _KEPT),
    # Threads and processors.
    fixed("aof-rewrite-cpulist", _CPUS, "", "Refused.", alias="aof_rewrite_cpulist"),
    fixed("bgsave-cpulist", _CPUS, "", "Refused.", alias="bgsave_cpulist"),
    fixed("bio-cpulist", _CPUS, "", "Refused.", alias="bio_cpulist"),
    fixed("server-cpulist", _CPUS, "", "Refused.", alias="server_cpulist"),
    live("events-per-io-thread", num(0, INT_MAX), "2", _KEPT),
    fixed("io-threads-do-reads", _BOOL, "no", _KEPT),
    live("prefetch-batch-max-size", num(0, 128), "16", _KEPT),
    # Sockets.
    live("bind-source-addr", Only(_TEXT, "", "links between nodes leave from the address the kernel chooses"), "",
         "Refused."),
    fixed("mptcp", Only(_BOOL, False, _MPTCP), "no", "Refused."),
    fixed("rdma-bind", _TEXT, "", _KEPT),
    fixed("rdma-completion-vector", num(-1, 1024), "-1", _KEPT),
    live("rdma-port", Only(_PORT, 0, _RDMA), "0", "Refused."),
    fixed("rdma-rx-size", size(64 << 10, 16 << 20), "1mb", _KEPT),
    fixed("socket-mark-id", Only(num(0, (1 << 32) - 1), 0, "durakv marks no sockets; leave it out"), "0", "Refused."),
    fixed("unixsocketgroup", _TEXT, "", _KEPT),
    # TLS: nothing of it does anything without tls-port, which says that there is none yet.
    live("max-new-tls-connections-per-cycle", num(1, 1000), "1", _KEPT),
    live("tls-auth-clients", Choice("no", "yes", "optional"), "yes", _KEPT),
    live("tls-auth-clients-user", Choice("off", "cn", "uri"), "off", _KEPT),
    live("tls-client-key-file-pass", _TEXT, "", _KEPT, secret=True),
    live("tls-key-file-pass", _TEXT, "", _KEPT, secret=True),
    live("tls-prefer-server-ciphers", _BOOL, "no", _KEPT),
    live("tls-session-cache-size", num(0, INT_MAX), "20480", _KEPT),
    live("tls-session-cache-timeout", num(0, INT_MAX), "300", _KEPT),
    live("tls-session-caching", _BOOL, "yes", _KEPT),
    *(
        live(f"tls-{name}", _TEXT, "", _KEPT)
        for name in ("ca-cert-dir", "ca-cert-file", "cert-file", "ciphers", "ciphersuites", "client-cert-file",
                     "client-key-file", "dh-params-file", "key-file", "protocols")
    ),
    # The cluster bus; members, slots and epochs are the group log's.
    live("auto-failover-on-shutdown", _BOOL, "no", "Accepted; a leader that is stopped hands over."),
    live("cluster-announce-client-ipv4", Only(_TEXT, "", _ADDRESS), "", "Refused."),
    live("cluster-announce-client-ipv6", Only(_TEXT, "", _ADDRESS), "", "Refused."),
    live("cluster-blacklist-ttl", num(0, LONG_MAX), "60", _KEPT),
    live("cluster-link-sendbuf-limit", size(0), "0", _KEPT),
    live("cluster-manual-failover-timeout", num(1, INT_MAX), "5000", _KEPT),
    live("cluster-message-gossip-perc", num(1, 100), "10", _KEPT),
    live("cluster-slot-migration-log-max-len", num(0, LONG_MAX), "1000", _KEPT),
    # Logging and crashes.
    live("crash-memcheck-enabled", _BOOL, "yes", _KEPT),
    live("log-timestamp-format", Choice("legacy", "iso8601", "milliseconds"), "legacy", "Accepted; see log-format."),
    fixed("syslog-facility", Choice(*_FACILITIES), "local0", _KEPT),
    fixed("syslog-ident", _TEXT, "valkey", _KEPT),
    # Hashes of the process are never part of what is stored.
    fixed("hash-seed", _TEXT, "", _KEPT),
    fixed("lua-enable-insecure-api", Only(_BOOL, False, "functions that reach out of the sandbox are not offered"),
          "no", "Refused.", alias="lua-enable-deprecated-api"),
)  # fmt: skip
