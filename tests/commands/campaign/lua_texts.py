"""Scripts for EVAL: fixed ones about conversions and errors, and random expressions over Lua's libraries.

Rule: nothing in them depends on addresses, on the order of a table's hash part or its length where it has holes, on
time or on chance. ``error({})`` is not among them: Valkey of 2024 ends at it.
"""

from __future__ import annotations

import hashlib
from random import Random

SCRIPTS = (
    "return 1",
    "return 'x'",
    "return {1,2,{3,'a',nil,4}}",
    "return {1,nil,3}",
    "return nil",
    "return true",
    "return false",
    "return 3.99",
    "return -3.99",
    "return 1e18",
    "return {ok='fine'}",
    "return {err='bad'}",
    "return {err='ERR bad thing'}",
    "return {err='CODE words'}",
    "return {double=3.5}",
    "return {big_number='12345'}",
    "return {map={a=1}}",
    "return {set={a=true}}",
    "return {verbatim_string={format='txt',string='abc'}}",
    "return redis.status_reply('GOOD')",
    "return redis.error_reply('My Err')",
    "return redis.error_reply('NOSPACE')",
    "return #ARGV + #KEYS",
    "return KEYS[1]",
    "return ARGV[1]",
    "return ARGV[5]",
    "return {KEYS, ARGV}",
    "return",
    "redis.setresp(3) return {double=3.25}",
    "redis.setresp(3) return {map={a=1}}",
    "redis.setresp(3) return nil",
    "redis.setresp(3) return true",
    "redis.setresp(4)",
    "redis.setresp()",
    "redis.setresp(3) return {set={x=true}}",
    "redis.setresp(3) return {big_number='123'}",
    "return redis.sha1hex('')",
    "return redis.sha1hex(ARGV[1])",
    "return redis.sha1hex()",
    "return redis.call('GET', KEYS[1])",
    "return redis.call('INCR', KEYS[1])",
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "return redis.pcall('INCR', KEYS[1])",
    "return redis.call()",
    "return redis.call('NOSUCH')",
    "return redis.call('GET')",
    "return redis.pcall('GET').err",
    "return redis.call('GET', {})",
    "return redis.call('GET', nil)",
    "return redis.call(1)",
    "return redis.pcall('nope')",
    "return redis.call('MULTI')",
    "return redis.call('SUBSCRIBE', 'x')",
    "return redis.call('BLPOP', KEYS[1], 0)",
    "redis.call('SET', KEYS[1], 1) redis.call('LPUSH', KEYS[1], 2)",
    "error('oops')",
    "error({err='ERR table'})",
    "error({err='mine', x=1})",
    "error()",
    "error(nil)",
    "error('x', 0)",
    "return tostring(nil)",
    "retur 1",
    "return (",
    "return x",
    "x = 1",
    "local x = 1 return x",
    "return pcall(error, 'a')",
    "return {pcall(error, {err='E'})}",
    "local ok, e = pcall(redis.call, 'GET') return e",
    "local ok, e = pcall(redis.call, 'GET') return type(e)",
    "local e = redis.pcall('GET') return {type(e), e.err, e.source, e.line}",
    "return redis.log(redis.LOG_DEBUG, 'x')",
    "return redis.log('x')",
    "return redis.log(9, 'x')",
    "return server.call('PING')",
    "return redis.REDIS_VERSION_NUM > 0",
    "return _VERSION",
    "return type(_G)",
    "return table.getn({1,2})",
    "return {1,2,3,n=5}",
    "return unpack({1,2})",
    "return select('#', 1, nil, nil)",
    "return next({})",
    "return rawequal('a','a')",
    "return math.huge",
    "return -math.huge",
    "return 2^53",
    "return 2^63",
    "return -2^63",
    "return 2^64",
    "return tostring(2^63)",
    "return tostring(1/3)",
    "return tostring(1e100)",
    "return tostring(123456789012345)",
    "return tostring(-0)",
    "return 1 .. ''",
    "return 1.5 .. 'x'",
    "return redis.call('PING')",
    "return redis.call('ECHO', 1.5)",
    "return redis.call('ECHO', 100000000000000000000)",
    "return redis.call('SELECT', 1)",
    "return redis.call('DBSIZE')",
    "return redis.call('LRANGE', KEYS[1], 0, -1)",
    "return redis.call('TYPE', KEYS[1])",
    "return redis.call('TYPE', KEYS[1]).ok",
    "return {redis.call('TYPE', KEYS[1])}",
    "return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')",
    "redis.setresp(3) return redis.call('ZSCORE', KEYS[1], ARGV[1])",
    "return redis.acl_check_cmd('GET', 'x')",
    "return redis.acl_check_cmd('NOSUCH')",
    "return redis.set_repl(redis.REPL_ALL)",
    "return redis.set_repl(77)",
    "return redis.replicate_commands()",
    "for i=1,10 do redis.call('RPUSH', KEYS[1], i) end return redis.call('LLEN', KEYS[1])",
    "#!lua\nreturn 1",
    "#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], 1)",
    "#!lua flags=x\nreturn 1",
    "#!py\nreturn 1",
    "#!lua name=x\nreturn 1",
    "#!lua flags=no-writes,allow-stale\nreturn redis.call('GET', KEYS[1])",
    "",
    "return cjson.encode({1,2,{a=1}})",
    "return cjson.decode('[1,2,{\"a\":[]}]')",
    "return cjson.encode({})",
    "return cjson.decode('{')",
    "return cjson.encode('a\\0\"/')",
    "return cjson.decode('[null]')[1] == cjson.null",
    "return cjson.encode(cjson.null)",
    "return cmsgpack.unpack(cmsgpack.pack({1,'a',{2}}))",
    "return cmsgpack.pack(1.5, -1, 'x', true, nil)",
    "return cmsgpack.unpack('\\255')",
    "return bit.tohex(-1)",
    "return bit.band(7, 2^33)",
    "return bit.lshift(1, 31)",
    "return bit.bswap(1)",
    "return struct.pack('>I2i4', 1, -2)",
    "return {struct.unpack('<I2', '\\1\\2')}",
    "return struct.pack('z', 'ab')",
    "return struct.size('i')",
    "return struct.pack('x', 1)",
    "return {struct.unpack('>I4', 'ab')}",
    "return loadstring('return 1+1')()",
    "return load",
    "return dofile",
    "return os.time",
    "return io",
    "return require",
    "return type(os.clock())",
    "return string.rep('ab', 3, ',')",
    "local t = {} t[1]=1 t[3]=3 return t",
    "local t = setmetatable({}, {__index=function() return 1 end}) return t.x",
    "return {{}, {{}}}",
    "return coroutine.resume(coroutine.create(function() return 1, 2 end))",
    "return xpcall(function() error('z') end, function(e) return e end)",
)
CALL = "return redis.call(unpack(ARGV))"
CALLS = (
    CALL,
    CALL,
    CALL,
    "return redis.pcall(unpack(ARGV))",
    "return {redis.pcall(unpack(ARGV)), 1, 'x', 1.9, false, 7}",
    "redis.setresp(3); return redis.call(unpack(ARGV))",
    "local r = redis.pcall(unpack(ARGV)) return type(r)",
)
ORDERED_CALLS = (
    "return cmsgpack.pack(redis.pcall(unpack(ARGV)))",
    "local r = redis.call(unpack(ARGV)) return tostring(type(r) == 'table' and #r or r)",
    "local r = redis.call(unpack(ARGV)) return type(r) == 'table' and not r.ok and not r.err and cjson.encode(r) or r",
    (
        "redis.setresp(3); local r = redis.call(unpack(ARGV)) return {type(r), type(r) == 'table' and "
        "(r.double or (r.map and 'map') or (r.set and 'set') or 'array') or r}"
    ),
)
FIXED = "return {KEYS[1], ARGV[1], #ARGV}"
FIXED_SHA = hashlib.sha1(FIXED.encode()).hexdigest()
LIBRARIES = (
    "#!lua name=one\nredis.register_function('f1', function(keys, args) return {keys, args} end)",
    (
        "#!lua name=one\nredis.register_function('f1', function(keys, args) return redis.call('INCR', keys[1]) end)\n"
        "redis.register_function{function_name='f2', callback=function(keys, args) "
        "return redis.call('GET', keys[1]) end, flags={'no-writes'}, description='reads'}"
    ),
    "#!lua name=two\nlocal function f(k, a) return redis.pcall(unpack(a)) end\nserver.register_function('f3', f)",
    "#!lua name=two\nreturn 1",
    "#!lua name=bad\nx = 1",
    "#!lua\nreturn 1",
    "#!lua name=a-b\nreturn 1",
    "return 1",
    "",
    "#!js name=x\n1",
    "#!lua name=three\nredis.register_function('f1', function() end)",
    "#!lua name=three\nredis.register_function('f 1', function() end)",
    "#!lua name=three\nredis.register_function('f9')",
    "#!lua name=three\nredis.register_function{callback=1}",
    "#!lua name=three\nredis.call('PING')",
    (
        "#!lua name=four\nredis.register_function{function_name='f4', "
        "callback=function(k) return redis.call('SET', k[1], 1) end, flags={'no-writes'}}"
    ),
    "#!lua name=four\nredis.register_function{function_name='f4', callback=function() end, flags={'x'}}",
    "#!lua name=five nope=1\nreturn 1",
    "#!lua name=six\nredis.register_function('f6', function(k, a) return nosuch end)",
    "#!lua name=seven\nerror('no')",
)


