"""INFO, MEMORY STATS and what monitoring tools read of them; against a live valkey-server where it says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from durakv.commands.table import build_table
from tests.commands.fake_services import FakeNode, run
from tests.commands.reference_server import running
from tests.engine.rig import Rig

# What each asks for by name; lines whose names hold a command, a database or a node are looked for below.
REDIS_EXPORTER = """
    uptime_in_seconds process_id io_threads_active connected_clients blocked_clients maxclients tracking_clients
    clients_in_timeout_table pubsub_clients watching_clients total_watched_keys total_blocking_keys
    total_blocking_keys_on_nokey client_recent_max_output_buffer client_recent_max_input_buffer allocator_active
    allocator_allocated allocator_resident allocator_frag_ratio allocator_frag_bytes allocator_muzzy allocator_rss_ratio
    allocator_rss_bytes used_memory used_memory_rss used_memory_peak used_memory_lua used_memory_vm_eval
    used_memory_scripts_eval used_memory_overhead used_memory_startup used_memory_dataset number_of_cached_scripts
    number_of_functions number_of_libraries used_memory_vm_functions used_memory_scripts used_memory_functions
    used_memory_vm_total maxmemory mem_fragmentation_ratio mem_fragmentation_bytes mem_clients_slaves mem_clients_normal
    mem_cluster_links mem_aof_buffer mem_replication_backlog mem_total_replication_buffers
    mem_overhead_db_hashtable_rehashing rss_overhead_ratio rss_overhead_bytes mem_not_counted_for_evict
    expired_stale_perc lazyfree_pending_objects lazyfreed_objects active_defrag_running migrate_cached_sockets
    active_defrag_hits active_defrag_misses active_defrag_key_hits active_defrag_key_misses loading async_loading
    rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status
    rdb_last_bgsave_time_sec
    rdb_current_bgsave_time_sec rdb_saves rdb_last_cow_size rdb_last_load_keys_expired rdb_last_load_keys_loaded
    aof_enabled aof_rewrite_in_progress aof_rewrite_scheduled aof_last_rewrite_time_sec aof_current_rewrite_time_sec
    aof_last_cow_size aof_current_size aof_base_size aof_pending_rewrite aof_buffer_length aof_pending_bio_fsync
    aof_delayed_fsync aof_last_bgrewrite_status aof_last_write_status module_fork_in_progress module_fork_last_cow_size
    current_eviction_exceeded_time pubsub_channels pubsub_patterns pubsubshard_channels total_connections_received
    total_commands_processed instantaneous_ops_per_sec total_net_input_bytes total_net_output_bytes
    total_net_repl_input_bytes total_net_repl_output_bytes instantaneous_input_kbps instantaneous_output_kbps
    instantaneous_input_repl_kbps instantaneous_output_repl_kbps rejected_connections sync_full sync_partial_ok
    sync_partial_err expired_keys expired_time_cap_reached_count expire_cycle_cpu_milliseconds evicted_keys
    evicted_clients evicted_scripts total_eviction_exceeded_time keyspace_hits keyspace_misses latest_fork_usec
    total_forks slave_expires_tracked_keys total_active_defrag_time current_active_defrag_time tracking_total_keys
    tracking_total_items tracking_total_prefixes unexpected_error_replies total_error_replies dump_payload_sanitizations
    total_reads_processed total_writes_processed io_threaded_reads_processed io_threaded_writes_processed
    client_query_buffer_limit_disconnections client_output_buffer_limit_disconnections reply_buffer_shrinks
    reply_buffer_expands eventloop_cycles eventloop_duration_sum eventloop_duration_cmd_sum
    instantaneous_eventloop_cycles_per_sec instantaneous_eventloop_duration_usec acl_access_denied_auth
    acl_access_denied_cmd acl_access_denied_key acl_access_denied_channel role connected_slaves master_repl_offset
    second_repl_offset repl_backlog_active repl_backlog_size repl_backlog_first_byte_offset repl_backlog_histlen
    used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children used_cpu_sys_main_thread
    used_cpu_user_main_thread cluster_enabled redis_version os
"""
DATADOG = """
    aof_last_rewrite_time_sec aof_rewrite_in_progress aof_current_size aof_buffer_length connected_clients
    connected_slaves
    rejected_connections blocked_clients maxclients evicted_keys expired_keys latest_fork_usec pubsub_channels
    pubsub_patterns rdb_bgsave_in_progress rdb_changes_since_last_save rdb_last_bgsave_time_sec mem_fragmentation_ratio
    used_memory used_memory_lua used_memory_peak used_memory_rss used_memory_startup used_memory_overhead maxmemory
    instantaneous_ops_per_sec total_commands_processed total_connections_received total_net_input_bytes
    total_net_output_bytes used_cpu_sys used_cpu_sys_children used_cpu_user used_cpu_user_children
    used_cpu_user_main_thread
    used_cpu_sys_main_thread keyspace_hits keyspace_misses active_defrag_running active_defrag_hits active_defrag_misses
    active_defrag_key_hits active_defrag_key_misses master_repl_offset repl_backlog_histlen role redis_version
