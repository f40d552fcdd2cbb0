"""Scripts for the libraries that scripts are given, and function libraries; written as in corpus.py."""

from __future__ import annotations

from typing import Final

from tests.scripting.corpus import lines

JSON: Final = lines(r"""
return cjson.encode({1,2,3})
return cjson.encode({})
return cjson.encode({a=1})
return cjson.encode({[1]=1,[2]=2,[5]=5})
return cjson.encode({[1]=1,[100]=2})
return cjson.encode({[1]=1,a=2})
return cjson.encode({[1.5]=1})
return cjson.encode(0.1)
return cjson.encode(1e100)
return cjson.encode(2^53)
return cjson.encode(1/3)
return cjson.encode(123456789012345678)
return cjson.encode(0/0)
return cjson.encode(1/0)
return cjson.encode(nil)
return cjson.encode(true)
return cjson.encode(cjson.null)
return cjson.encode(function() end)
return cjson.encode({function() end})
return cjson.encode({[{}]=1})
return cjson.encode({[true]=1})
return cjson.encode()
return cjson.encode(1,2)
local t={} t.t=t return cjson.encode(t)
local t={} for i=1,999 do t={t} end return #cjson.encode(t)
local t={} for i=1,1000 do t={t} end return #cjson.encode(t)
local t={} for i=1,1001 do t={t} end return #cjson.encode(t)
return cjson.decode("[1,2,[3,{}]]")
return cjson.decode("{\"a\":1}").a
return cjson.decode("1.5")
return cjson.decode("\"x\"")
return cjson.decode("true")
return cjson.decode("null")==cjson.null
return cjson.decode("null")
return tostring(cjson.null)
return cjson.decode("[null]")[1]==cjson.null
return cjson.decode("")
return cjson.decode("[")
return cjson.decode("[1,]")
return cjson.decode("{\"a\"}")
return cjson.decode("{a:1}")
return cjson.decode("[1 2]")
return cjson.decode("nul")
return cjson.decode("tru")
return cjson.decode("\"abc")
return cjson.decode("\"\\q\"")
return cjson.decode("\"\\u00e9\\ud83d\\ude00\\n\"")
return cjson.decode("\"\\ud83d\"")
return cjson.decode("\"\\ude00\"")
return cjson.decode("\"\\u00g0\"")
return cjson.decode("[1] x")
return cjson.decode("1 1")
return cjson.decode("0x1F")
return cjson.decode("[0x1F]")[1]
return cjson.decode("-")
return cjson.decode("+1")
return cjson.decode("01")
return cjson.decode("1e5")
return cjson.decode("1e")
return cjson.decode(".5")
return cjson.decode("1.")
return tostring(cjson.decode("nan"))
return tostring(cjson.decode("-inf"))
return tostring(cjson.decode("Infinity"))
return cjson.decode("infinit")
return cjson.decode(5)
return cjson.decode()
return cjson.decode({})
return cjson.decode("a","b")
return cjson.decode("[1]\0")
return cjson.decode("\0[1]")
return cjson.decode("[\0]")
return cjson.decode("  [ 1 , 2 ]  ")
return cjson.decode("[1\v]")
return #cjson.decode(string.rep("[",1000)..string.rep("]",1000))
return cjson.decode(string.rep("[",1001)..string.rep("]",1001))
return cjson.decode("{\"a\":1,\"a\":2}").a
return cjson.decode("{\"1\":5}")["1"]
return cjson.decode("[1e999]")
return cjson.decode("12345678901234567890")
return string.format("%.17g",cjson.decode("0.1"))
cjson.encode_sparse_array(true) return cjson.encode({[1]=1,[1000]=2})
return {cjson.encode_sparse_array()}
return {cjson.encode_sparse_array(true,3,4)}
return cjson.encode_sparse_array("x")
return cjson.encode_sparse_array(true,-1)
return cjson.encode_max_depth()
return cjson.encode_max_depth(5)
cjson.encode_max_depth(1) return cjson.encode({{}})
return cjson.encode_max_depth(0)
return cjson.encode_max_depth("x")
return cjson.encode_max_depth(1,2)
cjson.decode_max_depth(1) return cjson.decode("[[1]]")
return cjson.encode_number_precision(3)
cjson.encode_number_precision(3) return cjson.encode(3.14159)
return cjson.encode_number_precision(15)
return cjson.encode_keep_buffer(false)
return cjson.encode_keep_buffer("on")
cjson.encode_invalid_numbers(true) return cjson.encode({0/0 ~= 0/0, 1/0, -1/0})
cjson.encode_invalid_numbers("null") return cjson.encode({1/0})
return cjson.encode_invalid_numbers("x")
cjson.decode_invalid_numbers(false) return cjson.decode("[0x1]")
cjson.decode_invalid_numbers(false) return cjson.decode("[nan]")
return cjson.decode_invalid_numbers()
return cjson._VERSION
return cjson._NAME
return cjson.new
return cjson.decode_array_with_array_mt
return type(cjson.encode_escape_forward_slash)
return cjson.null==nil
return type(cjson.null)
return cjson.encode({[0]=1})
return cjson.encode({[-1]=1})
return cjson.encode({[1e15]=1})
return cjson.encode({a={b={c={}}},d={1,"x",true,cjson.null}})~=nil
return cjson.encode("\1\31\200\255")
return cjson.encode(-0)
return cjson.encode({1,nil,3})
return cjson.encode(setmetatable({},{__index={1}}))
""")

