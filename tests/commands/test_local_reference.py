"""Node-local replies against a stock server: same shapes, same texts."""

from __future__ import annotations

import hiredis
import pytest

from durakv.resp.errors import CommandError
from durakv.resp.types import Map
from tests.commands.fake_services import FakeNode, run, wire
from tests.commands.reference_server import needs_newer, running

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def connect():
    with running() as connect:
        yield connect


@pytest.fixture
def node():
    return FakeNode()


def decoded(raw: bytes) -> object:
    reader = hiredis.Reader()
    reader.feed(raw)
    return reader.gets()


SAME = [
    ["PING"], ["PING", "hello"], ["PING", "a", "b"], ["ECHO", "x"], ["ECHO"], ["SELECT", "3"], ["SELECT", "16"],
    ["SELECT", "-1"], ["SELECT", "x"], ["SELECT", "01"], ["SELECT", " 1"], ["CLIENT", "GETNAME"],
    ["CLIENT", "SETNAME", "a b"], ["CLIENT", "SETNAME", "ok"], ["CLIENT", "GETNAME"],
    ["CLIENT", "SETINFO", "lib-name", "x y"], ["CLIENT", "SETINFO", "LIB-VER", "1.2"],
    ["CLIENT", "SETINFO", "nope", "1"], ["CLIENT", "REPLY", "maybe"], ["CLIENT", "NO-EVICT", "maybe"],
    ["CLIENT", "NO-EVICT", "on"], ["CLIENT", "NO-TOUCH", "OFF"], ["CLIENT", "PAUSE", "x"], ["CLIENT", "PAUSE", "-1"],
    ["CLIENT", "PAUSE", "1", "SOME"], ["CLIENT", "UNPAUSE"], ["CLIENT", "UNBLOCK", "x"],
    ["CLIENT", "UNBLOCK", "1", "NO"], ["CLIENT", "UNBLOCK", "123456"], ["CLIENT", "TRACKING", "OFF"],
    ["CLIENT", "TRACKING", "maybe"], ["CLIENT", "TRACKINGINFO"], ["CLIENT", "GETREDIR"],
    ["CLIENT", "CACHING", "yes"], ["CLIENT", "KILL", "1.2.3.4:5"], ["CLIENT", "KILL", "ID", "99999"],
    ["CLIENT", "KILL", "TYPE", "alien"], ["CLIENT", "KILL", "USER", "nobody"], ["CLIENT", "KILL", "SKIPME", "maybe"],
    ["CLIENT", "KILL", "MAXAGE", "0"], ["CLIENT", "KILL", "ID"], ["CLIENT", "LIST", "TYPE", "alien"],
    ["CLIENT", "LIST", "ID", "x"], ["CLIENT", "LIST", "ID"], ["CLIENT", "NOPE"], ["CLIENT"], ["HELLO", "4"],
    ["HELLO", "x"], ["HELLO", "2", "NOPE"], ["HELLO", "2", "AUTH", "default"], ["AUTH", "pw"],
    ["AUTH", "nobody", "pw"], ["AUTH", "a", "b", "c"], ["RESET"], ["ASKING"],
    ["CONFIG", "GET", "maxmemory"], ["CONFIG", "GET", "nope"], ["CONFIG", "GET", "maxmemory-pol*"],
    ["CONFIG", "GET", "client-output-buffer-limit"], ["CONFIG", "SET", "nope", "1"],
    ["CONFIG", "SET", "maxmemory", "10mb"], ["CONFIG", "GET", "maxmemory"], ["CONFIG", "SET", "maxmemory", "lots"],
    ["CONFIG", "SET", "maxmemory", "1", "maxmemory", "2"], ["CONFIG", "SET", "timeout", "-1"],
    ["CONFIG", "SET", "timeout", "x"], ["CONFIG", "SET", "protected-mode", "maybe"],
    ["CONFIG", "SET", "daemonize", "no"],
    ["CONFIG", "SET", "maxmemory", "1", "timeout"], ["CONFIG", "SET", "notify-keyspace-events", "KEA"],
    ["CONFIG", "GET", "notify-keyspace-events"], ["CONFIG", "SET", "notify-keyspace-events", "lsK"],
    ["CONFIG", "GET", "notify-keyspace-events"], ["CONFIG", "SET", "notify-keyspace-events", "Q"],
    ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 2mb 10"],
    ["CONFIG", "GET", "client-output-buffer-limit"], ["CONFIG", "SET", "client-output-buffer-limit", "wrong 1 2 3"],
    ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1 2"], ["CONFIG", "SET", "save", "a b"],
    ["CONFIG", "REWRITE"], ["CONFIG", "RESETSTAT"], ["CONFIG", "NOPE"],
    ["SLOWLOG", "LEN"], ["SLOWLOG", "GET", "-2"], ["SLOWLOG", "RESET"], ["LATENCY", "LATEST"],
    ["LATENCY", "HISTORY", "command"], ["LATENCY", "RESET"], ["LATENCY", "GRAPH", "nope"],
    ["SHUTDOWN", "ABORT"], ["SHUTDOWN", "NOW", "ABORT"], ["SHUTDOWN", "SAVE", "NOSAVE"], ["SHUTDOWN", "LATER"],
    ["FAILOVER", "ABORT"], ["FAILOVER", "TIMEOUT", "0"], ["FAILOVER", "NOPE"],
    ["MODULE", "LIST"], ["BGSAVE", "NOPE"], ["DEBUG", "SLEEP", "0"],
    ["PUBLISH", "c", "m"], ["SPUBLISH", "c", "m"], ["PUBSUB", "CHANNELS"], ["PUBSUB", "CHANNELS", "a", "b"],
    ["PUBSUB", "NUMSUB", "a", "b"], ["PUBSUB", "SHARDNUMSUB", "a"], ["PUBSUB", "NUMPAT"], ["PUBSUB", "NUMSUB"],
    ["ACL", "CAT", "a", "b"], ["ACL", "LOG", "1", "2"], ["CLIENT", "PAUSE", "1", "ALL", "x"],
    ["SLOWLOG", "GET", "1", "2"],
    ["CLUSTER", "NOPE"],
    ["ACL", "WHOAMI"], ["ACL", "USERS"], ["ACL", "LIST"], ["ACL", "GETUSER", "nobody"], ["ACL", "GETUSER", "default"],
    ["ACL", "DELUSER", "default"], ["ACL", "DELUSER", "nobody"], ["ACL", "CAT", "nope"], ["ACL", "GENPASS", "0"],
    ["ACL", "GENPASS", "5000"], ["ACL", "LOG", "x"], ["ACL", "LOG", "RESET"], ["ACL", "LOG"], ["ACL", "LOAD"],
    ["ACL", "SETUSER", "a b"], ["ACL", "SETUSER", "u", "+nope"], ["ACL", "SETUSER", "u", "(+get"],
    ["ACL", "DRYRUN", "nobody", "get", "x"], ["ACL", "DRYRUN", "default", "nope"],
    ["ACL", "DRYRUN", "default", "get", "x"], ["ACL", "DRYRUN", "default", "get"],
    ["COMMAND", "GETKEYS", "GET"], ["COMMAND", "GETKEYS", "PING"], ["COMMAND", "GETKEYS", "NOPE"],
    ["COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"], ["COMMAND", "LIST", "FILTERBY", "NOPE", "x"],
    ["COMMAND", "LIST", "x"], ["COMMAND", "INFO", "nope"], ["COMMAND", "DOCS", "nope"],
    ["COMMAND", "LIST", "FILTERBY", "PATTERN", "ech*"], ["COMMAND", "LIST", "FILTERBY", "ACLCAT", "nope"],
    ["MEMORY", "USAGE", "nokey"], ["MEMORY", "USAGE", "k", "SAMPLES"], ["MEMORY", "USAGE", "k", "SAMPLES", "-1"],
    ["TIME", "x"], ["MULTI", "x"],
]  # fmt: skip


