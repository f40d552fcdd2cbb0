"""Every directive once: name, kind and bounds, default, whether CONFIG SET may change it, and what it does.

Rule: with foreign.py the only place that names a default or a bound. Valkey's names where the thing exists there; those
marked "accepted" are read, kept and shown so that existing files and tools work, and change nothing here.
"""

from __future__ import annotations

from typing import Final

from durakv.config.declare import INT_MAX, LONG_MAX
from durakv.config.declare import fixed as _fixed
from durakv.config.declare import live as _live
from durakv.config.declare import num as _num
from durakv.config.declare import size as _size
from durakv.config.foreign import FOREIGN
from durakv.config.values import (
    Choice,
    Choices,
    EventFlags,
    HostName,
    Integer,
    Only,
    OutputLimits,
    Percentiles,
    SavePoints,
    ShareOrSize,
    Text,
    Words,
    YesNo,
)

_PORT: Final = Integer(0, 65535)
_BOOL: Final = YesNo()
_TEXT: Final = Text()
_SHUTDOWN: Final = Choices("default", "save", "nosave", "now", "force")
_POLICIES: Final = (
    "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random",
    "volatile-ttl",
)  # fmt: skip
_QUORUM_ONLY: Final = "only quorum is offered now: a reply is sent once a majority has the write on disk"
_LATER_LEVELS: Final = dict.fromkeys(("async", "local", "insync", "all"), _QUORUM_ONLY)
_NO_REPLICAOF: Final = "a node follows its group's leader; see 'durakv cluster up' and CLUSTER ADDNODE"
_NO_TLS: Final = "TLS is not available yet; leave it out and use a private network or a TLS proxy"
_ALWAYS_LOGGED: Final = "every write is in the log; leave the directive out (appendfsync says when it is synced)"

NETWORK: Final = (
    _fixed("port", _PORT, "6379", "TCP port for clients."),
    _fixed("peer-port", _PORT, "0", "TCP port for the other nodes of the group; 0 means port + 10000."),
    _fixed("bind", Words(16), "127.0.0.1 -::1", "Addresses to listen on; a leading - tolerates absence; * is all."),
    _fixed("tcp-backlog", _num(0, INT_MAX), "511", "Length of the accept queue."),
    _live("tcp-keepalive", _num(0, INT_MAX), "300", "Seconds between TCP keepalive probes; 0 turns them off."),
    _live("timeout", _num(0, INT_MAX), "0", "Close a client idle for this many seconds; 0 never."),
    _live("maxclients", _num(1, (1 << 32) - 1), "10000", "Client connections at once."),
    _live("protected-mode", _BOOL, "yes", "Refuse remote clients while the default user has no password."),
    _fixed("unixsocket", Only(_TEXT, "", "Unix sockets are not available yet; use TCP on 127.0.0.1"), "",
           "Path of a Unix socket."),
    _fixed("unixsocketperm", Integer(0, 0o777, octal=True), "0", "Accepted."),
    _fixed("tls-port", Only(_PORT, 0, _NO_TLS), "0", "TCP port for TLS clients."),
    _fixed("tls-replication", Only(_BOOL, False, _NO_TLS), "no", "TLS between nodes."),
    _fixed("tls-cluster", Only(_BOOL, False, _NO_TLS), "no", "TLS between nodes."),
    _live("client-output-buffer-limit", OutputLimits(),
          "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
          "class hard soft seconds: close a client whose unread replies pass hard, or soft for that long."),
    _live("client-query-buffer-limit", _size(1 << 20), "1gb", "Largest unparsed input of one client."),
    _live("proto-max-bulk-len", _size(1 << 20), "512mb", "Largest single argument or value."),
    _live("max-new-connections-per-cycle", _num(1, 1000), "10", "Accepted."),
)  # fmt: skip

