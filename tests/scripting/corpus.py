"""Scripts and libraries by topic; the tests ask a stock server and durakv the same and compare.

One script a line, a line feed within it written as U+2424. Each list is run in order against one pair of servers.
"""

from __future__ import annotations

from typing import Final


def lines(text: str) -> list[bytes]:
    """The scripts of a list."""
    return [line.replace("\u2424", "\n").encode() for line in text.strip("\n").split("\n")]


REPLIES: Final = lines(r"""
return 1
return 1.9
return -1.9
return 1e300
return 0/0
return "x"
return true
return false
return nil
return
return {1,2,{3,"x",nil,4},false,true}
return {}
return {a=1}
return {ok="fine"}
return {err="MY error"}
return {err="noprefix"}
return {err=5}
return {ok=5}
return {double=3.5}
return {map={a=1}}
return {set={a=true}}
return {big_number="123"}
return {verbatim_string={string="x",format="txt"}}
return {err="a\r\nb"}
return {ok="a\r\nb"}
return {ok="a\0b"}
return {err="a\0b"}
return function() end
return coroutine.create(function() end)
return cjson.null
return {KEYS,ARGV}
""")

COMPILING: Final = lines(r"""
bad bad
return (
x =
for
return "abc
local function
goto a
return 1 2
return [[
--[[
if
a.b:c=1
break
return ...
local a <const> = 1
""")

LANGUAGE: Final = lines(r"""
x=1
return x
return nosuch.y
local x; return x.y
local x; return x()
error("boo")
error("boo",0)
error("boo",2)
error({err="ERR custom"})
error({err="custom"})
error()
error(nil)
error(5)
error(true)
return 1+{}
return 1 .. {}
return {}<{}
return #5
return ("x"):nosuch()
local t=setmetatable({},{__index=function() error("in") end}) return t.x
assert(false)
assert(false,"msg")
assert(nil,{err="x y"})
return string.rep("x",-1)
return string.rep()
return tonumber("z",99)
return unpack({},1,1e8)
return string.format("%d","x")
return string.format("%y")
return 1
return math.floor("x")
return table.concat({1,{},3})
return table.concat({1,2,3},", ")
return select(0)
return select("#",1,nil,nil)
return setmetatable(1,{})
return getmetatable("").__index
return rawget(_G,"x")
rawset(_G,"x",1)
_G.x=1
setmetatable(_G,nil)
return getmetatable(_G)==nil
return _G.redis==redis
return _G._G==_G
return _VERSION
return type(_G)
return type(string)
return next({})
return next(_G)~=nil
string.rep=1
redis.call=1
redis.x=1
cjson.x=1
math.x=1
table.x=1
bit.x=1
cmsgpack.x=1
struct.x=1
coroutine.x=1
os.x=1
return os.time
return os.getenv
return io
return require
return dofile
return loadfile
return package
return debug
return module
return print
return collectgarbage("count")>=0
return loadstring("return 5")()
return loadstring("bad bad")
local a,b=loadstring("bad bad") return b
local a,b=loadstring("bad bad","@x") return b
local a,b=loadstring("bad bad","=x") return b
return load(function() return nil end)()
local n=0 return load(function() n=n+1 if n==1 then return "return 7" end end)()
local a,b=loadstring("\27Lua") return b
return getfenv(0)==_G
return getfenv(1)==_G
return getfenv()==_G
return getfenv(print)
setfenv(1,{}) return 1
setfenv(1,{redis=redis}) return redis.sha1hex("")
return pcall(error,"x")
return {pcall(error,"x")}
return {pcall(error,{err="x"})}
return {pcall(function() error("x") end)}
return {pcall(redis.call,"nosuch")}
return {pcall(redis.call)}
return {xpcall(function() error("x") end,function(e) return e.."!" end)}
return {xpcall(function() return 1,2 end,print)}
return {coroutine.resume(coroutine.create(function() error("x") end))}
return coroutine.wrap(function() error("x") end)()
coroutine.yield(1)
return coroutine.running()
return tostring(nil)
return tostring(1e15)
return tostring(1e14)
return tostring(0.1)
return tostring(-0)
return tostring(1/0)
return tostring(0/0)
return tostring(true)
return ""..1e100
return math.huge
return -math.huge
return 2^53
return 2^53+1
return 2^63
return -2^63
return 2^64
return string.format("%s",nil)
return string.format("%s",{}) ~= nil
return string.format("%s",1)
return string.gsub("hello","l","L")
return {string.gsub("hello","l","L")}
return {string.find("hello","l+")}
return {("key=val"):match("(%w+)=(%w+)")}
local t={} for w in ("a b c"):gmatch("%a") do t[#t+1]=w end return t
return {string.byte("abc",1,-1)}
return string.char(1,2,255)
return string.reverse("abc")
return ("abc"):upper()
return ("abc"):sub(-2)
local t={3,1,2} table.sort(t) return t
local t={3,1,2} table.sort(t,function(a,b) return a>b end) return t
local t={3,1,"x"} table.sort(t) return t
local t={3,1,2,4,5} table.sort(t,function(a,b) return true end) return 1
local t={1,2,3} table.insert(t,2,9) table.remove(t) return t
table.insert({},1,2,3)
return table.getn({1,2})
return table.maxn({1,2,[10]=1})
table.setn({},1)
local t={} table.foreach({a=1},function(k,v) t[1]=k t[2]=v end) return t
local t={} table.foreachi({5,6},function(k,v) t[k]=v end) return t
return math.max(1,5,2)
return math.min()
return math.fmod(7,3)
return math.mod(7,3)
return math.modf(3.7)
return {math.frexp(8)}
return math.ldexp(1,4)
return math.pow(2,10)
return math.pi
return string.format("%.17g",math.sqrt(2))
return string.format("%.17g",math.sin(1))
return string.format("%.17g",math.exp(1))
return math.random()>=0
math.randomseed(1) return {math.random(100),math.random(100),math.random(100),tostring(math.random())}
math.randomseed(-5) return {math.random(100),math.random(5,9)}
math.randomseed(1e10) return math.random(1000)
return math.random(0)
return math.random(2,1)
return math.random(1,2,3)
return math.random("x")
math.randomseed()
return math.randomseed("7")
return 5 % 0 == 5 % 0
return -5 % 3
return 7 % -3
return 10/4*100
return "10"+5
return "0x10"+0
return tonumber("0x1F")
return tonumber("1e1")
return tonumber("  12  ")
return tonumber("12a") == nil
return tonumber("777",8)
return tonumber("zz",36)
return tonumber("")==nil
return #{1,2,nil,4}
return #"abc"
return not nil
return 1 == "1"
return "a" < "b"
return "a" < 1
""")