def test_replies_are_the_same(connect, node):
    reference = connect()
    needs_newer(reference, "that local replies are the same")
    s = node.client()
    different = []
    for argv in SAME:
        expected = reference(*argv)
        actual = decoded(wire(node, s, [word.encode() for word in argv]))
        if isinstance(expected, Exception) and isinstance(actual, Exception):
            expected, actual = str(expected), str(actual)
        if argv[:2] == ["CONFIG", "GET"] and isinstance(expected, list) and isinstance(actual, list):
            expected = dict(zip(expected[::2], expected[1::2], strict=True))
            actual = dict(zip(actual[::2], actual[1::2], strict=True))
        if expected != actual:
            different.append((argv, expected, actual))
    assert not different, "\n".join(map(repr, different))


ACL_RULES = [
    ["on", "nopass", "+@all", "~*", "&*"], ["on", ">pw", "+get", "+set", "~a:*", "~b:*"], ["reset", "+@string", "-set"],
    ["+@all", "-@dangerous", "+config|get"], ["-@all", "+client|list", "+client"], ["+client", "-client|kill"],
    ["allcommands", "-@admin", "-get", "+@read"], ["%R~r:*", "%W~w:*", "%RW~rw:*", "~x"], ["~*", "~a"],
    ["resetkeys", "~a", "allkeys"], ["&news.*", "&chat"], ["allchannels", "&x"], ["#" + "a" * 64],
    ["!" + "b" * 64], ["<nope"], ["#abc"], ["+select|0"], ["+client|list|x"], ["+debug|"], ["+@nope"], ["-nope"],
    ["%X~a"], ["~a b"], ["skip-sanitize-payload", "off"], ["(+get ~x:*)"], ["(+get", "~y:*)", "(+set ~z)"],
    ["clearselectors", "on"], ["nonsense"], ["+GET", "+Config|Set", "-@READ"], [""], ["-@all", "+@connection", "-auth"],
]  # fmt: skip