GENERAL: Final = (
    _fixed("dir", _TEXT, "./durakv-data", "Data directory."),
    _fixed("daemonize", Only(_BOOL, False, "durakv stays in the foreground; let systemd or the container run it"), "no",
           "Refused: use a service manager."),
    _fixed("supervised", Choice("no", "auto", "systemd", "upstart"), "no", "Accepted."),
    _fixed("pidfile", _TEXT, "", "Write the process id here."),
    _fixed("logfile", _TEXT, "", "Log to this file; empty is standard output."),
    _live("loglevel", Choice("debug", "verbose", "notice", "warning", "nothing"), "notice", "Least level logged."),
    _live("log-format", Choice("logfmt", "json", "legacy"), "logfmt", "How log lines are written."),
    _fixed("databases", _num(1, 10_000), "16", "Logical databases; the same on every node of a group."),
    _live("hz", _num(0, INT_MAX), "10", "Accepted; timers run on their own periods."),
    _live("dynamic-hz", _BOOL, "yes", "Accepted."),
    _live("activerehashing", _BOOL, "yes", "Accepted."),
    _live("active-expire-effort", _num(1, 10), "1", "Accepted."),
    _fixed("io-threads", _num(1, 128), "1", "Accepted; one thread serves clients."),
    _fixed("always-show-logo", _BOOL, "no", "Accepted."),
    _fixed("set-proc-title", _BOOL, "yes", "Accepted."),
    _live("proc-title-template", _TEXT, "{title} {listen-addr} {server-mode}", "Accepted."),
    _live("crash-log-enabled", _BOOL, "yes", "Accepted."),
    _fixed("syslog-enabled", Only(_BOOL, False, "log to standard output and let the service manager forward it"), "no",
           "Refused."),
    _live("shutdown-timeout", _num(0, INT_MAX), "10", "Seconds SHUTDOWN waits for a successor."),
    _live("shutdown-on-sigint", _SHUTDOWN, "default", "Accepted."),
    _live("shutdown-on-sigterm", _SHUTDOWN, "default", "Accepted."),
    _live("busy-reply-threshold", _num(0, LONG_MAX), "5000", "Accepted.", alias="lua-time-limit"),
    _live("script-max-instructions", _num(10_000, 1 << 40), "50000000",
          "Lua instructions after which a script is stopped, a command of it counting 500 and its size; the leader's."),
    _live("script-max-memory", _size(8 << 20), "256mb", "What a script may hold in Lua; the leader's."),
    _live("scripts-atomic", _BOOL, "no", "Undo a script's writes when it ends in an error; the leader's."),
    _live("availability-zone", _TEXT, "", "Zone of the node, told to clients."),
    _live("extended-redis-compatibility", _BOOL, "no", "Say redis instead of valkey in HELLO and LOLWUT."),
    _live("ignore-warnings", _TEXT, "", "Accepted."),
    _live("locale-collate", Only(_TEXT, "", "SORT ALPHA compares bytes, as the locale C does; leave it out"), "",
          "Refused."),
    _live("hide-user-data-from-log", _BOOL, "yes", "Keep keys and values out of the log."),
    _fixed("enable-debug-command", Choice("no", "yes", "local"), "no", "Who may use DEBUG; local is loopback only."),
    _fixed("enable-protected-configs", Choice("no", "yes", "local"), "no", "Accepted."),
    _fixed("enable-module-command", Choice("no", later={
        "yes": "durakv loads no modules", "local": "durakv loads no modules"}), "no", "Refused."),
)  # fmt: skip

SECURITY: Final = (
    _live("requirepass", _TEXT, "", "Password of the default user.", secret=True),
    _fixed("aclfile", _TEXT, "", "File of users, read at start and by ACL LOAD, written by ACL SAVE."),
    _live("acllog-max-len", _num(0, LONG_MAX), "128", "Entries ACL LOG keeps."),
    _live("acl-pubsub-default", Choice("resetchannels", "allchannels"), "resetchannels",
          "Channels a new user may use."),
    _live("masterauth", _TEXT, "", "Accepted.", alias="primaryauth", secret=True),
    _live("masteruser", _TEXT, "", "Accepted.", alias="primaryuser", secret=True),
)  # fmt: skip

