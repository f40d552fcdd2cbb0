"""Server commands that depend on the node's state."""

from __future__ import annotations

import pytest

from durakv.commands.server import ALWAYS_SAVED
from durakv.commands.server_debug import DEBUG_OFF
from durakv.config.rewrite import SIGNATURE
from durakv.observe.events import ConfigChanged
from durakv.resp.types import NO_REPLY, OK, Map
from tests.commands.fake_services import FakeNode, error, run, wire


@pytest.fixture
def node():
    return FakeNode()


def test_role_has_valkeys_shapes(node):
    s = node.client()
    for n, member in enumerate(node.view.members):
        member.match_index = 90 + n
    assert run(node, s, "ROLE") == [b"master", 100, [[b"10.0.0.2", b"7002", b"91"], [b"10.0.0.3", b"7003", b"92"]]]
    node.view.role, node.view.leader_id = "follower", 2
    assert run(node, s, "ROLE") == [b"slave", b"10.0.0.2", 7002, b"connected", 100]
    node.view.leader_id = 0
    assert run(node, s, "ROLE") == [b"slave", b"", 0, b"connect", 100]


def test_info_replication_of_a_follower(node):
    node.view.role, node.view.leader_id = "follower", 2
    text = run(node, node.client(), "INFO replication").text.decode()
    assert "role:slave\r\nmaster_host:10.0.0.2\r\nmaster_port:7002\r\nmaster_link_status:up\r\n" in text
    node.view.leader_id = 0
    assert "master_link_status:down" in run(node, node.client(), "INFO replication").text.decode()


def test_info_sections_by_name(node):
    s = node.client()
    text = run(node, s, "INFO server durakv").text.decode()
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# Server", "# Durakv"]
    assert "durakv_term:7\r\n" in text
    assert run(node, s, "INFO keyspace").text == b"# Keyspace\r\n"
    run(node, s, "SET k v")
    assert b"db0:keys=1,expires=0,avg_ttl=0\r\n" in run(node, s, "INFO").text


def test_saving_says_that_all_is_saved(node):
    s = node.client()
    assert run(node, s, "SAVE") is OK
    assert run(node, s, "BGSAVE").text == run(node, s, "BGREWRITEAOF").text == ALWAYS_SAVED
    assert run(node, s, "LASTSAVE") == node.clock.ms // 1000


def test_shutdown_hands_over_unless_in_a_hurry(node):
    s = node.client()
    assert run(node, s, "SHUTDOWN") is NO_REPLY
    run(node, s, "SHUTDOWN NOSAVE NOW")
    run(node, s, "SHUTDOWN FORCE")
    assert node.calls == [("shutdown", True, False), ("shutdown", False, True), ("shutdown", False, True)]


def test_failover_picks_the_named_voter(node):
    s = node.client()
    assert run(node, s, "FAILOVER") is OK
    assert run(node, s, "FAILOVER TO 10.0.0.3 7003 TIMEOUT 100") is OK
    assert node.calls == [("transfer", 0), ("transfer", 3)]
    assert error(node, s, "FAILOVER TO 10.0.0.9 1") == "ERR FAILOVER target HOST and PORT is not a replica."
    node.view.members[1].learner = node.view.members[2].witness = True
    assert error(node, s, "FAILOVER") == "ERR FAILOVER requires connected replicas."
    node.view.role = "follower"
    assert error(node, s, "FAILOVER") == "ERR FAILOVER is not valid when server is a replica."


def test_debug_is_gated(node):
    s = node.client()
    assert error(node, s, "DEBUG SLEEP 0") == DEBUG_OFF
    node.settings.load("enable-debug-command", "local")
    assert run(node, s, "DEBUG SLEEP 0.25") is OK
    assert node.instruments.process.stalled_ms == 250
    s.address = "10.1.1.1:5"
    assert error(node, s, "DEBUG DIGEST") == DEBUG_OFF
    node.settings.load("enable-debug-command", "yes")
    assert wire(node, s, "DEBUG DIGEST") == b"+" + b"0" * 40 + b"\r\n"
    run(node, s, "SET k v")
    assert wire(node, s, "DEBUG OBJECT k") == (
        b"+Value at:0x0 refcount:1 encoding:embstr serializedlength:2 lru:0 lru_seconds_idle:0\r\n"
    )
    assert error(node, s, "DEBUG OBJECT nope") == "ERR no such key"
    state = run(node, s, "DEBUG STATE")
    assert isinstance(state, Map) and state.flat[-1] == b"0123456789abcdef"


def test_config_set_is_told_by_name_and_atomic(node):
    s = node.client()
    assert run(node, s, "CONFIG SET timeout 5 repl-timeout 7") is OK
    assert node.events == [ConfigChanged(("timeout", "repl-timeout"))]
    error(node, s, "CONFIG SET timeout 6 repl-timeout 0")
    assert node.settings.timeout == 5
    assert len(node.events) == 1


