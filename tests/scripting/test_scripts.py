"""EVAL and its kin in a node: routes, limits, what is taken back, what travels with a request."""

from __future__ import annotations

import pytest

from durakv.keyspace.digest import digest
from durakv.scripting.programs import EVAL_SCRIPTS_MAX, sha1
from tests.engine.rig import Client, Rig
from tests.replication.test_forward import Pair as Nodes
from tests.scripting.replay import replayed

ATOMIC = {"scripts_atomic": "yes"}


def ask(rig: Rig, client: Client, *words: str | bytes | int) -> object:
    argv = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    (reply,) = rig.ask(client, argv)
    return reply


def same_elsewhere(rig: Rig) -> None:
    # Directives of the other node must not matter.
    copy = replayed(rig, script_max_instructions="10000", scripts_atomic="no", maxmemory="1")
    assert digest(copy.ks) == digest(rig.ks)


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "while true do end",
        "local s = string.rep('x', 100000) while true do s:upper() end",
        "local s = string.rep('x', 100000) while true do pcall(string.gsub, s, 'y', 'z') end",
        "local t = {} for i = 1, 10000 do t[i] = i end while true do table.insert(t, 1, 1) table.remove(t, 1) end",
        "local t = {} for i = 1, 10000 do t[i] = i end while true do table.sort(t) end",
        "local t = {} for i = 1, 10000 do t[i] = 'x' end while true do table.concat(t) end",
 "repeat until false",
        "while true do pcall(error) end", "while true do pcall(function() while true do end end) end",
        "local c = coroutine.wrap(function() while true do end end) c()",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "while true do redis.pcall('PING') end", "while true do string.rep('x', 100000) end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "return setmetatable({}, {__index=function() while true do end end}).x",
        "string.gsub(string.rep('x', 100), '.', function() while true do end end)",
        "table.sort({1,2,3}, function() while true do end end)", "load(function() while true do end end)",
    ],
)  # fmt: skip
def test_a_script_that_never_ends_is_stopped_and_the_next_one_runs(body: str) -> None:
    rig = Rig(script_max_instructions="300000")
    client = rig.client()
    reply = str(ask(rig, client, "EVAL", f"redis.call('SET','k','v') {body}", 0))
    assert reply.startswith("ERR Script stopped after script-max-instructions (300000) Lua instructions"), reply
    assert ask(rig, client, "GET", "k") == b"v"
    assert ask(rig, client, "EVAL", "return 'alive'", 0) == b"alive"
    assert ask(rig, client, "SCRIPT", "KILL") == "NOTBUSY No scripts in execution right now."
    assert ask(rig, client, "FUNCTION", "KILL") == "NOTBUSY No scripts in execution right now."
    same_elsewhere(rig)


@pytest.mark.parametrize(
    "body",
    [
        "local t = {} while true do t[#t+1] = string.rep('x', 100000) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do pcall(function() t[#t+1] = string.rep('x', 100000) .. #t end) end",
        "local t = {} for i = 1, 1e7 do t[i] = {} end",
        "local t = {} for i = 1, 200 do t[i] = redis.call('GET', 'big') .. i end return #t",
    ],
)  # fmt: skip
def test_a_script_that_needs_too_much_memory_is_stopped(body: str) -> None:
    rig = Rig(script_max_memory="8mb")
    client = rig.client()
    ask(rig, client, "SET", "big", "x" * 500_000)
    reply = str(ask(rig, client, "EVAL", f"redis.call('SET','k','v') {body}", 0))
    assert reply.startswith("ERR the script needs more memory than script-max-memory (8388608 bytes) allows"), reply
    assert ask(rig, client, "EVAL", "return 'alive'", 0) == b"alive"
    same_elsewhere(rig)


def test_garbage_does_not_count() -> None:
    rig = Rig(script_max_memory="8mb")
    client = rig.client()
    text = "local n = 0 for i = 1, 3000 do n = n + #(string.rep('x', 20000) .. i) end return n > 0"
    assert ask(rig, client, "EVAL", text, 0) == 1


def test_earlier_scripts_do_not_decide_what_fits() -> None:
    text = "local t = {} for i = 1, 55000 do t[i] = {i} end return #t"
    fresh = Rig(script_max_memory="8mb")
    used = Rig(script_max_memory="8mb")
    client = used.client()
    for i in range(300):
        ask(used, client, "EVAL", f"local t = {{}} for i = 1, 2000 do t[i] = 'x' .. i end return {i}", 0)
    assert ask(used, client, "EVAL", text, 0) == ask(fresh, fresh.client(), "EVAL", text, 0)


# -- what is taken back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["error('x')", "redis.call('NOSUCH')", "redis.call('INCR','l')", "while true do end",
                                  "return 1 + {}", "redis.call('SET','k','v','XX','NX')"])  # fmt: skip