MEMORY: Final = (
    _live("maxmemory", _size(0, (1 << 64) - 1), "0", "Evict keys, or refuse writes, above this; 0 is no limit."),
    _live("maxmemory-policy", Choice(*_POLICIES), "noeviction", "What to do at maxmemory."),
    _live("maxmemory-samples", _num(1, 64), "5", "Keys looked at for each that is evicted."),
    _live("maxmemory-eviction-tenacity", _num(0, 100), "10", "Accepted."),
    _live("maxmemory-clients", ShareOrSize(), "0", "Accepted; client-output-buffer-limit bounds each client."),
    _live("lfu-log-factor", _num(0, INT_MAX), "10", "How slowly the counter of uses grows."),
    _live("lfu-decay-time", _num(0, INT_MAX), "1", "Minutes after which the counter of uses falls by one; 0: never."),
    _live("activedefrag", Only(_BOOL, False, "the allocator is Python's, it has no active defragmentation"), "no",
          "Refused."),
    *(
        _live(f"lazyfree-lazy-{name}", _BOOL, "yes", "Accepted.")
        for name in ("eviction", "expire", "server-del", "user-del", "user-flush")
    ),
    _live("list-max-listpack-size", _num(-(1 << 31), INT_MAX), "-2", "OBJECT ENCODING's limit for small lists.",
          alias="list-max-ziplist-size"),
    _live("list-compress-depth", _num(0, INT_MAX), "0", "Accepted."),
    _live("hash-max-listpack-entries", _num(0, LONG_MAX), "512", "OBJECT ENCODING's limit for small hashes.",
          alias="hash-max-ziplist-entries"),
    _live("hash-max-listpack-value", _size(0), "64", "OBJECT ENCODING's limit for small hashes.",
          alias="hash-max-ziplist-value"),
    _live("set-max-intset-entries", _num(0, LONG_MAX), "512", "OBJECT ENCODING's limit for integer sets."),
    _live("set-max-listpack-entries", _num(0, LONG_MAX), "128", "OBJECT ENCODING's limit for small sets."),
    _live("set-max-listpack-value", _num(0, LONG_MAX), "64", "OBJECT ENCODING's limit for small sets."),
    _live("zset-max-listpack-entries", _num(0, LONG_MAX), "128", "OBJECT ENCODING's limit for small sorted sets.",
          alias="zset-max-ziplist-entries"),
    _live("zset-max-listpack-value", _size(0), "64", "OBJECT ENCODING's limit for small sorted sets.",
          alias="zset-max-ziplist-value"),
    _live("hll-sparse-max-bytes", _size(0), "3000", "Accepted."),
    _live("stream-node-max-bytes", _size(0), "4096", "Granularity of approximate stream trimming."),
    _live("stream-node-max-entries", _num(0, LONG_MAX), "100", "Granularity of approximate stream trimming."),
)  # fmt: skip

OBSERVATION: Final = (
    _live("notify-keyspace-events", EventFlags(), "", "Event classes published to subscribers of __key*__ channels."),
    _live("slowlog-log-slower-than", _num(-1, LONG_MAX), "10000", "Microseconds from which a command is kept; -1 none.",
          alias="commandlog-execution-slower-than"),
    _live("slowlog-max-len", _num(0, LONG_MAX), "128", "Entries SLOWLOG keeps.",
          alias="commandlog-slow-execution-max-len"),
    _live("commandlog-request-larger-than", _num(-1, LONG_MAX), "1048576", "Bytes from which a request is kept."),
    _live("commandlog-large-request-max-len", _num(0, LONG_MAX), "128", "Large requests COMMANDLOG keeps."),
    _live("commandlog-reply-larger-than", _num(-1, LONG_MAX), "1048576", "Bytes from which a reply is kept."),
    _live("commandlog-large-reply-max-len", _num(0, LONG_MAX), "128", "Large replies COMMANDLOG keeps."),
    _live("latency-monitor-threshold", _num(0, LONG_MAX), "0", "Milliseconds from which LATENCY keeps events; 0 off."),
    _live("latency-tracking", _BOOL, "yes", "Count time per command."),
    _live("latency-tracking-info-percentiles", Percentiles(16), "50 99 99.9", "Percentiles INFO latencystats shows."),
    _live("tracking-table-max-keys", _num(0, LONG_MAX), "1000000", "Accepted."),
)  # fmt: skip

