"""What a script cannot reach, keep or tell apart."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from durakv.keyspace.digest import digest
from tests.engine.rig import Rig
from tests.scripting.replay import replayed

TAMPERING = (
    "string.upper = function() return 'tampered' end", "rawset(string, 'upper', 1)", "redis.call = nil",
    "rawset(redis, 'call', 1)", "_G.leak = 1", "rawset(_G, 'leak', 1)", "leak = 1", "setmetatable(_G, {})",
    "setmetatable(string, {})", "getmetatable('').__index.upper = 1", "getmetatable('').__add = 1",
    "getmetatable(_G).__index = {leak = 1}", "rawset(getmetatable(_G), '__index', {leak = 1})", "math.pi = 3",
    "setfenv(0, {leak = 1})", "setfenv(1, {})", "getfenv(0).leak = 1", "getfenv(redis.call).leak = 1",
    "setfenv(redis.call, {})", "setfenv(string.upper, {})", "table.insert(string, 'leak')", "table.sort(redis)",
    "table.remove(redis)", "math.randomseed(7)", "cjson.encode_max_depth(1)", "redis.setresp(3)",
    "loadstring('leak = 1')()", "coroutine.wrap(function() leak = 1 end)()", "KEYS = nil", "ARGV.leak = 1",
    "for k in pairs(_G) do _G[k] = nil end", "setmetatable(getmetatable(''), {})", "cjson.null.x = 1",
    "setmetatable(cjson.null, {})", "table.foreach(redis, function(k) redis[k] = nil end)",
)  # fmt: skip
PROBE = (
    "return {('a'):upper(), tostring(leak == nil), type(redis.call), math.floor(math.pi * 100), "
    "cjson.encode({{{1}}}), redis.call('GET', 'k'), #KEYS, #ARGV, tostring(math.random() < 1)}"
)
# With `leak` read through pcall: a missing global is an error.
PROBE = PROBE.replace("tostring(leak == nil)", "tostring((pcall(function() return leak end)))")
UNREACHABLE = (
    "io", "os.execute", "os.remove", "os.getenv", "os.exit", "os.time", "package", "require", "module", "dofile",
    "loadfile", "debug", "python", "print", "newproxy",
)  # fmt: skip


def run(rig: Rig, text: str) -> object:
    (reply,) = rig.ask(rig.client(), [b"EVAL", text.encode(), b"0"])
    return reply


@pytest.mark.parametrize("text", TAMPERING)
def test_nothing_outlives_a_script(text: str) -> None:
    rig = Rig()
    expected = run(rig, PROBE)
    assert isinstance(expected, list) and len(expected) == 9 and expected[1] == b"false"
    run(rig, text)
    assert run(rig, PROBE) == expected


@pytest.mark.parametrize("name", UNREACHABLE)
def test_what_is_not_there(name: str) -> None:
    rig = Rig()
    assert run(rig, f"local ok, found = pcall(function() return {name} end) return ok and found ~= nil") is None


def test_everything_reachable_is_plain() -> None:
    """From the globals, metatables and environments included, no userdata but cjson.null can be reached."""
    rig = Rig()
    text = """
    local seen, found = {}, {}
    local function visit(v)
      local t = type(v)
      if t == 'userdata' and v ~= cjson.null then found[#found + 1] = tostring(v) end
      if t ~= 'table' and t ~= 'function' or seen[v] then return end
      seen[v] = true
      if t == 'function' then return visit(getfenv(v)) end
      for k, x in pairs(v) do visit(k) visit(x) end
      visit(getmetatable(v))
    end
    visit(_G) visit(getmetatable('')) visit(getfenv(0)) visit(getfenv(1))
    local n = 0
    for k in next, {redis, server, string, table, math, cjson, bit, struct, cmsgpack, coroutine, os} do n = n + 1 end
    return {#found, n}
    """
    assert run(rig, text) == [0, 11]


def test_python_errors_and_objects_do_not_reach_scripts() -> None:
    rig = Rig()
    for text in (
        "return {pcall(redis.call, setmetatable({}, {__index = redis}))}", "return {pcall(redis.call, print)}",
        "return {pcall(redis.log, 1, {})}", "return {pcall(struct.unpack, 'i', 'abcd', 0/0)}",
        "return {pcall(cmsgpack.unpack_limit, 'x', 0/0, 1/0)}", "return {pcall(bit.band, 0/0, {})}",
        "return {pcall(redis.sha1hex, {})}", "return {pcall(cmsgpack.pack, coroutine.create(function() end))}",
    ):  # fmt: skip
        run(rig, text.replace("print", "function() end"))
        assert run(rig, "return 1") == 1
    assert not rig.engine.applier.internal_errors


def test_addresses_and_the_order_of_objects_are_not_shown() -> None:
    rig = Rig()
    text = "return {tostring({}), tostring(print == nil), tostring(function() end), string.format('%s', tostring({}))}"
    first = run(rig, text.replace("print == nil", "1"))
    assert first == run(rig, text.replace("print == nil", "1"))
    reply = str(run(rig, "for k in pairs({[{}] = 1}) do end"))
    assert "has no order that is the same on every node" in reply


DETERMINISM = """
import sys
from durakv.keyspace.digest import digest
from tests.engine.rig import Rig
rig = Rig()
client = rig.client()
code = (b"#!lua name=d\\nredis.register_function('d', function(keys, args) local t = {} "
        b"for k, v in pairs({a=1, b=2, c=3, [10]=4, [1.5]=5}) do t[#t+1] = tostring(k) end "
        b"redis.call('RPUSH', keys[1], unpack(t)) redis.call('SADD', 'set', unpack(t)) "
        b"redis.call('SET', 'pop', redis.call('SPOP', 'set')) return t end)")
out = [rig.ask(client, [b"FUNCTION", b"LOAD", code]), rig.ask(client, b"FCALL d 1 l".split())]
for text in (
    "local t = {} for i = 1, 50 do t['k' .. i * 7919] = i end local o = {} for k in pairs(t) do o[#o+1] = k end "
    "redis.call('RPUSH', 'order', unpack(o)) return o",
    "return cjson.encode({a=1, b={c=2, d=3}, e='x', f=true})", "return cmsgpack.pack({a=1, b=2, c={d=3}})",
    "redis.setresp(3) return redis.call('SMEMBERS', 'set')",
    "redis.call('SET', 'r', math.random()) return tostring({})",
    "redis.call('HSET', 'h', 'a', 1, 'b', 2) return redis.call('HGETALL', 'h')", "error({err='x'})",
):
    out.append(rig.ask(client, [b"EVAL", text.encode(), b"0"]))
print(digest(rig.ks).hex(), out)
"""


def test_hash_seeds_change_nothing() -> None:
    found = set()
    for seed in ("0", "1", "31337"):
        done = subprocess.run(
            [sys.executable, "-c", DETERMINISM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        found.add(done.stdout)
    assert len(found) == 1
    assert "ERR" not in found.pop().replace("ERR x", "")


def test_a_used_and_a_fresh_state_go_the_same_way() -> None:
    """A restarted node replays in a fresh Lua state what this one ran in a used one, with its own cache."""
    rig = Rig()
    client = rig.client()
    for i in range(40):
        text = (
            f"local t = {{}} for i = 1, {i} do t['k' .. i] = i end for k in pairs(t) do redis.call('RPUSH', 'l', k) end"
        )
        rig.ask(client, [b"EVAL", text.encode(), b"0"])
        rig.ask(client, [b"EVAL", TAMPERING[i % len(TAMPERING)].encode(), b"0"])
    assert digest(replayed(rig).ks) == digest(rig.ks)
