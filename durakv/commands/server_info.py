"""INFO's sections: what each says, with Valkey's names first and durakv's own in the last section.

Rule: only reads; a line whose subject does not exist here is left out unless tools are known to look for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.commands.connection_filters import client_memory
from durakv.commands.lease import lease_rows
from durakv.commands.local_text import text
from durakv.commands.replication import following, info_while_following
from durakv.commands.version import COMPATIBLE_REDIS, COMPATIBLE_VALKEY, DURAKV
from durakv.observe.info import Info, Pairs, human_bytes

if TYPE_CHECKING:
    from durakv.commands.replica_services import ReplicaFacts, ReplicaRow
    from durakv.commands.services import GroupView, Member, Services, WitnessFacts
    from durakv.keyspace.keyspace import Db

_NO_ID = "0" * 40
# Deadlines looked at for the mean time to live of a database.
_TTL_SAMPLES = 256
# Counters of threads and loops that are not ours; exporters ask for them by name.
_IO_THREADED = (
    "reads_processed", "writes_processed", "freed_objects", "accept_processed", "poll_processed",
    "total_prefetch_batches", "total_prefetch_entries",
)  # fmt: skip
_EVENT_LOOP = (
    "eventloop_cycles", "eventloop_duration_sum", "eventloop_duration_cmd_sum",
    "instantaneous_eventloop_cycles_per_sec", "instantaneous_eventloop_duration_usec",
)  # fmt: skip


def render_info(node: Services, names: list[str]) -> str:
    """The text of ``INFO [section ...]``."""
    view = node.group()
    info = Info()
    info.add("Server", lambda: _server(node))
    info.add("Clients", lambda: _clients(node))
    info.add("Memory", lambda: _memory(node))
    info.add("Persistence", lambda: _persistence(node, view))
    info.add("Stats", lambda: _stats(node))
    info.add("Replication", lambda: _replication(node, view))
    info.add("CPU", lambda: _cpu(node))
    info.add("Modules", lambda: ())
    info.add("Commandstats", lambda: _commandstats(node), rare=True)
    info.add("Errorstats", lambda: _errorstats(node))
    info.add("Latencystats", lambda: _latencystats(node), rare=True)
    info.add("Cluster", lambda: [("cluster_enabled", int(node.settings.cluster_enabled))])
    info.add("Keyspace", lambda: _keyspace(node))
    info.add("Durakv", lambda: _durakv(node, view))
    return info.render(names)


def _server(node: Services) -> Pairs:
    settings, process = node.settings, node.instruments.process
    now_ms = node.clock.wall_ms()
    up_s = max(0, now_ms - node.stats.started_ms) // 1000
    listeners = "".join(f",bind={host}" for host in settings.bind)
    return [
        ("redis_version", text(COMPATIBLE_REDIS)), ("server_name", "valkey"),
        ("valkey_version", text(COMPATIBLE_VALKEY)), ("valkey_release_stage", "ga"),
        ("redis_git_sha1", "00000000"), ("redis_git_dirty", 0), ("redis_build_id", "0"),
        (f"{'redis' if settings.extended_redis_compatibility else 'server'}_mode",
         "cluster" if settings.cluster_enabled else "standalone"), ("os", process.os),
        ("arch_bits", process.arch_bits), ("monotonic_clock", process.monotonic_clock), ("multiplexing_api", "epoll"),
        ("gcc_version", "0.0.0"), ("process_id", process.pid), ("process_supervised", settings.supervised),
        ("run_id", node.stats.run_id), ("tcp_port", settings.port), ("server_time_usec", now_ms * 1000),
        ("uptime_in_seconds", up_s), ("uptime_in_days", up_s // 86400), ("hz", settings.hz),
        ("configured_hz", settings.hz), ("clients_hz", settings.hz),
        ("lru_clock", now_ms // 1000 & 0xFFFFFF), ("executable", process.executable),
        ("config_file", settings.config_file), ("io_threads_active", 0),
        ("availability_zone", settings.availability_zone),
        ("listener0", f"name=tcp{listeners},port={settings.port}"),
    ]  # fmt: skip


def _clients(node: Services) -> Pairs:
    sessions = list(node.clients.values())
    paused = "all" if node.pause_all else "write" if node.pause_writes else "none"
    left_ms = max(0, node.pause_until_ms - node.clock.wall_ms()) if node.pause_writes else 0
    waiting = [client_memory(s) for s in sessions]
    return [
        ("connected_clients", sum(1 for s in sessions if not s.replica)), ("cluster_connections", 0),
        ("maxclients", node.settings.maxclients),
        ("client_recent_max_input_buffer", max((held for held, _, _, _ in waiting), default=0)),
        ("client_recent_max_output_buffer", max((unsent for _, _, unsent, _ in waiting), default=0)),
        ("blocked_clients", sum(1 for s in sessions if s.blocked)), ("tracking_clients", len(node.tracking.clients)),
        ("pubsub_clients", sum(1 for s in sessions if s.in_pubsub())),
        ("watching_clients", sum(1 for s in sessions if s.watched)), ("clients_in_timeout_table", 0),
        ("total_watched_keys", sum(len(s.watched) for s in sessions)), ("total_blocking_keys", 0),
        ("total_blocking_keys_on_nokey", 0), ("paused_reason", "client_pause" if node.pause_writes else "none"),
        ("paused_actions", paused), ("paused_timeout_milliseconds", left_ms),
    ]  # fmt: skip


def _memory(node: Services) -> Pairs:
    process, stats = node.instruments.process, node.stats
    used, rss = node.eviction.used_bytes(), process.rss_bytes()
    stats.memory_peak_bytes = peak = max(used, stats.memory_peak_bytes)
    startup = min(stats.memory_startup_bytes, used)
    dataset = used - startup
    total, limit = process.total_memory_bytes(), node.settings.maxmemory
    clients = sum(client_memory(s)[3] for s in node.clients.values())
    stream = node.replicas.facts() if node.replicas is not None else None
    backlog = 0 if stream is None else stream.held_bytes
    programs = node.ks.programs
    scripts, functions, libraries = (
        (0, 0, 0) if programs is None else (len(programs.scripts), len(programs.functions), len(programs.libraries))
    )
    return [
        ("used_memory", used), ("used_memory_human", human_bytes(used)), ("used_memory_rss", rss),
        ("used_memory_rss_human", human_bytes(rss)), ("used_memory_peak", peak),
        ("used_memory_peak_human", human_bytes(peak)),
        ("used_memory_peak_perc", f"{100 * used / peak if peak else 0:.2f}%"), ("used_memory_overhead", startup),
        ("used_memory_startup", startup), ("used_memory_dataset", dataset),
        ("used_memory_dataset_perc", f"{100 * dataset / used if used else 0:.2f}%"), ("allocator_allocated", used),
        ("allocator_active", rss), ("allocator_resident", rss), ("allocator_muzzy", 0), ("total_system_memory", total),
        ("total_system_memory_human", human_bytes(total)), ("used_memory_lua", 0), ("used_memory_vm_eval", 0),
        ("used_memory_lua_human", "0B"), ("used_memory_vm_functions", 0), ("used_memory_vm_total", 0),
        ("used_memory_vm_total_human", "0B"), ("used_memory_functions", 0), ("used_memory_scripts_eval", 0),
        ("number_of_cached_scripts", scripts),
        ("number_of_functions", functions), ("number_of_libraries", libraries), ("used_memory_scripts", 0),
        ("used_memory_scripts_human", "0B"), ("maxmemory", limit), ("maxmemory_human", human_bytes(limit)),
        ("maxmemory_policy", node.settings.maxmemory_policy),
        ("allocator_frag_ratio", f"{rss / used if used else 1:.2f}"), ("allocator_frag_bytes", rss - used),
        ("allocator_rss_ratio", "1.00"), ("allocator_rss_bytes", 0), ("rss_overhead_ratio", "1.00"),
        ("rss_overhead_bytes", 0), ("mem_fragmentation_ratio", f"{rss / used if used else 1:.2f}"),
        ("mem_fragmentation_bytes", rss - used), ("mem_not_counted_for_evict", 0), ("mem_replication_backlog", backlog),
        ("mem_total_replication_buffers", backlog), ("mem_overhead_db_hashtable_rehashing", 0),
        ("mem_clients_slaves", 0), ("mem_clients_normal", clients), ("mem_cluster_links", 0), ("mem_aof_buffer", 0),
        ("mem_allocator", "python"), ("active_defrag_running", 0),
        ("lazyfree_pending_objects", node.stats.lazyfree_pending), ("lazyfreed_objects", node.stats.lazyfreed),
    ]  # fmt: skip


def _persistence(node: Services, view: GroupView) -> Pairs:
    return [
        ("loading", int(view.loading)), ("async_loading", 0), ("current_cow_peak", 0), ("current_cow_size", 0),
        ("current_cow_size_age", 0), ("current_fork_perc", "0.00"), ("current_save_keys_processed", 0),
        ("current_save_keys_total", 0),
        *_saving(node),
        ("rdb_last_cow_size", 0), ("rdb_last_load_keys_expired", 0), ("rdb_last_load_keys_loaded", 0),
        ("aof_enabled", 1), ("aof_rewrites", 0), ("aof_rewrites_consecutive_failures", 0), ("aof_last_cow_size", 0),
        ("module_fork_in_progress", 0), ("module_fork_last_cow_size", 0), ("aof_rewrite_in_progress", 0),
        ("aof_rewrite_scheduled", 0),
        ("aof_last_rewrite_time_sec", -1), ("aof_current_rewrite_time_sec", -1), ("aof_last_bgrewrite_status", "ok"),
        ("aof_last_write_status", "err" if view.writable_error else "ok"), ("aof_current_size", view.log_bytes),
        ("aof_base_size", 0), ("aof_pending_rewrite", 0), ("aof_buffer_length", 0),
        ("aof_pending_bio_fsync", max(0, view.last_index - view.durable_index)), ("aof_delayed_fsync", 0),
        *_checkpoint(view),
    ]  # fmt: skip


def _checkpoint(view: GroupView) -> Pairs:
    facts = view.checkpoint
    if facts is None:
        return [("checkpoints_enabled", 0)]
    return [
        ("checkpoints_enabled", 1), ("checkpoint_index", facts.index), ("checkpoint_age_ms", facts.age_ms),
        ("checkpoint_lag_bytes", facts.lag_bytes), ("checkpoint_bytes", facts.bytes),
        ("checkpoint_commits", facts.commits), ("checkpoint_last_ms", facts.last_ms),
        ("checkpoint_last_status", "err" if facts.failed else "ok"),
        ("snapshots_installed", facts.snapshots_installed), ("log_first_index", facts.log_first_index),
        ("log_held_bytes", facts.log_bytes),
    ]  # fmt: skip


def _saving(node: Services) -> Pairs:
    saving = node.saving
    now_s = node.clock.wall_ms() // 1000
    running_s = -1 if saving is None else saving.running_s()
    return [
        ("rdb_changes_since_last_save", 0 if saving is None else saving.changes()),
        ("rdb_bgsave_in_progress", int(running_s >= 0)),
        ("rdb_last_save_time", now_s if saving is None else saving.last_save_ms // 1000),
        ("rdb_last_bgsave_status", "ok" if saving is None or saving.last_ok else "err"),
        ("rdb_last_bgsave_time_sec", -1 if saving is None else saving.last_duration_s),
        ("rdb_current_bgsave_time_sec", running_s), ("rdb_saves", 0 if saving is None else saving.saves),
    ]  # fmt: skip


def _stats(node: Services) -> Pairs:
    stats, pubsub, replicas = node.stats, node.pubsub, node.replicas
    rate, rate_in, rate_out = stats.rates()
    return [
        ("total_connections_received", stats.connections), ("total_commands_processed", stats.commands),
        ("instantaneous_ops_per_sec", rate), ("total_net_input_bytes", stats.bytes_in + stats.peer_bytes_in),
        ("total_net_output_bytes", stats.bytes_out + stats.peer_bytes_out),
        ("total_net_repl_input_bytes", stats.peer_bytes_in), ("total_net_repl_output_bytes", stats.peer_bytes_out),
        ("instantaneous_input_kbps", f"{rate_in / 1024:.2f}"), ("instantaneous_output_kbps", f"{rate_out / 1024:.2f}"),
        ("instantaneous_input_repl_kbps", "0.00"), ("instantaneous_output_repl_kbps", "0.00"),
        ("rejected_connections", stats.rejected_connections),
        ("sync_full", 0 if replicas is None else replicas.full_syncs),
        ("sync_partial_ok", 0 if replicas is None else replicas.partial_syncs),
        ("sync_partial_err", 0 if replicas is None else replicas.partial_refusals),
        ("expired_keys", node.ks.expired_keys), ("expired_stale_perc", "0.00"),
        ("expired_time_cap_reached_count", 0), ("expire_cycle_cpu_milliseconds", 0),
        ("evicted_keys", stats.evicted_keys),
        ("evicted_scripts", 0), ("total_eviction_exceeded_time", 0), ("current_eviction_exceeded_time", 0),
        ("evicted_clients", 0), ("keyspace_hits", stats.keyspace_hits), ("keyspace_misses", stats.keyspace_misses),
        ("pubsub_channels", len(pubsub.channels)), ("pubsub_patterns", len(pubsub.patterns)),
        ("pubsubshard_channels", len(pubsub.shard_channels)), ("latest_fork_usec", 0), ("total_forks", 0),
        ("migrate_cached_sockets", 0), ("slave_expires_tracked_keys", 0), ("active_defrag_hits", 0),
        ("active_defrag_misses", 0), ("active_defrag_key_hits", 0), ("active_defrag_key_misses", 0),
        ("total_active_defrag_time", 0), ("current_active_defrag_time", 0),
        ("tracking_total_keys", len(node.tracking.keys)),
        ("tracking_total_items", node.tracking.total_items()),
        ("tracking_total_prefixes", len(node.tracking.prefixes)), ("unexpected_error_replies", stats.internal_errors),
        ("total_error_replies", stats.errors), ("dump_payload_sanitizations", 0),
        ("total_reads_processed", stats.reads), ("total_writes_processed", stats.writes),
        *((f"io_threaded_{name}", 0) for name in _IO_THREADED), ("reply_buffer_shrinks", 0),
        ("reply_buffer_expands", 0), *((f"{name}", 0) for name in _EVENT_LOOP),
        ("client_query_buffer_limit_disconnections", stats.query_buffer_closes),
        ("client_output_buffer_limit_disconnections", stats.output_buffer_closes),
        ("acl_access_denied_auth", stats.acl_denied_auth), ("acl_access_denied_cmd", stats.acl_denied_command),
        ("acl_access_denied_key", stats.acl_denied_key), ("acl_access_denied_channel", stats.acl_denied_channel),
    ]  # fmt: skip


def _replication(node: Services, view: GroupView) -> Pairs:
    leading = view.role == "leader"
    source = following(node)
    facts = node.replicas.facts() if node.replicas is not None else None
    rows = [] if facts is None else [_stock(row) for row in facts.rows]
    out: list[tuple[str, object]] = [("role", "master" if leading and source is None else "slave")]
    if source is not None:
        out += info_while_following(node, source)
    elif leading:
        others = [m for m in view.members if m.node_id != view.node_id and not m.witness]
        rows = [_replica(m, view, facts) for m in others if m.connected] + rows
        out.append(("connected_slaves", len(rows)))
    else:
        out += _following(node, view)
    if rows and ("connected_slaves", 0) in out:
        out[out.index(("connected_slaves", 0))] = ("connected_slaves", len(rows))
    out += [(f"slave{number}", row) for number, row in enumerate(rows)]
    if view.witness is not None:
        out += _witness(view.witness, leading=leading)
    if view.lease is not None:
        out += lease_rows(view, view.lease)
    replid = (view.cluster_id.replace("-", "") + _NO_ID)[:40] if view.cluster_id else _NO_ID
    out += [
        ("replicas_waiting_psync", 0), ("master_failover_state", "no-failover"),
        ("master_replid", replid if facts is None else facts.replid),
        ("master_replid2", _NO_ID), ("master_repl_offset", view.applied_index if facts is None else facts.offset),
        ("second_repl_offset", -1), ("repl_backlog_active", 1),
        ("repl_backlog_size", view.log_bytes if facts is None else node.settings.repl_backlog_size),
        ("repl_backlog_first_byte_offset", 0 if facts is None else facts.start + 1),
        ("repl_backlog_histlen", view.log_bytes if facts is None else facts.held_bytes),
    ]  # fmt: skip
    return out


def _stock(row: ReplicaRow) -> str:
    """A Redis or Valkey server that follows this node. Source: server.c genValkeyInfoString()."""
    return f"ip={row.host},port={row.port},state={row.state},offset={row.offset},lag={row.lag_s},type=replica"


def member_offset(m: Member, view: GroupView, facts: ReplicaFacts | None) -> int:
    """A member's offset beside those of replicas, which count bytes: as far behind as it is in entries."""
    if facts is None:
        return m.match_index
    return max(0, facts.offset - max(0, view.applied_index - m.match_index))