DURABILITY: Final = (
    _live("appendfsync", Choice("always", "everysec", "no"), "always",
          "When a single node answers a write: after fsync, at once with one a second, at once. Groups always fsync."),
    _live("appendonly", Only(_BOOL, True, _ALWAYS_LOGGED), "yes", "The log is always on."),
    _live("save", SavePoints(), "", "Accepted; nothing depends on snapshots."),
    _live("dbfilename", _TEXT, "dump.rdb", "The file in dir that SAVE and BGSAVE write."),
    _live("durability-default", Choice("quorum", later=_LATER_LEVELS), "quorum", "Level of an acknowledged write."),
    _live("durability-min", Choice("quorum", later=_LATER_LEVELS), "quorum", "Lowest level a client may choose."),
    _live("durability-timeout", _num(0, INT_MAX), "0",
          "Milliseconds after which an unconfirmed write is answered -UNKNOWN; 0 waits."),
    _fixed("log-sync", Choice("auto", "thread", "inline"), "auto",
           "Where fsync runs: log thread, loop, or (auto) the loop of followers while the disk is fast."),
    _fixed("segment-size", _size(1 << 20, 1 << 32), "64mb", "Size of one log file."),
    _fixed("checkpoints", _BOOL, "yes",
           "Keep the data in an LMDB checkpoint beside the log, so that a start reads it and the log stays short."),
    _fixed("checkpoint-interval", _num(1, 86400), "60", "Seconds after which what changed is in the checkpoint."),
    _fixed("checkpoint-bytes", _size(1 << 16), "64mb",
           "Bytes of changes after which they are in the checkpoint, however soon that is."),
    _live("archive-dir", _TEXT, "",
          "Directory, on the volume of dir, that keeps log segments a checkpoint covers; none when empty."),
    _live("log-max", _size(16 << 20), "8gb", "Log kept beyond the last checkpoint before writes are throttled."),
    _live("log-follower-keep", _size(0), "1gb", "Log kept for a follower that is away, before it needs a snapshot."),
    _fixed("min-free", _size(0), "512mb", "Free disk space below which writes are refused."),
    _fixed("reserve-size", _size(0), "128mb", "Emergency space kept allocated beside the log; 0 keeps none."),
)  # fmt: skip