"""
REDISINSIGHT = """
    redis_version uptime_in_days uptime_in_seconds used_memory used_memory_human connected_clients
    instantaneous_ops_per_sec instantaneous_input_kbps instantaneous_output_kbps total_commands_processed
    used_cpu_sys used_cpu_user keyspace_hits keyspace_misses role number_of_cached_scripts os arch_bits maxmemory
    maxmemory_policy total_system_memory cluster_enabled
"""


def lines(text: str) -> dict[str, dict[str, str]]:
    """Section to name to value."""
    out: dict[str, dict[str, str]] = {}
    section = ""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if line.startswith("# "):
            section = line[2:]
            out[section] = {}
        elif colon:
            out[section][name] = value
    return out


@pytest.fixture(scope="module")
def reference() -> Iterator[Any]:
    with running() as connect:
        talk = connect()
        if b"valkey_version" not in talk("INFO", "server"):
            pytest.skip("needs valkey-server on PATH")
        yield talk


def shown(*words: str) -> dict[str, dict[str, str]]:
    node = FakeNode(build_table())
    return lines(run(node, node.client(), " ".join(("INFO", *words))).text.decode())  # type: ignore[attr-defined]


@pytest.mark.parametrize("tool", [REDIS_EXPORTER, DATADOG, REDISINSIGHT], ids=["exporter", "datadog", "insight"])
def test_tools_find_what_they_read(tool: str) -> None:
    have = {name for section in shown("everything").values() for name in section}
    assert [name for name in tool.split() if name not in have] == []


@pytest.mark.live
def test_every_line_of_valkey_is_there(reference: Any) -> None:
    ours, theirs = shown("everything"), lines(reference("INFO", "everything").decode())
    assert list(theirs) == [section for section in ours if section in theirs]
    missing = [
        (section, name)
        for section, told in theirs.items()
        if section not in {"Commandstats", "Latencystats", "Errorstats", "Keyspace"}
        for name in told
        if name not in ours[section]
    ]
    assert missing == []


@pytest.mark.live
def test_lines_have_the_form_of_valkeys(reference: Any) -> None:
    rig = Rig()
    a = rig.client()
    reference("FLUSHALL")
    for words in ("SET k v", "SET e v PX 60000", "SORT nope", "GET k"):
        reference(*words.split())
        rig.ask(a, words)
    (text,) = rig.ask(a, "INFO everything")
    ours, theirs = lines(text.decode()), lines(reference("INFO", "everything").decode())  # type: ignore[attr-defined]
    for section, name in (("Commandstats", "cmdstat_set"), ("Latencystats", "latency_percentiles_usec_sort"),
                          ("Keyspace", "db0"), ("Latencystats", "latency_percentiles_usec_set")):  # fmt: skip
        shape = [part.partition("=")[0] for part in theirs[section][name].split(",")]
        assert [part.partition("=")[0] for part in ours[section][name].split(",")] == shape
    assert ours["Keyspace"]["db0"].startswith("keys=2,expires=1,avg_ttl=")
    assert 50_000 < int(ours["Keyspace"]["db0"].rpartition("=")[2]) <= 60_000
    for section, told in theirs.items():
        for name, value in told.items():
            if name.endswith(("_ratio", "_perc")) and name in ours[section]:
                assert ours[section][name].endswith("%") == value.endswith("%"), name


def test_a_pause_is_told() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "CLIENT PAUSE 5000 WRITE")
    told = lines(run_info(rig, a))["Clients"]
    assert (told["paused_reason"], told["paused_actions"]) == ("client_pause", "write")
    assert 4000 < int(told["paused_timeout_milliseconds"]) <= 5000
    rig.ask(a, "CLIENT UNPAUSE")
    told = lines(run_info(rig, a))["Clients"]
    assert (told["paused_reason"], told["paused_actions"], told["paused_timeout_milliseconds"]) == ("none", "none", "0")


def run_info(rig: Rig, client: Any) -> str:
    (text,) = rig.ask(client, "INFO clients")
    assert isinstance(text, bytes)
    return text.decode()


def test_redis_mode_is_told_to_those_who_want_redis() -> None:
    node = FakeNode()
    node.settings.set("extended-redis-compatibility", "yes")
    text = run(node, node.client(), "INFO server").text.decode()  # type: ignore[attr-defined]
    assert "redis_mode:standalone" in text and "server_mode" not in text


@pytest.mark.live
def test_memory_stats_have_the_names_and_types_of_valkeys(reference: Any) -> None:
    reference("SET", "k", "v")
    flat = reference("MEMORY", "STATS")
    theirs = dict(zip(flat[::2], flat[1::2], strict=True))
    node = FakeNode()
    s = node.client()
    run(node, s, "SET k v")
    ours_flat = run(node, s, "MEMORY STATS").flat  # type: ignore[attr-defined]
    ours = dict(zip(ours_flat[::2], ours_flat[1::2], strict=True))
    assert [name for name in theirs if name not in ours and not name.startswith(b"db.")] == []
    assert [name for name in ours if name in theirs] == [name for name in theirs if name in ours]
    for name, value in theirs.items():
        if name in ours and not name.startswith(b"db."):
            # A double is a string in RESP2.
            assert isinstance(ours[name], int) == isinstance(value, int), name
    assert ours[b"keys.count"] == 1 and ours[b"total.allocated"] >= ours[b"dataset.bytes"] >= 0