def number(dice: Random, depth: int) -> str:
    if depth <= 0 or dice.random() < 0.3:
        return dice.choice(("0", "1", "2", "3", "-1", "7", "10", "2.5", "-0.5", "1e3", "0x10", "255", "1e15", "31"))
    n, m = number(dice, depth - 1), number(dice, depth - 1)
    s = text(dice, depth - 1)
    return dice.choice(
        (
            f"({n} + {m})",
            f"({n} - {m})",
            f"({n} * {m})",
            f"({n} / 4)",
            f"({n} % 7)",
            f"(-{n})",
            f"math.floor({n})",
            f"math.ceil({n})",
            f"math.abs({n})",
            f"math.max({n}, {m})",
            f"math.min({n}, {m})",
            f"math.fmod({n}, 5)",
            f"#{s}",
            f"tonumber({s})",
            f"(tonumber({s}, 16) or {n})",
            f"{s}:byte()",
            f"({s}:byte({n}) or 0)",
            f"bit.band({n}, {m})",
            f"bit.bor({n}, {m})",
            f"bit.bxor({n}, {m})",
            f"bit.rshift({n}, {m})",
            f"bit.tobit({n})",
            f"({s}:find({pattern(dice)}) or {n})",
            f"select(2, {s}:gsub({pattern(dice)}, {s}))",
            f"(math.modf({n}))",
            f"math.sqrt(math.abs({n}))",
            f"({n} > {m} and {n} or {m})",
            f"#{table(dice, depth - 1)}",
            f"({n} + {s})",
        )
    )


