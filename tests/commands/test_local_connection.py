"""HELLO, AUTH, RESET, CLIENT and friends on a fake node."""

from __future__ import annotations

import pytest

from durakv.commands.connection import HELLO_NOAUTH
from durakv.resp.types import NO_REPLY, OK, PONG, Map, Verbatim
from tests.commands.fake_services import FakeNode, error, run, wire


@pytest.fixture
def node():
    return FakeNode()


def flat(reply) -> dict:
    assert isinstance(reply, Map)
    return dict(zip(reply.flat[::2], reply.flat[1::2], strict=True))


def test_hello_switches_protocol_and_names(node):
    s = node.client()
    facts = flat(run(node, s, "HELLO 3 SETNAME me"))
    assert (facts[b"proto"], facts[b"role"], facts[b"mode"], facts[b"id"]) == (3, b"master", b"standalone", s.id)
    assert (s.protocol, s.name) == (3, b"me")
    assert flat(run(node, s, "HELLO"))[b"proto"] == 3
    node.view.role = "follower"
    assert flat(run(node, s, "HELLO"))[b"role"] == b"replica"


def test_hello_changes_nothing_when_it_fails(node):
    s = node.client()
    error(node, s, "HELLO 3 SETNAME me AUTH nobody pw")
    error(node, s, "HELLO 3 NOPE")
    assert (s.protocol, s.name) == (2, b"")


def test_hello_logs_in(node):
    node.settings.set("requirepass", "pw")
    s = node.client()
    assert error(node, s, "HELLO 3") == HELLO_NOAUTH
    assert flat(run(node, s, "HELLO 3 AUTH default pw"))[b"proto"] == 3
    assert s.user is node.acl.default
    assert s.authenticated


def test_hello_tells_the_zone_only_when_set(node):
    s = node.client()
    assert b"availability_zone" not in flat(run(node, s, "HELLO"))
    node.settings.set("availability-zone", "eu-1")
    assert flat(run(node, s, "HELLO"))[b"availability_zone"] == b"eu-1"


def test_ping_in_subscriber_mode(node):
    s = node.client()
    assert run(node, s, "PING") is PONG
    run(node, s, "SUBSCRIBE c")
    assert run(node, s, "PING") == [b"pong", b""]
    assert run(node, s, "PING x") == [b"pong", b"x"]
    s.protocol = 3
    assert run(node, s, "PING") is PONG


def test_select_outside_database_zero_needs_standalone(node):
    s = node.client()
    assert run(node, s, "SELECT 15") is OK
    assert s.db == 15
    node.settings.cluster_enabled = True
    assert error(node, s, "SELECT 1") == "ERR SELECT is not allowed in cluster mode"
    assert run(node, s, "SELECT 0") is OK


def test_quit_answers_then_closes(node):
    s = node.client()
    assert wire(node, s, "QUIT") == b"+OK\r\n"
    assert s.sink.closed


def test_reset_returns_to_the_first_state(node):
    s = node.client(3)
    run(node, s, "CLIENT SETNAME me")
    run(node, s, "CLIENT SETINFO lib-name lib")
    run(node, s, "SUBSCRIBE a")
    run(node, s, "PSUBSCRIBE b*")
    run(node, s, "SSUBSCRIBE c")
    run(node, s, "MULTI")
    run(node, s, "SELECT 4")
    run(node, s, "READONLY")
    run(node, s, "MONITOR")
    s.watched = {(0, b"k"): 5}
    node.settings.set("requirepass", "pw")
    assert wire(node, s, "RESET") == b"".join(s.out) + b"+RESET\r\n"
    assert (s.protocol, s.db, s.name, s.multi, s.readonly, s.watched) == (2, 0, b"", None, False, {})
    assert s.lib_name == b"lib"
    assert not s.in_pubsub()
    assert not node.pubsub.channels
    assert not node.instruments.monitors.watchers
    assert s.user is None


def test_client_reply(node):
    s = node.client()
    assert run(node, s, "CLIENT REPLY SKIP") is NO_REPLY
    assert s.reply_mode == b"skip"
    assert run(node, s, "CLIENT REPLY OFF") is NO_REPLY
    assert run(node, s, "CLIENT REPLY SKIP") is NO_REPLY
    assert s.reply_mode == b"off"
    assert run(node, s, "CLIENT REPLY ON") is OK
    assert s.reply_mode == b"on"


def ids(node, s, command: str) -> list[int]:
    reply = run(node, s, command)
    assert isinstance(reply, Verbatim)
    text = reply.text.decode()
    return [int(line.split()[0].removeprefix("id=")) for line in text.splitlines()]


