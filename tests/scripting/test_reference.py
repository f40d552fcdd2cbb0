"""Every script of the corpus, and random input to the libraries: a stock server's reply, byte for byte.

With redis-server instead of valkey-server only the kind of an error is compared: texts changed in between.
"""

from __future__ import annotations

from random import Random

import pytest

from durakv.keyspace.slots import SLOTS
from tests.scripting import corpus, corpus_libraries
from tests.scripting.stock import Pair

DATA = (
    ("HSET", "h", "a", "1", "b", "2"), ("RPUSH", "l", "1", "2"), ("SADD", "s", "a"), ("ZADD", "z", "1.5", "a"),
    ("SET", "str", "v"), ("SET", "n", "5"),
)  # fmt: skip
# lua-cjson's settings outlive the script there, but not here.
JSON_DEFAULTS = (
    "cjson.encode_sparse_array(false,2,10) cjson.encode_max_depth(1000) cjson.decode_max_depth(1000) "
    "cjson.encode_number_precision(14) cjson.encode_keep_buffer(true) cjson.encode_invalid_numbers(false) "
    "cjson.decode_invalid_numbers(true)"
)
# Changed since Redis 7.0: how arguments print, what is allowed, what there is.
SINCE_REDIS = (
    b'redis.call("set","a",', b'redis.call("blpop', b'redis.call("brpop', b'"block"', b'redis.call("wait"',
    b"os.", b"getfenv", b"setfenv", b'redis.call("lrange', b'redis.call("sort', b"redis.error_reply",
    b"{pcall(redis.call)}", b"_COPYRIGHT",
)  # fmt: skip


def scripts(pair: Pair, found: list[bytes]) -> list[bytes]:
    if pair.stock.exact:
        return found
    return [text for text in found if not any(word in text for word in SINCE_REDIS)]


@pytest.mark.parametrize("topic", ["REPLIES", "COMPILING", "LANGUAGE", "CALLS", "FIRST_LINES"])
def test_scripts(pair: Pair, topic: str) -> None:
    for words in DATA:
        pair(*words)
    found = scripts(pair, getattr(corpus, topic))
    for text in found:
        pair("EVAL", text, 0)
        # There the cached function keeps the environment it gave itself.
        if b"setfenv" not in text:
            pair("EVAL_RO", text, 0)
    pair.agreed(len(found))


@pytest.mark.parametrize("topic", ["JSON", "BITS", "STRUCTS", "MSGPACK"])
def test_library_functions(pair: Pair, topic: str) -> None:
    found = scripts(pair, getattr(corpus_libraries, topic))
    for text in found:
        pair("EVAL", text, 0)
        if topic == "JSON":
            pair("EVAL", JSON_DEFAULTS, 0)
    pair.agreed(len(found))


def test_keys_arguments_and_names(pair: Pair) -> None:
    text = "return {KEYS,ARGV,#KEYS,#ARGV}"
    for words in (
        (2, "a", "b", "c", "d"), (0,), (3, "a"), (-1,), ("x",), (" 1", "a"), ("1.0", "a"), ("01", "a"),
        ("9223372036854775808", "a"), (1, b"\x00\xff\r\n", b"\xff\x00", ""), ("",), (),
    ):  # fmt: skip
        pair("EVAL", text, *words)
        pair("EVAL_RO", text, *words)
        pair("EVALSHA", "0" * 40, *words)
    sha = pair("SCRIPT", "LOAD", text)
    for name in (sha, sha.upper(), sha[:-1], "x", ""):
        pair("EVALSHA", name, 1, "k", "v")
        pair("EVALSHA_RO", name, 1, "k", "v")
        pair("SCRIPT", "EXISTS", name, sha)
    for call in (
        ("LOAD", "bad bad"), ("LOAD",), ("EXISTS",), ("FLUSH", "X"), ("FLUSH", "ASYNC", "x"), ("FLUSH", "SYNC"),
        ("EXISTS", sha), ("KILL",), ("KILL", "x"), ("NO",), (), ("DEBUG", "NO"), ("DEBUG", "X"), ("LOAD", "#!lua x"),
        ("FLUSH",), ("FLUSH", "async"),
    ):  # fmt: skip
        pair("SCRIPT", *call)
    if pair.stock.exact:
        pair("SCRIPT", "SHOW", sha)
        pair("SCRIPT", "LOAD", text)
        pair("SCRIPT", "SHOW", sha)
    pair.agreed(50)