@pytest.mark.parametrize("atomic", ["yes", "no"])
def test_a_failing_script_leaves_nothing_when_scripts_are_atomic(body: str, atomic: str) -> None:
    rig = Rig(scripts_atomic=atomic, script_max_instructions="100000")
    client = rig.client()
    ask(rig, client, "RPUSH", "l", "a")
    ask(rig, client, "SET", "old", "1")
    text = f"redis.call('SET','old','2') redis.call('LPUSH','l','b') redis.call('DEL','l2') {body}"
    ask(rig, client, "EVAL", "return 1", 0)
    assert isinstance(ask(rig, client, "EVAL", text, 0), str)
    changed = atomic == "no"
    assert ask(rig, client, "GET", "old") == (b"2" if changed else b"1")
    assert ask(rig, client, "LRANGE", "l", 0, -1) == ([b"b", b"a"] if changed else [b"a"])
    same_elsewhere(rig)


def test_an_error_reply_a_script_returns_is_no_failure() -> None:
    rig = Rig(**ATOMIC)  # type: ignore[arg-type]
    client = rig.client()
    assert ask(rig, client, "EVAL", "redis.call('SET','k','v') return redis.error_reply('MY no')", 0) == "MY no"
    assert ask(rig, client, "GET", "k") == b"v"


def test_a_command_that_fails_within_a_script_leaves_nothing_of_itself() -> None:
    rig = Rig()
    client = rig.client()
    ask(rig, client, "ZADD", "z", 1, "a")
    text = "redis.pcall('ZADD','z','5','a','x','b') redis.pcall('GETSET','z','x') return redis.call('ZSCORE','z','a')"
    assert ask(rig, client, "EVAL", text, 0) == b"1"
    same_elsewhere(rig)


def test_answers_without_data_mind_their_arguments() -> None:
    rig = Rig()
    client = rig.client()
    text = "local r = redis.pcall(unpack(ARGV)) if type(r) == 'table' then return r.ok or r.err end return r"
    assert ask(rig, client, "EVAL", text, 0, "PING") == b"PONG"
    assert ask(rig, client, "EVAL", text, 0, "PING", "a") == b"a"
    assert ask(rig, client, "EVAL", text, 0, "PING", "a", "b") == b"ERR wrong number of arguments for 'ping' command"


def test_messages_are_sent_once_and_only_when_the_script_ends_well_if_atomic() -> None:
    rig = Rig(**ATOMIC)  # type: ignore[arg-type]
    client, listener = rig.client(), rig.client()
    rig.ask(listener, "SUBSCRIBE c")
    ask(rig, client, "EVAL", "redis.call('PUBLISH','c','one') return 1", 0)
    ask(rig, client, "EVAL", "redis.call('PUBLISH','c','two') error('x')", 0)
    assert listener.got() == [[b"message", b"c", b"one"]]


# -- routes ----------------------------------------------------------------------------------------------------------


def test_scripts_that_only_read_are_logged_once_and_then_run_as_reads() -> None:
    rig = Rig()
    client = rig.client()
    ask(rig, client, "SET", "k", "v")
    for name, text in (("EVAL_RO", "return redis.call('GET','k')"),
                       ("EVAL", "#!lua flags=no-writes\nreturn redis.call('GET','k')")):  # fmt: skip
        assert ask(rig, client, name, text, 0) == b"v"
        committed = len(rig.consensus.committed)
        for _ in range(3):
            assert ask(rig, client, name, text, 0) == b"v"
        assert ask(rig, client, "EVALSHA_RO", sha1(text.encode()), 0) == b"v"
        assert len(rig.consensus.committed) == committed
    same_elsewhere(rig)


def test_a_read_only_script_may_not_write() -> None:
    rig = Rig()
    client = rig.client()
    for _ in range(2):
        reply = str(ask(rig, client, "EVAL_RO", "return redis.call('SET','k','v')", 0))
        assert reply.startswith("ERR Write commands are not allowed from read-only scripts.")
    assert ask(rig, client, "GET", "k") is None


def test_cached_scripts_are_the_same_everywhere_and_the_longest_unused_go() -> None:
    rig = Rig()
    client = rig.client()
    kept = ask(rig, client, "SCRIPT", "LOAD", "return 'kept'")
    first = sha1(b"return 0")
    for i in range(EVAL_SCRIPTS_MAX):
        ask(rig, client, "EVAL", f"return {i}", 0)
    assert ask(rig, client, "EVALSHA", first, 0) == 0
    for i in range(EVAL_SCRIPTS_MAX, EVAL_SCRIPTS_MAX + 20):
        ask(rig, client, "EVAL", f"return {i}", 0)
    assert isinstance(kept, bytes)
    names = (kept, first, sha1(b"return 1"), sha1(b"return 20"), sha1(b"return 21"))
    assert ask(rig, client, "SCRIPT", "EXISTS", *names) == [1, 1, 0, 0, 1]
    same_elsewhere(rig)