BITS: Final = lines(r"""
return bit.tobit(0xffffffff)
return bit.tobit(2^40+5)
return bit.tobit(-1.5)
return bit.tobit(1.5)
return bit.tobit(2.5)
return bit.tobit("5")
return bit.tobit("x")
return bit.tobit()
return bit.tobit({})
return bit.bnot(0)
return bit.band(255,15,7)
return bit.band()
return bit.band(1)
return bit.bor(1,2,4)
return bit.bxor(5,1)
return bit.bxor(5,"x")
return bit.lshift(1,31)
return bit.lshift(1,32)
return bit.lshift(1,-1)
return bit.lshift(1)
return bit.rshift(-1,4)
return bit.arshift(-16,2)
return bit.rol(0x12345678,12)
return bit.ror(0x12345678,12)
return bit.bswap(0x12345678)
return bit.tohex(1)
return bit.tohex(-1)
return bit.tohex(255,-4)
return bit.tohex(255,4)
return bit.tohex(255,0)
return bit.tohex(255,100)
return bit.tohex(255,-100)
return bit.tohex("x")
return bit.tohex(1,"x")
return bit.tobit(1e300)
return bit.tobit(0/0)
return bit.tobit(1/0)
return bit.tobit(2^31)
return bit.tobit(-2^31)
return bit.tobit(2^52)
return bit.tobit(2^53+2)
return bit.nosuch
return bit.tohex(255,2^31)
return bit.tohex(1,-2^31)
""")

STRUCTS: Final = lines(r"""
return struct.pack(">I4",1)
return struct.pack("<I4",1)
return struct.pack("bBhHlLiITfdsc0",1,2,3,4,5,6,7,8,9,1.5,2.5,"abc","x")
return struct.pack("c3","abcdef")
return struct.pack("c3","a")
return struct.pack("c0","abc")
return struct.pack("s","a\0b")
return struct.pack("i3",70000)
return struct.pack(">i16",1)
return struct.pack("i33",1)
return struct.pack("!8 b d",1,2)
return struct.pack("!b i4",1,2)
return struct.pack("!3 i",1)
return struct.pack("x")
return struct.pack("q",1)
return struct.pack("i","x")
return struct.pack("i")
return struct.pack("i",nil)
return struct.pack()
return struct.pack({})
return struct.pack("",1)
return struct.pack("=I2>I2<I2",1,2,3)
return struct.pack("b",300)
return struct.pack("B",-1)
return struct.pack("i",1e300)
return struct.pack("i8",2^62)
return struct.pack("I8",-1)
return struct.pack("i",1.9)
return struct.pack("i",-1.9)
return struct.pack("f",1e300)
return struct.pack("d",0/0)==nil
return struct.pack("i0",1)
return struct.pack("i99999999999",1)
return struct.pack("c99999999999","a")
return struct.unpack("i","abcd")
return {struct.unpack("<i2i2","\1\0\2\0")}
return {struct.unpack("<i2","\1\0\2\0",3)}
return {struct.unpack("<i2","\1\0\2\0",4)}
return struct.unpack("<i2","\1\0",0)
return struct.unpack("<i2","\1\0",-1)
return {struct.unpack("s","abc\0d")}
return struct.unpack("s","abc")
return {struct.unpack("c0","abc")}
return {struct.unpack("Bc0","\3abcd")}
return struct.unpack("Bc0","\9abcd")
return struct.unpack("c0","abc")
return {struct.unpack("c2","abc")}
return struct.unpack("c9","abc")
return struct.unpack("f",struct.pack("f",1.5))
return struct.unpack("d",struct.pack("d",1.25))*100
return struct.unpack("<I4","\255\255\255\255")
return struct.unpack("<i4","\255\255\255\255")
return struct.unpack("<I8",string.rep("\255",8))
return struct.unpack("<i8",string.rep("\255",8))
return {struct.unpack("!4 b i","\1\0\0\0\5\0\0\0")}
return struct.unpack()
return struct.unpack("i")
return struct.unpack("i",{})
return struct.unpack("i","abcd","x")
return struct.size("i")
return struct.size("!8bd")
return struct.size("s")
return struct.size("c0")
return struct.size("c5")
return struct.size("i","x")
return struct.size()
return struct.size("c2147483647c1")
return struct.size("q")
return struct.size("i33")
return struct.size("!16 i")
return struct.size("!9 i")
return struct.size("bxxi2 i2")
return struct.unpack("<c2147483647","x",2)
return {struct.unpack("",""),1}
return {struct.unpack("x i1","\0\5")}
return struct.unpack("i16",string.rep("\1",16))
return struct.unpack("i3","\1\2\255")
return struct.unpack(">I3","\1\2\255")
""")