def test_config_set_reaches_the_instruments(node):
    s = node.client()
    run(node, s, "CONFIG SET slowlog-log-slower-than 5 slowlog-max-len 1")
    log = node.instruments.slowlog
    for took in (4, 5, 6):
        log.note(took, [b"GET", b"k"], s.address, b"me", 2000)
    reply = run(node, s, "SLOWLOG GET")
    assert reply == [[1, 2, 6, [b"GET", b"k"], b"127.0.0.1:50001", b"me"]]
    assert run(node, s, "COMMANDLOG GET -1 slow") == reply
    assert run(node, s, "COMMANDLOG LEN large-reply") == 0
    assert error(node, s, "COMMANDLOG LEN fast").startswith("ERR type should be one of the following: slow")
    run(node, s, "COMMANDLOG RESET slow")
    assert run(node, s, "SLOWLOG LEN") == 0


def test_config_rewrite_writes_the_file(node):
    class Files:
        text = "# c\ntimeout 1\n"

        def read(self, path):
            assert path == "/etc/durakv.conf"
            return self.text

        def replace(self, path, text):
            self.text = text

    node.settings.files = Files()
    node.settings.config_file = "/etc/durakv.conf"
    s = node.client()
    run(node, s, "CONFIG SET timeout 9 maxmemory 1mb")
    assert run(node, s, "CONFIG REWRITE") is OK
    assert node.settings.files.text == f"# c\ntimeout 9\n{SIGNATURE}\nmaxmemory 1048576\n"


def test_latency_reports(node):
    s = node.client()
    assert b"Switch it on" in run(node, s, "LATENCY DOCTOR").text
    run(node, s, "CONFIG SET latency-monitor-threshold 10")
    node.instruments.latency.note("fsync", 50, 3000)
    node.instruments.latency.note("fsync", 20, 4000)
    assert run(node, s, "LATENCY LATEST") == [[b"fsync", 4, 20, 50, 70, 2]]
    assert run(node, s, "LATENCY HISTORY fsync") == [[3, 50], [4, 20]]
    assert b"fsync: 2 spikes, mean 35 ms, worst 50 ms." in run(node, s, "LATENCY DOCTOR").text
    graph = run(node, s, "LATENCY GRAPH fsync").text.decode().split("\n")
    assert graph[0] == "fsync - high 50 ms, low 20 ms (all time high 50 ms)"
    assert graph[2:7] == ["# ", "| ", "| ", "|_", "  "]
    assert run(node, s, "LATENCY RESET fsync") == 1


def test_memory_usage_grows_with_the_value(node):
    s = node.client()
    run(node, s, [b"SET", b"small", b"x"])
    run(node, s, [b"SET", b"large", b"x" * 10_000])
    small, large = run(node, s, "MEMORY USAGE small"), run(node, s, "MEMORY USAGE large SAMPLES 0")
    assert 40 < small < 200
    assert 10_000 < large < 10_300
    assert run(node, s, "MEMORY USAGE none") is None


def test_memory_reports(node):
    s = node.client()
    run(node, s, "SET k v")
    flat = run(node, s, "MEMORY STATS").flat
    facts = dict(zip(flat[::2], flat[1::2], strict=True))
    assert (facts[b"keys.count"], facts[b"total.allocated"]) == (1, 50 << 20)
    assert b"maxmemory is not set" in run(node, s, "MEMORY DOCTOR").text
    node.settings.set("maxmemory", "1gb")
    assert run(node, s, "MEMORY DOCTOR").text == b"No problem seen.\n"


def test_monitor_begins_and_reset_ends(node):
    s = node.client()
    assert run(node, s, "MONITOR") is OK
    assert list(node.instruments.monitors.watchers) == [s]


def test_command_introspection(node):
    s = node.client()
    assert run(node, s, "COMMAND COUNT") == len(run(node, s, "COMMAND"))
    assert run(node, s, "COMMAND GETKEYS LMPOPLIKE 2 a b LEFT") == [b"a", b"b"]
    (pair,) = run(node, s, "COMMAND GETKEYSANDFLAGS SET k v")
    assert (pair[0], [flag.text for flag in pair[1].items]) == (b"k", [b"OW", b"update"])
    (pair,) = run(node, s, "COMMAND GETKEYSANDFLAGS SET k v GET")
    assert (pair[0], [flag.text for flag in pair[1].items]) == (b"k", [b"RW", b"access", b"update"])
    info = run(node, s, "COMMAND INFO config")[0]
    assert sorted(sub[0] for sub in info[9]) == [b"config|get", b"config|help", b"config|resetstat", b"config|rewrite",
                                                 b"config|set"]  # fmt: skip
    docs = run(node, s, "COMMAND DOCS get nope").flat
    assert docs[0] == b"get"
    assert docs[1].flat[::2] == [b"summary", b"since", b"group", b"complexity", b"arguments"]
    names = run(node, s, "COMMAND LIST FILTERBY ACLCAT pubsub")
    assert b"subscribe" in names
    assert b"get" not in names
    assert error(node, s, "COMMAND GETKEYS SET a") == "ERR Invalid number of arguments specified for command"


def test_a_safe_shutdown_leaves_a_majority(node):
    s = node.client()
    run(node, s, "SHUTDOWN SAFE")
    assert node.calls == [("shutdown", True, False)]
    node.view.members[2].connected = False
    assert error(node, s, "SHUTDOWN SAFE").startswith("ERR SHUTDOWN SAFE: only 1 of 3 voters")
    run(node, s, "SHUTDOWN SAFE FORCE")
    node.view.members = node.view.members[:1]
    run(node, s, "SHUTDOWN NOSAVE SAFE")
    assert node.calls[1:] == [("shutdown", False, True), ("shutdown", True, False)]