GROUP: Final = (
    _fixed("node-id", _num(0, (1 << 32) - 1), "0", "This node's number in its group; 0: from the data directory."),
    _fixed("cluster-id", _TEXT, "", "The group this node belongs to (32 hex digits); empty: from the data directory."),
    _fixed("group-id", _num(0, (1 << 32) - 1), "0",
           "This node's group in a cluster of several; 0: from the data directory, or the only one."),
    _fixed("cluster-seeds", Words(64), "",
           "host:peer-port of nodes of other groups, asked for everybody else; one or two of each group do."),
    _fixed("join", _BOOL, "no", "Start with an empty directory as a node just added with CLUSTER ADDNODE."),
    _fixed("replication-mode", Choice("raft", "lease"), "raft",
           "How a group agrees: a majority, or a primary and its in-sync members; for ever as it was founded."),
    _fixed("lease-duration-ms", _num(10, 600_000), "1000",
           "Lease mode: how long a primary serves after a beacon that was answered; the same on every node."),
    _fixed("lease-grace-ms", _num(10, 600_000), "1500",
           "Lease mode: silence after which an in-sync member takes over; at least 1.25 times the lease."),
    _fixed("lease-clock-bound", _num(0, 999), "150",
           "Lease mode: by how many thousandths clocks may run too fast or slow; reads rely on it, writes never."),
    _fixed("min-isr", _num(0, 64), "0",
           "Lease mode, when founded: in-sync members a write needs; 0: two of three or more, one of two."),
    _fixed("holder-members", Words(16), "",
           "Lease mode: id=host:port of the config holder's members, for an embedded one; the same on every node."),
    _fixed("holder-etcd", Words(16), "", "Lease mode: host:port of an etcd 3 that serves as config holder instead."),
    _fixed("holder-etcd-prefix", _TEXT, "/durakv/", "What all keys in that etcd begin with; the same on every node."),
    _fixed("holder-etcd-user", _TEXT, "", "User of that etcd; it needs to read and write below the prefix."),
    _fixed("holder-etcd-password", _TEXT, "", "Password of holder-etcd-user.", secret=True),
    _fixed("holder-etcd-tls", _BOOL, "no", "TLS to that etcd."),
    _fixed("holder-etcd-ca-file", _TEXT, "", "PEM file of authorities to trust; empty: the system's."),
    _fixed("holder-etcd-cert-file", _TEXT, "", "PEM file of a certificate, where that etcd asks for one."),
    _fixed("holder-etcd-key-file", _TEXT, "", "PEM file of its key; empty: in the same file."),
    _live("reads", Choice("readindex", "lease"), "readindex",
          "How a leader proves it still leads before a read: one round per batch, or a clock-bounded lease."),
    _fixed("tick-ms", _num(1, 1000), "20", "Length of the consensus clock's tick."),
    _fixed("heartbeat-interval-ms", _num(1, 60_000), "100", "Leader's heartbeat; the same on every node."),
    _fixed("election-timeout-ms", _num(10, 600_000), "1000",
           "Silence after which a follower stands for election; the same on every node."),
    _fixed("clock-drift-bound", _num(0, 500_000), "1000",
           "Assumed bound on clock rate error, parts per million; lease reads rely on it."),
    _live("max-uncommitted-bytes", _size(1 << 16), "64mb", "Writes waiting for commit before -THROTTLED."),
    _live("max-apply-lag-bytes", _size(1 << 16), "64mb", "Committed but unapplied log before -THROTTLED."),
    _live("replica-serve-stale-reads", _BOOL, "yes", "Whether a follower answers reads after READONLY.",
          alias="replica-serve-stale-data slave-serve-stale-data"),
    _live("replica-priority", _num(0, INT_MAX), "100", "Accepted.", alias="slave-priority"),
    _live("replica-read-only", Only(_BOOL, True, "followers never take writes of their own"), "yes", "Accepted.",
          alias="slave-read-only"),
    _live("min-data-copies", _num(1, 2), "1",
          "Full nodes that must hold a write when it is acknowledged; 2 refuses writes while the witness stands in for "
          "the only other one. The same on every node."),
    _live("min-replicas-to-write", _num(0, INT_MAX), "0", "Accepted; a quorum is always needed.",
          alias="min-slaves-to-write"),
    _live("min-replicas-max-lag", _num(0, INT_MAX), "10", "Accepted.", alias="min-slaves-max-lag"),
    _live("repl-timeout", _num(1, INT_MAX), "60", "Seconds after which a silent replica is cut off."),
    _live("repl-diskless-sync", _BOOL, "yes", "Accepted."),
    _live("repl-diskless-sync-delay", _num(0, INT_MAX), "5", "Accepted."),
    _live("repl-backlog-size", _size(1), "10mb", "Stream kept for replicas whose link broke, in bytes."),
    _live("repl-backlog-ttl", _num(0, INT_MAX), "3600",
          "Seconds after the last replica left until nothing is kept for it any more; 0 keeps it for ever."),
    _live("repl-ping-replica-period", _num(1, INT_MAX), "10", "Seconds between two PINGs to replicas.",
          alias="repl-ping-slave-period"),
    _fixed("replicaof", Only(_TEXT, "", _NO_REPLICAOF), "", "Refused.", alias="slaveof"),
)  # fmt: skip