CALLS: Final = lines(r"""
return redis.call()
return redis.pcall()
return redis.call({})
return redis.call("get",{})
return redis.call("get",nil)
return redis.call("get",true)
return redis.call(nil)
return redis.call("get","str",nil)
return redis.call(5)
return redis.call("get")
return redis.pcall("get")
return redis.call("nosuch")
return redis.pcall("nosuch","x")
return redis.pcall("nosuch").err
return redis.call("GET","l")
return redis.pcall("GET","l")
return redis.pcall("GET","l").err
return {redis.pcall("GET","l").err,1}
return redis.call("incr","str")
return redis.call("set","a",1)
return redis.call("set","a",1.5)
return redis.call("set","a",1e20)
return redis.call("get","a")
redis.call("set","a",3.0) return redis.call("get","a")
redis.call("set","a",0.1) return redis.call("get","a")
redis.call("set","a",1/3) return redis.call("get","a")
redis.call("set","a",2^53) return redis.call("get","a")
redis.call("set","a",1e15) return redis.call("get","a")
redis.call("set","a",123456789012345678) return redis.call("get","a")
redis.call("set","a",-0) return redis.call("get","a")
redis.call("set","a",1/0) return redis.call("get","a")
redis.call("set","a",1e17) return redis.call("get","a")
return redis.call("hgetall","h")
redis.setresp(3) return redis.call("hgetall","h")
redis.setresp(3) return redis.call("hgetall","h").map.a
redis.setresp(3) return redis.call("smembers","s")
redis.setresp(3) return redis.call("smembers","s").set.a
redis.setresp(3) return redis.call("zscore","z","a")
redis.setresp(3) return redis.call("zscore","z","a").double
return redis.call("zscore","z","a")
redis.setresp(3) return redis.call("zscore","z","nope")
redis.setresp(3) return redis.call("get","nope")==nil
return redis.call("get","nope")==false
return redis.call("zrange","z",0,-1,"withscores")
redis.setresp(3) return redis.call("zrange","z",0,-1,"withscores")
return redis.call("exists","l")
return redis.call("ping")
return redis.call("ping").ok
return redis.call("ping","x")
return redis.call("echo","x")
return #redis.call("time")
return redis.call("select",1)
redis.call("select",1) redis.call("set","in1",1) return 1
return redis.call("select",99)
return redis.call("publish","c","m")
return redis.call("multi")
return redis.call("exec")
return redis.call("watch","a")
return redis.call("subscribe","a")
return redis.call("eval","return 1",0)
return redis.call("script","load","return 1")
return redis.call("auth","x")
return redis.call("monitor")
return redis.call("debug","sleep",0)
return redis.call("function","list")
return redis.call("config","get","x")
return redis.call("blpop","nokey",0)
return redis.call("blpop","l",0)
redis.call("rpush","l",1) return redis.call("brpop","l",0)
return redis.call("xread","block",0,"streams","nos","$")
return redis.call("wait",0,0)
return redis.call("spop","nokey")
return redis.call("object","encoding","n")
return redis.call("type","l")
return redis.call("type","l").ok
return redis.call("keys","nope*")
return redis.call("scan",0,"match","nope")
return redis.call("dbsize")
return redis.call("expire","str",100)
return redis.call("ttl","str")
return redis.call("lrange","l",0,-1)
return redis.call("sort","l","desc")
return redis.call("mget","str","nope","l")
return redis.call("set","str","x","get")
return redis.call("flushall")
return redis.call("get","str")
return redis.call("SeT","str","v")
return redis.sha1hex("x")
return redis.sha1hex()
return redis.sha1hex(1,2)
return redis.sha1hex(5)
return redis.sha1hex({})
return redis.error_reply("x")
return redis.error_reply("MY x")
return redis.error_reply("-MY x")
return redis.error_reply("-x")
return redis.error_reply()
return redis.error_reply({})
return redis.error_reply(5)
return redis.error_reply("")
return redis.error_reply("a b\r\n")
return redis.status_reply("OK")
return redis.status_reply()
return redis.status_reply({})
return redis.status_reply("")
return redis.error_reply("x").err
return redis.log()
return redis.log(1)
return redis.log(redis.LOG_DEBUG,"x")
return redis.log(99,"x")
return redis.log("x","y")
return redis.log(-1,"x")
return {redis.LOG_DEBUG,redis.LOG_VERBOSE,redis.LOG_NOTICE,redis.LOG_WARNING}
return redis.setresp()
return redis.setresp(4)
return redis.setresp("x")
return redis.setresp(2,3)
return redis.set_repl()
return redis.set_repl(9)
return redis.set_repl(redis.REPL_ALL)
return {redis.REPL_NONE,redis.REPL_AOF,redis.REPL_SLAVE,redis.REPL_REPLICA,redis.REPL_ALL}
return redis.replicate_commands()
return redis.breakpoint()
return redis.debug("x")
return redis.acl_check_cmd("get","x")
return redis.acl_check_cmd("nosuch")
return redis.acl_check_cmd()
return redis.acl_check_cmd({})
return type(redis.REDIS_VERSION)
return type(redis.REDIS_VERSION_NUM)
return redis.nosuch
redis.setresp(3) return {double=3.25}
redis.setresp(3) return {map={a=1}}
redis.setresp(3) return {set={a=true}}
redis.setresp(3) return {big_number="123"}
redis.setresp(3) return {verbatim_string={string="x",format="txt"}}
redis.setresp(3) return true
redis.setresp(3) return {false,true}
return {double="x"}
return {map=5}
return {verbatim_string={}}
redis.setresp(3) return redis.call("get","nope")
redis.setresp(3) return {1,nil,3}
redis.call("set","k1","v") error("after")
return redis.call("get","k1")
redis.call("set","k2","v") return redis.call("nosuch")
return redis.call("get","k2")
redis.pcall("incr","l") return "went on"
""")

FIRST_LINES: Final = lines(r"""
#!lua␤return 1
#!lua flags=no-writes␤return redis.call("set","a","b")
#!lua flags=no-writes␤return redis.pcall("set","a","b")
#!lua flags=no-writes␤return redis.call("get","str")
#!lua flags=␤return 1
#!lua flags=bad␤return 1
#!lua foo=bar␤return 1
#!lua
#!␤return 1
#!lua2␤return 1
#!lua flags=no-writes,allow-oom,allow-stale,no-cluster,allow-cross-slot-keys␤return 1
#!lua flags=no-writes flags=allow-oom␤return 1
#!lua flags=no-writes,␤return 1
#!lua␤error("line 2")
#!lua␤␤␤return x
#!LUA␤return 1
#!lua flags="no-writes"␤return 1
#!lua name=x␤return 1
#!lua flags=no-writes␤return redis.call("publish","a","b")
#!lua flags=no-writes␤return redis.call("pfcount","a")
""")