def test_acl_rules_are_described_the_same(connect, node):
    reference = connect()
    needs_newer(reference, "how ACL rules are described")
    s = node.client()
    different = []
    for n, rules in enumerate(ACL_RULES):
        for user in (f"fresh{n}", "kept"):
            for argv in (["ACL", "SETUSER", user, *rules], ["ACL", "GETUSER", user], ["ACL", "LIST"]):
                expected = reference(*argv)
                actual = decoded(wire(node, s, [word.encode() for word in argv]))
                if isinstance(expected, Exception) or isinstance(actual, Exception):
                    expected, actual = str(expected), str(actual)
                if expected != actual:
                    different.append((argv, expected, actual))
    assert not different, "\n".join(map(repr, different))


def test_acl_dryrun_agrees(connect, node):
    reference = connect()
    needs_newer(reference, "ACL DRYRUN")
    s = node.client()
    setups = [
        ["+get", "~a*"], ["+@all", "%R~a*"], ["+@all", "%W~a*"], ["+@all", "&c*"],
        ["+set", "+get", "~a", "(+mset ~b*)"],
        ["+config|get", "+@all", "-config"], ["+@all", "~*", "resetchannels"], ["-@all"], ["+select|1"],
    ]  # fmt: skip
    asked = [
        ["get", "a1"], ["get", "b"], ["set", "a", "1"], ["set", "a", "1", "GET"], ["mset", "b1", "1", "b2", "2"],
        ["mset", "b1", "1", "a", "2"], ["publish", "c1", "m"], ["publish", "d", "m"], ["subscribe", "c1", "x"],
        ["psubscribe", "c*"], ["psubscribe", "c1"], ["unsubscribe", "zz"], ["config", "get", "x"],
        ["config", "set", "x", "1"], ["ping"], ["auth", "x"], ["select", "1"], ["select", "2"], ["ssubscribe", "c"],
    ]  # fmt: skip
    different = []
    for n, rules in enumerate(setups):
        name = f"dry{n}"
        assert reference("ACL", "SETUSER", name, "reset", *rules) == b"OK"
        ours = [b"ACL", b"SETUSER", name.encode(), b"reset", *[rule.encode() for rule in rules]]
        assert decoded(wire(node, s, ours)) == b"OK"
        for argv in asked:
            full = ["ACL", "DRYRUN", name, *argv]
            expected = reference(*full)
            actual = decoded(wire(node, s, [word.encode() for word in full]))
            if str(expected) != str(actual):
                different.append((rules, argv, expected, actual))
    assert not different, "\n".join(map(repr, different))


