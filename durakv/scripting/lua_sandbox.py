"""The sandbox, in Lua: what a script may see of the standard library, and the limits nothing in it can get around.

Rule: everything a script can observe depends on the script, its arguments and the state alone. So no address is shown,
no traversal depends on one, memory use is not told, and the collector runs at points where nothing can notice it.
What is handed to scripts are empty proxies with a protected metatable; the real tables stay behind them.
It knows nothing of commands; ``lua_api`` builds on the table it returns.
"""

from __future__ import annotations

from typing import Final

# Instructions between two looks at the limits; also the price of a coroutine, which has a counter of its own.
STEP: Final = 1000
# Garbage of finished runs above which the collector runs between two of them, over the least seen.
IDLE_GARBAGE_KIB: Final = 4096

SANDBOX: Final = r"""
local STEP, IDLE_GARBAGE_KB = ...
local type, next0, select, error, pcall0, xpcall0 = type, next, select, error, pcall, xpcall
local rawget0, rawset0, tostring0, tonumber = rawget, rawset, tostring, tonumber
local setmetatable0, getmetatable0, setfenv0, getfenv0 = setmetatable, getmetatable, setfenv, getfenv
local loadstring0, collectgarbage0 = loadstring, collectgarbage
-- Whole KiB; asked often, and cheaper than collectgarbage("count").
local memory_kb = gcinfo
local string, table, math, coroutine0 = string, table, math, coroutine
local sethook, getinfo, dump = debug.sethook, debug.getinfo, string.dump
local format, concat, floor = string.format, table.concat, math.floor
local REAL = getfenv0(0)

local D = {format = format, concat = concat, setfenv = setfenv0, sethook = sethook}
local READONLY = "Attempt to modify a readonly table"
local KILL = "the script is being stopped"

-- What holds for one run; D.begin() sets all of it.
local used, limit, killed, killed_at = 0, 0, nil, nil
local ids, ids_n = {}, 0
local metas, metas_n = {}, 0
local base_kb, room_kb, gc_at_kb = 0, 0, 0
-- What there was after the last collection between two runs, more or less.
local idle_kb = 0

-- Proxy -> the table behind it.
local shadow = {}
-- Proxy -> what getmetatable() shows for it.
local shown_meta = {}
D.shadow = shadow

local function typename(...)
  if select("#", ...) == 0 then return "no value" end
  return type((...))
end
D.typename = typename

-- luaL_argerror(), for functions that scripts call: the position is the caller's.
local function bad_argument(n, name, what)
  error("bad argument #" .. n .. " to '" .. name .. "' (" .. what .. ")", 3)
end
D.bad_argument = bad_argument

-- Stopping -----------------------------------------------------------------------------------------------------------

-- Once a script is to be stopped, every further instruction of its threads raises, so no pcall can go on.
local function raise()
  error(KILL, 0)
end

local function kill(why)
  if not killed then
    killed = why
    local level = 2
    local i = getinfo(level, "Sl")
    while i and i.source:sub(1, 6) ~= "@user_" do
      level = level + 1
      i = getinfo(level, "Sl")
    end
    killed_at = i
  end
  sethook(raise, "", 1)
  error(KILL, 0)
end
D.kill = kill

-- A weak table would show when the collector ran: the flag is taken off its metatable meanwhile.
local function collect()
  local weak
  for mt in next0, metas do
    local mode = rawget0(mt, "__mode")
    if mode ~= nil then
      weak = weak or {}
      weak[mt] = mode
      rawset0(mt, "__mode", nil)
    end
  end
  collectgarbage0("collect")
  collectgarbage0("stop")
  if weak then
    for mt, mode in next0, weak do rawset0(mt, "__mode", mode) end
  end
  local live = memory_kb()
  if live - base_kb > room_kb then kill("memory") end
  gc_at_kb = live + math.max(live - base_kb, 16384)
  if gc_at_kb > base_kb + room_kb * 1.5 then gc_at_kb = base_kb + room_kb * 1.5 end
end

local function hook()
  used = used + STEP
  if killed or used > limit then kill("instructions") end
  if memory_kb() > gc_at_kb then collect() end
end

function D.charge(n)
  used = used + n
  if killed or used > limit then kill("instructions") end
  if memory_kb() > gc_at_kb then collect() end
end
local charge = D.charge

local function forget()
  if ids_n > 0 then ids, ids_n = {}, 0 end
  if metas_n > 0 then metas, metas_n = {}, 0 end
end

-- Environment of the script or library that runs.
local G

-- The last act before a run: from here on instructions count.
function D.begin(limit_, room_kb_, env)
  used, limit, killed, killed_at = 0, limit_, nil, nil
  if ids_n > 0 or metas_n > 0 then forget() end
  D.seeded = false
  G = env
  base_kb, room_kb = memory_kb(), room_kb_
  gc_at_kb = base_kb + (room_kb < 16384 and room_kb or 16384)
  sethook(hook, "", STEP)
end

-- Why the last run was stopped, and where, or nil.
function D.stopped()
  if killed_at then return killed, killed_at.source, killed_at.currentline end
  return killed
end

-- A C function that knows no metatables may have put something into a proxy.
local stuck = false

function D.stick()
  stuck = true
end

-- Between two runs: what the last one left. The least seen grows with the compiled scripts kept, so that these are not
-- taken for garbage again and again.
function D.finish()
  if ids_n > 0 or metas_n > 0 then forget() end
  if stuck then
    stuck = false
    for proxy in next0, shadow do
      local k = next0(proxy)
      while k ~= nil do
        rawset0(proxy, k, nil)
        k = next0(proxy)
      end
    end
  end
  local kb = memory_kb()
  if kb > idle_kb + IDLE_GARBAGE_KB then
    collectgarbage0("collect")
    collectgarbage0("stop")
    kb = memory_kb()
  end
  if idle_kb < kb - IDLE_GARBAGE_KB then idle_kb = kb - IDLE_GARBAGE_KB end
  if idle_kb > kb then idle_kb = kb end
  return kb
end

-- Everything is set up.
function D.settle()
  collectgarbage0("collect")
  collectgarbage0("stop")
  idle_kb = memory_kb()
  return idle_kb
end

-- Errors -------------------------------------------------------------------------------------------------------------

-- What went wrong and where: __server__err__handler() of eval.c, with this file's frames counted as C.
local function on_error(err)
  if killed then return err end
  local level = 2
  local i = getinfo(level, "nSl")
  while i and (i.what ~= "Lua" and i.what ~= "main" or i.source == "=durakv") do
    level = level + 1
    i = getinfo(level, "nSl")
  end
  if type(err) ~= "table" then err = {err = "ERR " .. D.tostring(err)} end
  if i and not shadow[err] then
    rawset0(err, "source", i.source)
    rawset0(err, "line", i.currentline)
  end
  return err
end
D.on_error = on_error

-- After a protected call: nothing that stops a script may be caught, and no foreign object seen.
local function caught(e)
  if killed then
    sethook(raise, "", 1)
    error(KILL, 0)
  end
  if e == "not enough memory" then kill("memory") end
  if type(e) == "userdata" and e ~= D.null then return "internal error" end
  return e
end

D.pcall0 = pcall0

-- Pass on what a protected call of our own has caught.
function D.rethrow(e)
  error(caught(e), 0)
end

local function after_pcall(ok, ...)
  if ok then return true, ... end
  local e = caught((...))
  if type(e) == "table" then
    local t = type(e.err)
    if t == "string" or t == "number" then e = e.err end
  end
  return false, e
end

local function pcall(...)
  if select("#", ...) == 0 then bad_argument(1, "pcall", "value expected") end
  return after_pcall(pcall0(...))
end

local function after_xpcall(ok, ...)
  if ok then return true, ... end
  caught(nil)
  if (...) == "not enough memory" then kill("memory") end
  return false, ...
end

local function xpcall(...)
  if select("#", ...) < 2 then bad_argument(2, "xpcall", "value expected") end
  local f, handler = ...
  return after_xpcall(xpcall0(f, function(e)
    -- A handler runs with the hook off when the hook raised: it could run for ever.
    if killed then return e end
    return handler(caught(e))
  end))
end

-- Coroutines ---------------------------------------------------------------------------------------------------------

local create0, resume0 = coroutine0.create, coroutine0.resume

local function create(...)
  local f = ...
  if type(f) ~= "function" or getinfo(f, "S").what == "C" then
    bad_argument(1, "create", "Lua function expected")
  end
  charge(STEP)
  local co = create0(f)
  sethook(co, hook, "", STEP)
  return co
end

local function after_resume(ok, ...)
  if ok then return true, ... end
  return false, caught((...))
end

local function resume(...)
  if type((...)) ~= "thread" then bad_argument(1, "resume", "coroutine expected") end
  return after_resume(resume0(...))
end

local function after_wrapped(ok, ...)
  if ok then return ... end
  local e = caught((...))
  if type(e) == "string" then error(e, 3) end
  error(e, 0)
end

local function wrap(...)
  local f = ...
  if type(f) ~= "function" or getinfo(f, "S").what == "C" then
    bad_argument(1, "wrap", "Lua function expected")
  end
  charge(STEP)
  local co = create0(f)
  sethook(co, hook, "", STEP)
  return function(...)
    return after_wrapped(resume0(co, ...))
  end
end

-- Tables -------------------------------------------------------------------------------------------------------------

local ORDERED = {string = true, number = true, boolean = true}

-- Keys that are objects are laid out by their addresses, so that every node would go through them in its own order.
local function check_keys(t)
  for k in next0, t do
    if not ORDERED[type(k)] and k ~= D.null then
      error("a table with a " .. type(k) .. " as key has no order that is the same on every node", 3)
    end
  end
end
D.check_keys = check_keys

local function next(...)
  local t, k = ...
  if type(t) ~= "table" then bad_argument(1, "next", "table expected, got " .. typename(...)) end
  t = shadow[t] or t
  if k == nil then check_keys(t) end
  return next0(t, k)
end

-- Goes on where pairs() has checked.
local function following(t, k)
  t = shadow[t] or t
  if k == nil then check_keys(t) end
  return next0(t, k)
end

local function pairs(...)
  local t = ...
  if type(t) ~= "table" then bad_argument(1, "pairs", "table expected, got " .. typename(...)) end
  return following, t, nil
end
D.next, D.rawget, D.rawset = next0, rawget0, rawset0

local function rawget(...)
  local t, k = ...
  if type(t) ~= "table" then bad_argument(1, "rawget", "table expected, got " .. typename(...)) end
  return rawget0(shadow[t] or t, k)
end

local function rawset(...)
  local t, k, v = ...
  if type(t) ~= "table" then bad_argument(1, "rawset", "table expected, got " .. typename(...)) end
  if shadow[t] then error(READONLY, 0) end
  return rawset0(t, k, v)
end

local function getmetatable(...)
  if select("#", ...) == 0 then bad_argument(1, "getmetatable", "value expected") end
  local v = ...
  if shadow[v] then return shown_meta[v] end
  if v == D.null then return nil end
  return (getmetatable0(v))
end

local function setmetatable(...)
  local t, mt = ...
  if type(t) ~= "table" then bad_argument(1, "setmetatable", "table expected, got " .. typename(...)) end
  if select("#", ...) < 2 or (mt ~= nil and type(mt) ~= "table") then
    bad_argument(2, "setmetatable", "nil or table expected")
  end
  if shadow[t] then error(READONLY, 0) end
  local old = getmetatable0(t)
  if type(old) == "table" and rawget0(old, "__metatable") ~= nil or old ~= nil and type(old) ~= "table" then
    error("cannot change a protected metatable", 2)
  end
  if mt ~= nil then metas[mt], metas_n = true, 1 end
  return setmetatable0(t, mt)
end

local function foreach(...)
  local t, f = ...
  if type(t) ~= "table" then bad_argument(1, "foreach", "table expected, got " .. typename(...)) end
  if type(f) ~= "function" then bad_argument(2, "foreach", "function expected, got " .. type(f)) end
  t = shadow[t] or t
  check_keys(t)
  for k, v in next0, t do
    local r = f(k, v)
    if r ~= nil then return r end
  end
end

-- Text of objects: the order in which a run first asked, where stock Lua shows an address.
local function tostring(...)
  if select("#", ...) == 0 then bad_argument(1, "tostring", "value expected") end
  local v = ...
  local t = type(v)
  if t == "string" then return v end
  if t == "number" or t == "boolean" or t == "nil" then return (tostring0(v)) end
  if v == D.null then return "userdata: (nil)" end
  local mt = getmetatable0(v)
  if type(mt) == "table" and not shadow[v] then
    local f = rawget0(mt, "__tostring")
    if f ~= nil then return (f(v)) end
  end
  local id = ids[v]
  if not id then
    ids_n = ids_n + 1
    id = ids_n
    ids[v] = id
  end
  return format("%s: 0x%012x", t, id)
end
D.tostring = tostring

-- Environments -------------------------------------------------------------------------------------------------------

local function env_of(f, name)
  if type(f) == "function" then return getfenv0(f) end
  local level = tonumber(f)
  if not level then bad_argument(1, name, "number expected, got " .. type(f)) end
  level = floor(level)
  if level < 0 then error("bad argument #1 to '" .. name .. "' (level must be non-negative)", 3) end
  if level == 0 then return nil end
  local i = getinfo(level + 2, "f")
  if not i then error("bad argument #1 to '" .. name .. "' (invalid level)", 3) end
  return getfenv0(i.func), i.func
end

local function getfenv(f)
  if f == nil then f = 1 end
  local env = env_of(f, "getfenv")
  if env == nil or env == REAL then return G end
  return env
end

local function setfenv(f, t)
  if type(t) ~= "table" then bad_argument(2, "setfenv", "table expected, got " .. type(t)) end
  local env, func = env_of(f, "setfenv")
  func = func or f
  if env == nil or env == REAL then
    error("'setfenv' cannot change environment of given object", 2)
  end
  return setfenv0(func, t)
end

-- Compiling ----------------------------------------------------------------------------------------------------------

-- Text only. The compiler's tail calls are turned into calls by `patch`: a tail call leaves no trace of who called, and
-- errors are to name the line (see bytecode.py).
local function compile(text, name)
  if text:byte(1) == 27 then
    local shown = name:sub(1, 1) == "@" and name:sub(2) or format('[string "%s"]', name)
    return nil, shown .. ":1: unexpected symbol near 'char(27)'"
  end
  local f, message = loadstring0(text, name)
  if not f then return nil, message end
  local code = D.patch(dump(f))
  if code then f = loadstring0(code, name) end
  setfenv0(f, REAL)
  return f
end
D.compile = compile

local function loadstring(...)
  local text, name = ...
  if type(text) == "number" then text = tostring0(text) end
  if type(text) ~= "string" then
    bad_argument(1, "loadstring", "string expected, got " .. typename(...))
  end
  charge(#text)
  local f, message = compile(text, name == nil and text or tostring(name))
  if not f then return nil, message end
  return setfenv0(f, G)
end

local function load(...)
  local reader, name = ...
  if type(reader) ~= "function" then
    bad_argument(1, "load", "function expected, got " .. typename(...))
  end
  local pieces, n, size = {}, 0, 0
  while true do
    local piece = reader()
    if piece == nil or piece == "" then break end
    if type(piece) ~= "string" then return nil, "reader function must return a string" end
    n, size = n + 1, size + #piece
    pieces[n] = piece
  end
  charge(size)
  local f, message = compile(concat(pieces), name == nil and "=(load)" or tostring(name))
  if not f then return nil, message end
  return setfenv0(f, G)
end

local function collectgarbage(what)
  what = what == nil and "collect" or what
  if what == "count" or what == "collect" or what == "step" or what == "setpause" or what == "setstepmul"
    or what == "stop" or what == "restart" then
    return what == "step" and true or 0
  end
  error("bad argument #1 to 'collectgarbage' (invalid option '" .. tostring(what) .. "')", 2)
end

-- Instructions instead of time: the same everywhere, and it passes.
local function clock()
  charge(1)
  return used / 1e8
end

-- What scripts get ---------------------------------------------------------------------------------------------------

local function refuse()
  error(READONLY, 2)
end

local function missing(t, k)
  if type(k) ~= "string" and type(k) ~= "number" then
    error("Second argument to luaProtectedTableError must be a string or number", 2)
  end
  error("Script attempted to access nonexistent global variable '" .. k .. "'", 2)
end
D.missing = missing

-- An empty table through which `contents` can be read and not changed.
local function protect(contents)
  local proxy = {}
  shadow[proxy] = contents
  local mt = {__index = contents, __newindex = refuse, __metatable = false}
  setmetatable0(proxy, mt)
  return proxy, mt
end
D.protect = protect

-- A protected table in which reading what is not there is an error too.
function D.strict(contents)
  setmetatable0(contents, {__index = missing})
  local proxy, mt = protect(contents)
  shown_meta[proxy] = protect({__index = missing})
  return proxy, mt
end

-- Equal strings are one object, so that only the instructions show how long a loop of these takes.
local rep0 = string.rep

local function rep(...)
  local s, n = ...
  local kind = typename(...)
  if kind ~= "string" and kind ~= "number" then bad_argument(1, "rep", "string expected, got " .. kind) end
  local count = type(n) ~= "boolean" and tonumber(n)
  if not count then bad_argument(2, "rep", "number expected, got " .. typename(select(2, ...))) end
  if count > 0 then charge(math.min(#tostring0(s) * count / 4, limit)) end
  return (rep0(s, n))
end

local libraries = {}
for name, contents in next0, {
  string = string, table = table, math = math,
  coroutine = {create = create, resume = resume, wrap = wrap, yield = coroutine0.yield,
               status = coroutine0.status, running = coroutine0.running},
  os = {clock = clock},
} do
  libraries[name] = protect(contents)
end
-- Bytecode could do what no text can; loadstring() takes what this gives for text that does not parse.
string.dump, string.rep = function() return "\27Lua" end, rep
table.foreach = foreach
-- Methods of strings; getmetatable("") shows a protected copy.
local string_meta = getmetatable0("")
string_meta.__metatable = protect({__index = libraries.string})

D.builtins = {
  _VERSION = _VERSION, assert = assert, error = error, getfenv = getfenv, getmetatable = getmetatable, ipairs = ipairs,
  load = load, loadstring = loadstring, next = next, pairs = pairs, pcall = pcall, rawequal = rawequal,
  rawget = rawget, rawset = rawset, select = select, setfenv = setfenv, setmetatable = setmetatable,
  tonumber = tonumber, tostring = tostring, type = type, unpack = unpack, xpcall = xpcall,
  collectgarbage = collectgarbage, gcinfo = function() return 0 end,
  string = libraries.string, table = libraries.table, math = libraries.math, os = libraries.os,
  coroutine = libraries.coroutine,
}

-- Light userdata cannot be made from Lua; nothing but its identity matters.
D.null = newproxy()
collectgarbage0("stop")
return D
"""