def test_client_list_filters(node):
    a, b, c = node.client(), node.client(), node.client(3)
    b.db, b.name, b.lib_name = 2, b"bee", b"lib"
    c.created_ms -= 60_000
    c.last_ms -= 30_000
    run(node, c, "SUBSCRIBE x")
    run(node, a, "ACL SETUSER bob on nopass +@all")
    run(node, b, "AUTH bob x")
    for command, expected in (
        ("CLIENT LIST", [1, 2, 3]), ("CLIENT LIST ID 2 3", [2, 3]), ("CLIENT LIST NOT-ID 2", [1, 3]),
        ("CLIENT LIST TYPE pubsub", [3]), ("CLIENT LIST TYPE normal", [1, 2]), ("CLIENT LIST TYPE replica", []),
        ("CLIENT LIST USER bob", [2]), ("CLIENT LIST NOT-USER bob", [1, 3]), ("CLIENT LIST DB 2", [2]),
        ("CLIENT LIST NAME bee", [2]), ("CLIENT LIST LIB-NAME lib", [2]), ("CLIENT LIST ADDR 127.0.0.1:50003", [3]),
        ("CLIENT LIST IP 127.0.0.1 SKIPME YES", [2, 3]), ("CLIENT LIST MAXAGE 60", [3]), ("CLIENT LIST IDLE 31", []),
        ("CLIENT LIST FLAGS P", [3]), ("CLIENT LIST NOT-FLAGS P", [1, 2]), ("CLIENT LIST CAPA r", []),
        ("CLIENT LIST ID 1 2 DB 2", [2]),
    ):  # fmt: skip
        assert ids(node, a, command) == expected, command
    assert error(node, a, "CLIENT LIST USER nobody") == "ERR No such user 'nobody'"
    assert error(node, a, "CLIENT LIST FLAGS Z") == "ERR Unknown flags found in the provided filter: Z"
    assert error(node, a, "CLIENT LIST NOPE x") == "ERR syntax error"


def test_client_kill(node):
    a, b, c = node.client(), node.client(), node.client()
    assert run(node, a, "CLIENT KILL ID 1 2") == 1
    assert (a.sink.killed, b.sink.killed, c.sink.killed) == (False, True, False)
    assert run(node, a, "CLIENT KILL 127.0.0.1:50003") is OK
    assert c.sink.killed
    assert wire(node, a, "CLIENT KILL ID 1 SKIPME NO") == b":1\r\n"
    assert a.sink.closed
    assert not a.sink.killed


def test_client_line_tells_the_state(node):
    s = node.client(3)
    s.bytes_in, s.commands, s.last_row = 30, 4, node.table.find([b"CLIENT", b"INFO"])
    run(node, s, "MULTI")
    s.multi.append((node.table.lookup(b"SET"), [b"set", b"k", b"v"]))
    line = run(node, s, "CLIENT INFO").text.decode()
    assert line.startswith("id=1 addr=127.0.0.1:50001 laddr=127.0.0.1:6379 fd=-1 name= age=0 idle=0 flags=x capa= ")
    assert " argv-mem=10 multi-mem=5 " in line and " events=r cmd=client|info user=default " in line
    assert " multi=1 watch=0 " in line
    assert " multi-mem=5 " in line
    assert line.endswith(" resp=3 lib-name= lib-ver= tot-net-in=30 tot-net-out=0 tot-cmds=4\n")


def test_engine_is_asked_for_what_only_it_can_do(node):
    s, parked = node.client(), node.client()
    parked.blocked = True
    run(node, s, "CLIENT PAUSE 500 WRITE")
    run(node, s, "CLIENT PAUSE 0")
    run(node, s, "CLIENT UNPAUSE")
    assert run(node, s, "CLIENT UNBLOCK 2 ERROR") == 1
    assert run(node, s, "CLIENT UNBLOCK 1") == 0
    now_ms = node.clock.ms
    assert node.calls == [("pause", now_ms + 500, True), ("pause", now_ms, False), ("unpause",),
                          ("unblock", 2, True), ("unblock", 1, False)]  # fmt: skip


def test_what_is_not_offered_says_so(node):
    s = node.client()
    assert error(node, s, "CLIENT IMPORT-SOURCE ON") == "ERR Server is not in import mode"
    node.settings.set("replica-serve-stale-reads", "no")
    assert "replica-serve-stale-reads" in error(node, s, "READONLY")
    assert not s.readonly


def test_every_help_is_an_array_of_simple_strings(node):
    s = node.client()
    for container in ("CLIENT", "CONFIG", "ACL", "CLUSTER", "COMMAND", "PUBSUB", "SLOWLOG", "LATENCY", "MEMORY",
                      "MODULE", "COMMANDLOG"):  # fmt: skip
        reply = wire(node, s, f"{container} HELP")
        assert reply.startswith(b"*")
        assert f"+{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n".encode() in reply
        subs = {name.partition("|")[2] for name in node.table.by_name if name.startswith(container.lower() + "|")}
        assert subs