def test_hello_names_the_same_facts(connect, node):
    reference = connect()
    expected = reference("HELLO", "2")
    actual = run(node, node.client(), "HELLO 2")
    assert isinstance(actual, Map)
    assert actual.flat[::2] == expected[::2]
    assert actual.flat[1] in {b"valkey", b"redis"}


def test_client_list_lines_have_every_field_in_order(connect, node):
    reference = connect()
    expected = [field.partition("=")[0] for field in reference("CLIENT", "INFO").decode().split()]
    actual = [field.partition("=")[0] for field in run(node, node.client(), "CLIENT INFO").text.decode().split()]
    assert [name for name in actual if name in expected] == expected


def test_info_has_the_lines_tools_read(connect, node):
    reference = connect()
    lines = reference("INFO", "everything").decode().splitlines()
    expected = {line for line in lines if line.startswith("#")}
    actual = set(run(node, node.client(), "INFO everything").text.decode().splitlines())
    assert expected <= {line for line in actual if line.startswith("#")}
    names = {line.partition(":")[0] for line in lines if ":" in line}
    have = {line.partition(":")[0] for line in actual if ":" in line}
    must = ("redis_version run_id tcp_port uptime_in_seconds connected_clients used_memory used_memory_rss maxmemory "
            "loading aof_enabled total_commands_processed keyspace_hits role master_replid cluster_enabled "
            "used_cpu_sys").split()  # fmt: skip
    assert set(must) <= names & have


def test_command_info_is_the_same_for_local_commands(connect, node):
    reference = connect()
    s = node.client()
    different = []
    for name in ("ping", "echo", "auth", "subscribe", "client|list", "config|set", "role", "time", "shutdown"):
        expected = reference("COMMAND", "INFO", name)[0]
        actual = decoded(wire(node, s, f"COMMAND INFO {name}"))[0]
        # Tips and flags moved between versions; name, arity, keys and shape did not.
        if expected[:2] + expected[3:6] != actual[:2] + actual[3:6] or len(expected) != len(actual):
            different.append((name, expected, actual))
        if set(expected[6]) != set(actual[6]):
            different.append((name, expected[6], actual[6]))
    assert not different, "\n".join(map(repr, different))


def test_subscriber_messages_are_the_same_bytes(connect, node):
    listener, publisher = connect(), connect()
    s, p = node.client(), node.client()
    for argv in (["SUBSCRIBE", "a", "b"], ["PSUBSCRIBE", "a*"], ["SSUBSCRIBE", "sh"]):
        assert decoded_all(wire(node, s, " ".join(argv))) == [listener(*argv), *more(listener, len(argv) - 2)]
    assert publisher("PUBLISH", "a", "m") == run(node, p, "PUBLISH a m")
    assert publisher("SPUBLISH", "sh", "m") == run(node, p, "SPUBLISH sh m")
    ours = decoded_all(b"".join(s.out))
    assert ours == more(listener, 3)


def decoded_all(raw: bytes) -> list[object]:
    reader = hiredis.Reader()
    reader.feed(raw)
    out = []
    while (reply := reader.gets()) is not False:
        out.append(reply)
    return out


def more(reference, count: int) -> list[object]:
    out: list[object] = []
    while len(out) < count:
        reply = reference.reader.gets()
        if reply is False:
            reference.reader.feed(reference.sock.recv(65536))
        else:
            out.append(reply)
    return out


def test_errors_are_command_errors(node):
    assert isinstance(run(node, node.client(), "CONFIG SET nope 1"), CommandError)