MSGPACK: Final = lines(r"""
return cmsgpack.pack(1)
return cmsgpack.pack(-1)
return cmsgpack.pack(127)
return cmsgpack.pack(128)
return cmsgpack.pack(-32)
return cmsgpack.pack(-33)
return cmsgpack.pack(255)
return cmsgpack.pack(256)
return cmsgpack.pack(65535)
return cmsgpack.pack(65536)
return cmsgpack.pack(-128)
return cmsgpack.pack(-129)
return cmsgpack.pack(-32768)
return cmsgpack.pack(-32769)
return cmsgpack.pack(2^31)
return cmsgpack.pack(-2^31)
return cmsgpack.pack(-2^31-1)
return cmsgpack.pack(2^32)
return cmsgpack.pack(2^53)
return cmsgpack.pack(2^63)
return cmsgpack.pack(-2^63)
return cmsgpack.pack(2^64)
return cmsgpack.pack(1.5)
return cmsgpack.pack(0.1)
return cmsgpack.pack(1/0)
return cmsgpack.pack(-1/0)
return cmsgpack.pack("x")
return cmsgpack.pack(string.rep("x",31))
return cmsgpack.pack(string.rep("x",32))
return cmsgpack.pack(string.rep("x",256))
return #cmsgpack.pack(string.rep("x",70000))
return cmsgpack.pack(nil)
return cmsgpack.pack(true)
return cmsgpack.pack(false)
return cmsgpack.pack({})
return cmsgpack.pack({1,2,3})
return cmsgpack.pack({a=1})
return cmsgpack.pack({[1]=1,[3]=3})
return cmsgpack.pack({[1.5]=1})
return cmsgpack.pack({[0]=1})
return cmsgpack.pack({1,2,a=1})
return cmsgpack.pack(1,2,"x")
return cmsgpack.pack()
return cmsgpack.pack(function() end)
return cmsgpack.pack(cjson.null)
return #cmsgpack.pack((function() local t={} for i=1,20 do t[i]=i end return t end)())
return #cmsgpack.pack((function() local t={} for i=1,70000 do t[i]=1 end return t end)())
return #cmsgpack.pack((function() local t={} for i=1,20 do t["k"..i]=i end return t end)())
return cmsgpack.pack((function() local t={} for i=1,30 do t={t} end return t end)())
return {cmsgpack.unpack(cmsgpack.pack(1,2,"x"))}
return cmsgpack.unpack(cmsgpack.pack({1,{2,{3}}}))
return cmsgpack.unpack(cmsgpack.pack({a=5})).a
return cmsgpack.unpack("")
return cmsgpack.unpack()
return cmsgpack.unpack({})
return cmsgpack.unpack(5)
return cmsgpack.unpack("\193")
return cmsgpack.unpack("\145")
return cmsgpack.unpack("\161")
return cmsgpack.unpack("\217\5abc")
return cmsgpack.unpack("\203\0")
return {cmsgpack.unpack_one(cmsgpack.pack(1,2))}
return {cmsgpack.unpack_one(cmsgpack.pack(1,2),1)}
return {cmsgpack.unpack_one(cmsgpack.pack(1,2),2)}
return {cmsgpack.unpack_one(cmsgpack.pack(1,2),9)}
return {cmsgpack.unpack_one(cmsgpack.pack(1,2),-1)}
return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),2)}
return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),2,1)}
return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),-1)}
return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3))}
return {cmsgpack.unpack_limit("",1)}
return {cmsgpack.unpack_limit(cmsgpack.pack(1),0)}
return cmsgpack.unpack_one("x","y")
return cmsgpack._VERSION
return cmsgpack._NAME
return cmsgpack._COPYRIGHT
return cmsgpack._DESCRIPTION
return cmsgpack.safe
return cmsgpack.unpack(string.rep("\145",20).."\1")
return cmsgpack.unpack("\202\63\192\0\0")*10
return cmsgpack.unpack("\207\255\255\255\255\255\255\255\255")
return cmsgpack.unpack("\211\255\255\255\255\255\255\255\255")
return cmsgpack.unpack("\221\255\255\255\255")
return cmsgpack.unpack("\223\255\255\255\255")
return cmsgpack.unpack("\219\255\255\255\255a")
return cmsgpack.unpack("\196\1a")
""")