def _witness(w: WitnessFacts, *, leading: bool) -> list[tuple[str, object]]:
    out: list[tuple[str, object]] = [
        ("witness_id", w.node_id), ("witness_address", w.address), ("witness_messages_sent", w.asked),
        ("witness_state_bytes", w.state_bytes),
    ]  # fmt: skip
    if leading:
        out += [
            ("replication_set", ",".join(str(n) for n in w.replication_set)), ("subterm", w.subterm),
            ("witness_engaged", int(w.engaged)), ("pinned", int(w.pinned)), ("newest_write_copies", w.copies),
        ]  # fmt: skip
    # One line, whatever a transport had to say.
    out.append(("witness_trouble", " ".join(w.trouble.split())))
    return out


def _replica(m: Member, view: GroupView, facts: ReplicaFacts | None) -> str:
    lag = 0 if m.match_index >= view.commit_index else 1
    offset = member_offset(m, view, facts)
    return f"ip={m.client_host},port={m.client_port},state=online,offset={offset},lag={lag},type=replica"


def _following(node: Services, view: GroupView) -> list[tuple[str, object]]:
    host, port = "", 0
    for m in view.members:
        if m.node_id == view.leader_id:
            host, port = m.client_host, m.client_port
    return [
        ("master_host", host), ("master_port", port), ("master_link_status", "up" if host else "down"),
        ("master_last_io_seconds_ago", 0 if host else -1), ("master_sync_in_progress", int(view.loading)),
        ("slave_read_repl_offset", view.last_index), ("slave_repl_offset", view.applied_index),
        ("slave_priority", node.settings.replica_priority), ("slave_read_only", 1), ("replica_announced", 1),
        ("connected_slaves", 0),
    ]  # fmt: skip