CLUSTER: Final = (
    _fixed("cluster-enabled", _BOOL, "no", "Speak the cluster protocol: followers answer MOVED instead of forwarding."),
    _fixed("cluster-databases", _num(1, 10_000), "1",
           "Logical databases in cluster mode; the same on every node of all groups. A slot is a part of each."),
    _live("cluster-announce-ip", _TEXT, "", "Address told to clients instead of the one bound."),
    _live("cluster-announce-hostname", HostName(), "", "Host name told to clients."),
    _live("cluster-announce-human-nodename", _TEXT, "", "Accepted."),
    _live("cluster-announce-port", _PORT, "0", "Client port told to clients; 0 is the real one."),
    _live("cluster-announce-tls-port", _PORT, "0", "Port for TLS clients told to clients; 0 is the real one."),
    _live("cluster-announce-bus-port", _PORT, "0", "Peer port told to others; 0 is the real one."),
    _live("cluster-preferred-endpoint-type", Choice("ip", "hostname", "unknown-endpoint"), "ip",
          "What CLUSTER SLOTS and MOVED name."),
    _live("cluster-node-timeout", _num(0, LONG_MAX), "15000", "Accepted; see election-timeout-ms."),
    _live("cluster-require-full-coverage", _BOOL, "yes", "Accepted; one group owns all slots."),
    _live("cluster-allow-reads-when-down", _BOOL, "no", "Accepted."),
    _live("cluster-allow-pubsubshard-when-down", _BOOL, "yes", "Accepted."),
    _live("cluster-allow-replica-migration", _BOOL, "yes", "Accepted."),
    _live("cluster-migration-barrier", _num(0, INT_MAX), "1", "Accepted."),
    _live("cluster-replica-no-failover", _BOOL, "no", "Accepted.", alias="cluster-slave-no-failover"),
    _live("cluster-replica-validity-factor", _num(0, INT_MAX), "10", "Accepted.",
          alias="cluster-slave-validity-factor"),
    _live("handoff-park-limit-ms", _num(1, INT_MAX), "5000",
          "How long commands wait for slots that are moving before -CLUSTERDOWN."),
    _live("handoff-max-pause-ms", _num(1, INT_MAX), "100",
          "Slots are fenced when the rest of a move is expected to take no longer."),
    _live("handoff-throttle-after-ms", _num(0, INT_MAX), "5000",
          "Slow down writers of slots whose copy cannot keep up for so long."),
    _live("cluster-slot-stats-enabled", _BOOL, "no",
          "Count CPU, traffic and memory by slot for CLUSTER SLOT-STATS; costs some of each command's time."),
    _live("rebalance", Choice("off", "suggest", "auto"), "off",
          "Slots of loaded groups: leave them, report which should move, or move them."),
    _live("rebalance-threshold", _num(1, 100), "75", "Load of a group, in percent, above which slots should leave it."),
    _live("rebalance-skew", _num(1, 1000), "20", "Percent above the mean load at which a group is relieved as well."),
    _live("rebalance-window", _num(1, 86400), "60",
          "Seconds over which loads are averaged and a group rests after a move; slots rest ten times that."),
    _live("rebalance-bandwidth", _size(1), "400mb", "Bytes a second that moves may take in the whole cluster."),
    _live("rebalance-network-capacity", _size(0), "0",
          "Bytes a second that this group's leader can send and receive; 0: traffic is no load."),
    _live("rebalance-draining", _BOOL, "no",
          "This group is being emptied: slots are moved away from it by an operator, and none to it."),
    _fixed("cluster-config-file", _TEXT, "nodes.conf", "Accepted; membership is in the log."),
    _fixed("cluster-port", _PORT, "0", "Accepted; see peer-port."),
)  # fmt: skip

DIRECTIVES: Final = NETWORK + GENERAL + SECURITY + MEMORY + OBSERVATION + DURABILITY + GROUP + CLUSTER + FOREIGN
BY_NAME: Final = {d.name: d for d in DIRECTIVES} | {alias: d for d in DIRECTIVES for alias in d.aliases}