def test_protocol_three(pair: Pair) -> None:
    for words in DATA:
        pair(*words)
    pair("HELLO", "3")
    # The greeting names the server.
    pair.differing.clear()
    for text in (
        "return redis.call('hgetall','h')", "redis.setresp(3) return redis.call('hgetall','h')",
        "redis.setresp(3) return redis.call('smembers','s')", "redis.setresp(3) return redis.call('zscore','z','a')",
        "return redis.call('zscore','z','a')", "redis.setresp(3) return {map={a={set={b=true}}}}",
        "redis.call('geoadd','g','13.361389','38.115556','a') return redis.call('geopos','g','a')",
        "redis.setresp(3) return redis.call('geopos','g','a')",
        "return {map={a=1}}", "redis.setresp(3) return {double=3.5}", "redis.setresp(3) return {big_number='12'}",
        "redis.setresp(3) return {verbatim_string={string='x',format='txt'}}", "redis.setresp(3) return true",
        "redis.setresp(3) return {false,true}", "redis.setresp(3) return nil", "return nil", "return true",
        "return false", "redis.setresp(3) return redis.call('get','none')", "return redis.call('get','none')",
        "redis.setresp(3) return redis.call('zrange','z',0,-1,'withscores')",
        "return redis.call('zrange','z',0,-1,'withscores')", "redis.setresp(3) return type(redis.call('get','none'))",
    ):  # fmt: skip
        pair("EVAL", text, 0)
    pair.agreed(22)


def test_rights_hold_for_what_a_script_calls(pair: Pair) -> None:
    for words in (
        ("SET", "app:1", "v"), ("SET", "other", "v"),
        ("ACL", "SETUSER", "bob", "on", ">pw", "~app:*", "&news", "+@all", "-incr", "-config", "(~own:* +incr)"),
        ("ACL", "SETUSER", "ro", "on", ">pw", "~*", "+eval", "+get"), ("AUTH", "bob", "pw"),
    ):  # fmt: skip
        pair(*words)
    for text in (
        "return redis.call('get','app:1')", "return redis.call('get','other')", "return redis.pcall('get','other')",
        "return redis.call('incr','app:n')", "return redis.call('incr','own:n')",
        "return redis.call('mget','app:1','x')",
        "return redis.call('publish','news','x')", "return redis.call('publish','gossip','x')",
        "return redis.call('config','get','x')", "redis.pcall('get','other') return redis.call('get','app:1')",
        "return redis.acl_check_cmd('get','app:1')", "return redis.acl_check_cmd('get','other')",
        "return redis.acl_check_cmd('incr','app:n')", "return redis.acl_check_cmd('incr','own:n')",
        "return redis.acl_check_cmd('nosuch')", "return redis.acl_check_cmd('publish','gossip','x')",
        "return redis.acl_check_cmd('config','get','x')",
    ):  # fmt: skip
        pair("EVAL", text, 0)
    pair("EVAL", "return 1", 1, "other")
    pair("AUTH", "ro", "pw")
    pair("EVAL", "return redis.call('get','x')", 0)
    pair("EVAL", "return redis.call('set','x','y')", 0)
    pair("EVALSHA", "0" * 40, 0)
    pair("FCALL", "x", 0)
    pair.agreed(22)


def test_memory_is_full(pair: Pair) -> None:
    pair("SET", "k", "v")
    pair("SET", "ballast", "x" * 1000)
    pair("FUNCTION", "LOAD", (
        "#!lua name=m\n"
        "redis.register_function('grows', function() return redis.call('set','k','x') end)\n"
        "redis.register_function{function_name='reads', callback=function() return redis.call('get','k') end,"
        " flags={'no-writes'}}\n"
        "redis.register_function{function_name='may', callback=function() return redis.call('set','k','y') end,"
        " flags={'allow-oom'}}"
    ))  # fmt: skip
    pair("CONFIG", "SET", "maxmemory", "1")
    while pair.rig.ks.ledger is not None and pair.rig.ks.ledger.weighed < SLOTS:
        pair.rig.engine.eviction.tick()
    for text in (
        "return 1", "return redis.call('get','k')", "return redis.call('set','k','x')",
        "return redis.pcall('set','k','x')", "redis.call('del','k') return redis.call('set','k','x')",
        "redis.pcall('del','none') return redis.call('set','k','z')",
        "#!lua\nreturn 1", "#!lua flags=no-writes\nreturn redis.call('get','k')",
        "#!lua flags=allow-oom\nreturn redis.call('set','k','q')", "#!lua flags=allow-oom,no-writes\nreturn 1",
    ):  # fmt: skip
        pair("EVAL", text, 1, "k")
        pair("EVAL_RO", text, 1, "k")
    for name in ("grows", "reads", "may"):
        pair("FCALL", name, 1, "k")
        pair("FCALL_RO", name, 1, "k")
    pair("FUNCTION", "LOAD", "#!lua name=n\nredis.register_function('n', function() return 1 end)")
    pair("CONFIG", "SET", "maxmemory", "0")
    pair("EVAL", "return redis.call('set','k','x')", 0)
    pair("GET", "k")
    pair.agreed(30)