def pattern(dice: Random) -> str:
    return dice.choice(
        (
            "'a'",
            "'%a+'",
            "'[%w_]*'",
            "'^a'",
            "'b$'",
            "'(.)(.)'",
            "'%d+'",
            "'.-b'",
            "'%s'",
            "'[^a]'",
            "'%'",
            "'('",
            "'%b()'",
            "'[a'",
            "''",
            "'%f[%w]%w'",
            "'(a*(.)%w(%s*))'",
            "'()'",
            "'%1'",
        )
    )


def text(dice: Random, depth: int) -> str:
    if depth <= 0 or dice.random() < 0.3:
        return dice.choice(
            (
                "'a'",
                "'abc'",
                "''",
                "'a b c'",
                "'12'",
                "'-3.5'",
                "'0x1f'",
                "'A\\0z'",
                "'x(y)z'",
                "'1e2'",
                "ARGV[1]",
                "KEYS[1]",
            )
        )
    s, t, n = text(dice, depth - 1), text(dice, depth - 1), number(dice, depth - 1)
    return dice.choice(
        (
            f"({s} .. {t})",
            f"({s} .. {n})",
            f"tostring({n})",
            f"{s}:upper()",
            f"{s}:lower()",
            f"{s}:reverse()",
            f"{s}:rep(3)",
            f"{s}:sub({n})",
            f"{s}:sub({n}, {number(dice, 0)})",
            f"string.format('%d|%5.2f|%s|%x|%g', {n} % 1000 - ({n} % 1), {n}, {s}, 255, {n})",
            f"string.format('%q', {s})",
            f"string.format('%5s|%-5s|%.2s', {s}, {t}, {s})",
            f"({s}:match({pattern(dice)}) or {t})",
            f"({s}:gsub({pattern(dice)}, {t}))",
            f"({s}:gsub({pattern(dice)}, '%0%1'))",
            f"({s}:gsub({pattern(dice)}, string.upper, 2))",
            f"type({n})",
            f"table.concat({table(dice, depth - 1)}, {s})",
            f"cjson.encode({table(dice, depth - 1)})",
            f"string.char({n} % 256)",
            f"tostring({n} < {number(dice, 0)})",
            f"redis.sha1hex({s})",
            f"cmsgpack.pack({n})",
            f"struct.pack('>i4', {n})",
            f"bit.tohex({n})",
            f"tostring({s} == {t})",
            f"string.format('%.14g', {n})",
            f"tostring({s} < {t})",
        )
    )