def test_time_and_chance_come_from_the_log() -> None:
    rig = Rig()
    client = rig.client()
    rig.clock.now_ns += 5_000_000_000
    text = (
        "local t = redis.call('TIME') redis.call('SET','t',t[1]..'.'..t[2]) redis.call('SET','r',math.random()) "
        "redis.call('SADD','s',1,2,3,4,5,6,7,8,9) redis.call('SET','p',redis.call('SPOP','s')) "
        "redis.call('SET','m',redis.call('SRANDMEMBER','s')) return {t[1],redis.call('GET','r')}"
    )
    first, second = ask(rig, client, "EVAL", text, 0), ask(rig, client, "EVAL", text, 0)
    assert isinstance(first, list) and isinstance(second, list)
    assert first[0] == b"%d" % (rig.ks.now_ms // 1000)
    assert first[1] != second[1]
    same_elsewhere(rig)


def test_time_stands_still_and_expired_keys_are_gone() -> None:
    rig = Rig()
    client = rig.client()
    ask(rig, client, "SET", "k", "v", "PX", 100)
    rig.clock.now_ns += 200_000_000
    assert ask(rig, client, "EVAL", "return redis.call('GET','k')", 0) is None
    text = "redis.call('SET','x','y','PX',1) for i=1,100000 do end return redis.call('GET','x')"
    assert ask(rig, client, "EVAL", text, 0) == b"y"
    same_elsewhere(rig)


def test_blocking_commands_do_not_wait_within_a_script() -> None:
    rig = Rig()
    client = rig.client()
    assert ask(rig, client, "EVAL", "return redis.call('BLPOP','none',0)", 0) is None
    assert ask(rig, client, "EVAL", "redis.call('RPUSH','l','a') return redis.call('BLPOP','l',0)", 0) == [b"l", b"a"]


def test_a_script_wakes_clients_that_wait() -> None:
    rig = Rig()
    waiting, client = rig.client(), rig.client()
    rig.ask(waiting, "BLPOP l 0")
    ask(rig, client, "EVAL", "redis.call('RPUSH','l','a')", 0)
    assert waiting.got() == [[b"l", b"a"]]
    same_elsewhere(rig)


def test_a_script_breaks_a_watch() -> None:
    rig = Rig()
    watcher, client = rig.client(), rig.client()
    rig.ask(watcher, "WATCH k")
    ask(rig, client, "EVAL", "redis.call('SET','k','v')", 0)
    assert rig.ask(watcher, "MULTI", "GET k", "EXEC") == [b"OK", b"QUEUED", None]


# -- forwarding ------------------------------------------------------------------------------------------------------


def words(*argv: str) -> list[bytes]:
    return [word.encode() for word in argv]


def forwarded(nodes: Nodes, client: Client, *commands: list[bytes]) -> list[object]:
    return nodes.ask(client, *commands)  # type: ignore[arg-type]


def test_a_follower_sends_scripts_on_with_the_rights_of_its_client() -> None:
    nodes = Nodes()
    client = nodes.client()
    assert forwarded(nodes, client, words("EVAL", "return redis.call('SET',KEYS[1],ARGV[1])", "1", "k", "v")) == [b"OK"]
    assert forwarded(nodes, client, words("EVAL_RO", "return redis.call('GET','k')", "0")) == [b"v"]
    assert forwarded(nodes, client, words("EVALSHA", "0" * 40, "0")) == ["NOSCRIPT No matching script."]
    code = "#!lua name=n\nredis.register_function('f', function(keys) return redis.call('GET', keys[1]) end)"
    assert forwarded(nodes, client, words("FUNCTION", "LOAD", code)) == [b"n"]
    assert forwarded(nodes, client, words("FCALL", "f", "1", "k"), words("FCALL", "f", "1", "none")) == [b"v", None]
    assert forwarded(
        nodes, client, words("MULTI"), words("EVAL", "return redis.call('INCR','n')", "0"),
        words("FCALL", "f", "1", "n"), words("EXEC"),
    )[-1] == [1, b"1"]  # fmt: skip
    # A user only the client's own node knows.
    home = nodes.home.engine.acl
    home.set_user(b"bob", [b"on", b"nopass", b"~app:*", b"+@all", b"-incr"])
    client.session.user = home.users[b"bob"]
    (reply,) = forwarded(nodes, client, words("EVAL", "return redis.call('GET','k')", "0"))
    assert str(reply).startswith("ERR ACL failure in script: No permissions to access a key"), reply
    (reply,) = forwarded(nodes, client, words("EVAL", "return redis.call('INCR','app:n')", "0"))
    assert str(reply).startswith("ERR ACL failure in script: User bob has no permissions to run the 'incr' command")
    assert forwarded(nodes, client, words("EVAL", "return redis.call('SET','app:k','v')", "0")) == [b"OK"]