def test_within_a_transaction(pair: Pair) -> None:
    for words in (
        ("MULTI",), ("EVAL", "return redis.call('set',KEYS[1],ARGV[1])", 1, "k", "v"),
        ("EVAL", "redis.call('set','partial','v') return redis.call('nosuch')", 0), ("EVALSHA", "0" * 40, 0),
        ("EVAL", "return redis.call('get',KEYS[1])", 1, "k"), ("SCRIPT", "LOAD", "return 42"),
        ("EVALSHA", "1fa00e76656cc152ad327c13fe365858fd7be306", 0),
        ("FUNCTION", "LOAD", "#!lua name=q\nredis.register_function('q',function() return 9 end)"), ("FCALL", "q", 0),
        ("EVAL", "redis.call('select',2) return redis.call('set','two','v')", 0), ("SELECT", 3),
        ("EVAL", "return redis.call('set','three','v')", 0), ("EXEC",), ("GET", "three"), ("SELECT", 2), ("KEYS", "*"),
        ("SELECT", 0), ("GET", "partial"), ("WATCH", "k"), ("EVAL", "return redis.call('set','k','w')", 0), ("MULTI",),
        ("GET", "k"), ("EXEC",), ("MULTI",), ("EVAL", "return 1"), ("EXEC",),
    ):  # fmt: skip
        pair(*words)
    pair.agreed(25)


def mutated(dice: Random, document: str) -> str:
    for _ in range(dice.randint(0, 3)):
        at = dice.randint(0, len(document))
        letter = dice.choice('[]{},:"\\u0019aeE+-.truefalsn \n')
        document = document[:at] + letter + document[at + dice.randint(0, 1) :]
    return document


def test_random_json(pair: Pair) -> None:
    dice = Random(1)
    documents = ('[1,2.5,"x",null,true,{"k":[]}]', '{"a":{"b":[1,{"c":null}]}}', '"\\u20ac\\t"', "-12.5e-3", "[[]]")
    for _ in range(1500):
        pair("EVAL", "return cjson.encode(cjson.decode(ARGV[1]))", 0, mutated(dice, dice.choice(documents)))
    pair.agreed(1500)


def test_random_bits_structs_and_msgpack(pair: Pair) -> None:
    dice = Random(2)
    for _ in range(300):
        name = dice.choice(("band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror"))
        first = dice.choice((dice.randint(-(2**33), 2**33), dice.random() * 1000, dice.randint(-5, 5), 1e300))
        second = dice.choice((dice.randint(-40, 40), dice.randint(-(2**33), 2**33)))
        pair("EVAL", f"return bit.{name}(tonumber(ARGV[1]),tonumber(ARGV[2]))", 0, str(first), str(second))
    for _ in range(400):
        data = bytes(dice.choice((dice.randint(0, 255), 0x91, 0x82, 0xA2, 1)) for _ in range(dice.randint(1, 10)))
        text = "local r={pcall(function() local a,b,c=cmsgpack.unpack(ARGV[1]) return a,b,c end)} return {r[1],r[2],#r}"
        reply = pair.stock("EVAL", text, 0, data)
        # Keys that are nil or NaN: the C library's own position differs.
        if not (isinstance(reply, list) and isinstance(reply[1], bytes) and b"table index" in reply[1]):
            pair("EVAL", text, 0, data)
    for _ in range(300):
        form = "".join(dice.choice("bBhHlLTiIfdsx><!c0123478 ") for _ in range(dice.randint(1, 4)))
        data = bytes(dice.choice((dice.randint(0, 255), 0, 1)) for _ in range(dice.randint(0, 20)))
        text = "local r={pcall(function() local a,b=struct.unpack(ARGV[1],ARGV[2]) return a,b end)} return {r[1],r[2]}"
        pair("EVAL", text, 0, form, data)
    pair.agreed(900)