def _cpu(node: Services) -> Pairs:
    system, user, child_system, child_user = node.instruments.process.cpu_seconds()
    return [
        ("used_cpu_sys", f"{system:.6f}"), ("used_cpu_user", f"{user:.6f}"),
        ("used_cpu_sys_children", f"{child_system:.6f}"), ("used_cpu_user_children", f"{child_user:.6f}"),
        # The log thread's share is within the kernel's answer to fsync; what is left is the loop's.
        ("used_cpu_sys_main_thread", f"{system:.6f}"), ("used_cpu_user_main_thread", f"{user:.6f}"),
    ]  # fmt: skip


def _commandstats(node: Services) -> Pairs:
    stats = node.stats
    out: list[tuple[str, object]] = []
    for row in node.table.all:
        rejected = stats.rejected.get(row.name, 0)
        if row.calls or rejected:
            each = stats.mean_us(row.name)
            told = f"calls={row.calls},usec={round(each * row.calls)},usec_per_call={each:.2f}"
            out.append((f"cmdstat_{row.name}", f"{told},rejected_calls={rejected},failed_calls={row.failed}"))
    return out


def _latencystats(node: Services) -> Pairs:
    stats, words = node.stats, node.settings.latency_tracking_info_percentiles
    if not node.settings.latency_tracking:
        return []
    wanted = [float(word) for word in words]
    out: list[tuple[str, object]] = []
    for row in node.table.all:
        if row.calls:
            spread = zip(words, stats.percentiles_us(row.name, row.calls, wanted), strict=True)
            told = ",".join(f"p{word}={took_us:.3f}" for word, took_us in spread)
            out.append((f"latency_percentiles_usec_{row.name}", told))
    return out