LIBRARIES: Final = lines(r"""
#!lua name=test␤redis.register_function('test', function() return 'hello' end)
#!lua name=test2␤redis.register_function('test', function() return 'hello' end)
#!lua name=x␤redis.register_function('test', function() return 'hello' end)
foo
#!lua
#!lua name=␤foo
#!lua name=a-b␤foo
#!lua name=x name=y␤z
#!lua foo=bar␤z
#!lua name␤x
#!js name=x␤foo
#!LUA name=up1␤redis.register_function("up1",function() return 1 end)
#!lua name=x␤bad code here
#!lua name=x␤return 1
#!lua name=x␤redis.call("get","x")
#!lua name=x␤error("boo")
#!lua name=x␤error({err="boo"})
#!lua name=x␤error({})
#!lua name=x␤foo=1
#!lua name=x␤return foo
#!lua name=x␤local x=nil; return x.y
#! lua name=x␤foo
#!lua name="q w"␤foo
#!lua name="unbal␤foo
#!␤foo
#!lua Name=cased␤redis.register_function("cased",function() return 1 end)
#!lua name=x␤error()
#!lua name=x␤error(nil)
#!lua name=x␤error(3)
""")

BODIES: Final = lines(r"""
redis.register_function()
redis.register_function(1)
redis.register_function("a")
redis.register_function("a",1)
redis.register_function({},1)
redis.register_function("a",function() end,1)
redis.register_function("a b",function() end)
redis.register_function(5,function() end)
redis.register_function("",function() end)
redis.register_function{}
redis.register_function{function_name="a"}
redis.register_function{callback=function() end}
redis.register_function{function_name=1,callback=function() end}
redis.register_function{function_name={},callback=function() end}
redis.register_function{function_name="a",callback=1}
redis.register_function{function_name="a",callback=function() end,foo=1}
redis.register_function{function_name="a",callback=function() end,[{}]=1}
redis.register_function{function_name="a",callback=function() end,[1]=1}
redis.register_function{function_name="a",callback=function() end,description={}}
redis.register_function{function_name="a",callback=function() end,description=5}
redis.register_function{function_name="a",callback=function() end,flags=5}
redis.register_function{function_name="a",callback=function() end,flags={5}}
redis.register_function{function_name="a",callback=function() end,flags={"bad"}}
redis.register_function{function_name="a",callback=function() end,flags={"no-writes","ALLOW-OOM"}}
redis.register_function{function_name="a",callback=function() end,flags={a="no-writes"}}
redis.log(redis.LOG_WARNING,"x") redis.register_function("a",function() end)
redis.setresp(3)
redis.sha1hex("x")
redis.pcall("get","x")
local x = math.random() redis.register_function("a",function() return 1 end)
redis.breakpoint()
print("x")
cjson.encode({})
local t={} redis.register_function("a",function() t.x=(t.x or 0)+1 return t.x end)
setmetatable(_G,{})
getmetatable(_G).__index=1
string.foo=1
redis.foo=1
redis.call=1
KEYS=1
return KEYS[1]
dofile("x")
loadstring("return 1")()
function f() return 1 end redis.register_function("a",f)
local function f() return 1 end redis.register_function("a",f)
local f=function() redis.register_function("b",function() end) end redis.register_function("a",f)
redis.register_function("a",function() return _G end)
redis.register_function("a",function() x=1 end)
redis.register_function("a",function() return redis.register_function end)
redis.register_function("a",function() return x end)
redis.register_function("a",function(k,a) return {k,a} end)
redis.register_function("a",function() return KEYS end)
redis.register_function("a",function() return redis.call("set","x","y") end)
redis.register_function{function_name="a",callback=function() return redis.call("get","x") end,flags={"no-writes"}}
redis.register_function("a",function() return redis.call("nosuch") end)
redis.register_function("a",function() return redis.pcall("nosuch") end)
redis.register_function("a",function() error("x") end)
redis.register_function("a",function() error({err="ERR x"}) end)
redis.register_function("a",function() return redis.error_reply("BAD x") end)
redis.register_function("a",function() redis.setresp(3) return redis.call("hgetall","h") end)
redis.register_function("a",function() return redis.call("fcall","a","0") end)
redis.register_function("a",function() return math.type end)
redis.register_function("a",function() return redis.breakpoint() end)
redis.register_function("a",function() return redis.replicate_commands() end)
redis.register_function("a",function() return redis.set_repl(1) end)
redis.register_function("a",function() return redis.sha1hex("") end)
""")