def table(dice: Random, depth: int) -> str:
    parts = [
        number(dice, depth - 1) if dice.random() < 0.6 else text(dice, depth - 1) for _ in range(dice.randint(0, 3))
    ]
    return "{" + ", ".join(parts) + "}"


def expression(dice: Random) -> str:
    """A script that answers with a random expression's value."""
    make = dice.choice((number, number, text, text, table))
    found = make(dice, 3)
    if make is number and dice.random() < 0.7:
        found = f"string.format('%.14g', {found})"
    return f"return {found}"


SCRIPTING = """
6* EVAL script 1 key value
3* EVAL script numkeys key other value
10* EVAL expression 1 key value
10* EVAL call 0 any
5* EVAL orderedcall 0 ordered
1* EVAL_RO call 0 any
1* EVAL_RO script 1 key value
2* EVAL call 1 key any
1* EVAL script
1* EVAL script (x|-1|5|1) key
1* SCRIPT LOAD fixed ; EVALSHA fixedsha 1 key value value
1* SCRIPT LOAD script
1* SCRIPT EXISTS fixedsha value
1* SCRIPT FLUSH [SYNC|ASYNC|x]
1* EVALSHA fixedsha 1 key value
1* EVALSHA_RO fixedsha 1 key value
1* EVALSHA (abc|0000000000000000000000000000000000000000) 0
1* SCRIPT (x|EXISTS|LOAD|KILL)
5* FUNCTION LOAD [REPLACE] library
4* FCALL (f1|f2|f4|f6|nosuch) 1 key value
2* FCALL f3 0 any
2* FCALL_RO (f1|f2|f3|f4) 1 key value
1* FCALL f1 (0|x|-1|7) key
1* FUNCTION DELETE (one|two|three|four|x)
1* FUNCTION LIST LIBRARYNAME (one|two|four|x) [WITHCODE]
1* FUNCTION FLUSH [SYNC|ASYNC|x]
1* FUNCTION (KILL|x|DELETE|LOAD)
1* FUNCTION RESTORE (x|value) [FLUSH|APPEND|REPLACE|x]
1* FUNCTION LOAD library ; FUNCTION LIST LIBRARYNAME (one|two) WITHCODE
3* any
1* MULTI ; EVAL script 1 key value ; FCALL f1 1 key value ; EXEC
"""