def _errorstats(node: Services) -> Pairs:
    return [(f"errorstat_{prefix}", f"count={count}") for prefix, count in node.stats.error_counts.items()]


def _keyspace(node: Services) -> Pairs:
    now_ms = node.clock.wall_ms()
    return [
        (f"db{db.number}", f"keys={db.size},expires={db.nexp},avg_ttl={_mean_ttl_ms(db, now_ms)}")
        for db in node.ks.dbs
        if db.size
    ]


def _mean_ttl_ms(db: Db, now_ms: int) -> int:
    """Mean time to live over a sample of the deadlines; 0 without any."""
    heap = db.deadlines
    if not db.nexp or not heap:
        return 0
    sample = [heap[at][0] for at in range(0, len(heap), max(1, len(heap) // _TTL_SAMPLES))]
    return max(0, sum(sample) // len(sample) - now_ms)


def _durakv(node: Services, view: GroupView) -> Pairs:
    stats = node.stats
    voters = sum(1 for m in view.members if not m.learner and not m.witness)
    mean = stats.fsync_us // stats.fsyncs if stats.fsyncs else 0
    out: list[tuple[str, object]] = [
        ("durakv_version", text(DURAKV)), ("durakv_cluster_id", view.cluster_id), ("durakv_node_id", view.node_id),
        ("durakv_role", view.role), ("durakv_term", view.term), ("durakv_leader_id", view.leader_id),
        ("durakv_members", len(view.members)), ("durakv_voters", voters), ("durakv_commit_index", view.commit_index),
        ("durakv_applied_index", view.applied_index), ("durakv_last_index", view.last_index),
        ("durakv_durable_index", view.durable_index), ("durakv_log_bytes", view.log_bytes),
        ("durakv_fsync_count", stats.fsyncs), ("durakv_fsync_mean_usec", mean),
        ("durakv_fsync_p99_usec", view.fsync_p99_us or stats.fsync_percentile_us(99)),
        ("durakv_fsync_max_usec", stats.fsync_max_us), ("durakv_reads", node.settings.reads),
        ("durakv_lease_left_ms", view.lease_left_ms), ("durakv_forwarded_requests", stats.forwarded),
        ("durakv_throttled_writes", stats.throttled), ("durakv_unknown_outcomes", stats.unknown_outcomes),
        ("durakv_elections", stats.elections), ("durakv_leader_changes", stats.leader_changes),
        ("durakv_internal_errors", stats.internal_errors),
        ("durakv_writes_refused", view.writable_error or view.copies_refusal or "no"),
    ]  # fmt: skip
    for m in view.members:
        kind = "witness" if m.witness else "learner" if m.learner else "voter"
        address = m.client_host if m.witness else f"{m.client_host}:{m.client_port}"
        told = f"kind={kind},addr={address},connected={int(m.connected)},match={m.match_index},stable={m.stable_index}"
        out.append((f"durakv_member_{m.node_id}", told))
    return out
