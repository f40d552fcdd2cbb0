"""The ``redis`` and ``server`` tables, the libraries written in Python, and how a script is started, in Lua.

Rule: the only chunk that calls Python. It hands Python strings, numbers and booleans (or one array of them) and gets
the same back, so that no Python object is ever within a script's reach; what Python returns is a kind and a value,
never an exception. Before each crossing the memory limit is looked at, since an allocation that fails inside Python's
frames would jump over them.
"""

from __future__ import annotations

from typing import Final

# Price of a command in instructions, before its reply's size.
CALL_COST: Final = 500

API: Final = r"""
local D, py_call, py_call3, py_call_many, py_binary, py_log, py_may, py_sha1, versions, CALL_COST = ...
local type, select, error, tonumber, xpcall, floor, unpack = type, select, error, tonumber, xpcall, math.floor, unpack
local rawget, next, shadow, charge, kill, concat = D.rawget, D.next, D.shadow, D.charge, D.kill, D.concat
local setfenv, sethook, protect, strict, typename = D.setfenv, D.sethook, D.protect, D.strict, D.typename
local flatten = D.flatten

-- What py_call returns besides plain values.
local ERROR, STOP, STATUS, ARRAY = 1, 2, 3, 5
local SCALAR_COST, PROMPT_COST = 4, 64
-- What the last small replies cost: the next call pays for them, so that one look at the limits serves both.
local owed = 0

-- RESP version of replies to calls; set back for each run.
local resp = 2

local function failed(text)
  return {err = "ERR " .. text}
end

local function raise(text)
  error({err = "ERR " .. text}, 0)
end

-- Calling commands --------------------------------------------------------------------------------------------------

-- Appended one by one, so that # and holes are what they are upstream.
local function array(...)
  local t, all = {}, {...}
  for i = 1, #all do t[i] = all[i] end
  return t
end

-- What a command came to: the value, or whether it is none and the error. See _answer() in machine.py.
local function settled(value, kind, cost, ...)
  if kind == nil then
    owed = SCALAR_COST
    return value
  end
  if kind == STATUS then
    owed = cost
    return {ok = value}
  end
  if kind == STOP then kill(value) end
  if cost < PROMPT_COST then owed = cost else charge(cost) end
  if kind == ARRAY then return array(...) end
  if kind == ERROR then return nil, {err = value, ignore_error_stats_update = true} end
  return value
end

-- The rarer requests: many arguments or none, RESP3.
local function invoke(n, ...)
  if n == 0 then return nil, failed("Please specify at least one argument for this call") end
  if n > 32 then return settled(py_call_many(resp, n, {...})) end
  return settled(py_call3(...))
end

local function call(...)
  charge(CALL_COST + owed)
  owed = 0
  local n = select("#", ...)
  local value, failure
  if resp == 2 and n > 0 and n <= 32 then
    value, failure = settled(py_call(...))
  else
    value, failure = invoke(n, ...)
  end
  if failure then error(failure, 0) end
  return value
end

local function pcall(...)
  charge(CALL_COST + owed)
  owed = 0
  local n = select("#", ...)
  local value, failure
  if resp == 2 and n > 0 and n <= 32 then
    value, failure = settled(py_call(...))
  else
    value, failure = invoke(n, ...)
  end
  return failure or value
end

-- The rest of the API -----------------------------------------------------------------------------------------------

local function log(...)
  local n = select("#", ...)
  if n < 2 then raise("server.log() requires two arguments or more.") end
  local level = tonumber((...))
  if not level then raise("First argument must be a number (log level).") end
  level = level < 0 and -floor(-level) or floor(level)
  if level < 0 or level > 3 then raise("Invalid log level.") end
  local words = {}
  for i = 2, n do
    local word = select(i, ...)
    if type(word) == "string" or type(word) == "number" then words[#words + 1] = word end
  end
  local line = concat(words, " ")
  charge(#line)
  py_log(level, line)
end

local function setresp(...)
  if select("#", ...) ~= 1 then raise("server.setresp() requires one argument.") end
  local version = tonumber((...))
  version = version and floor(version)
  if version ~= 2 and version ~= 3 then raise("RESP version must be 2 or 3.") end
  resp = version
end

local function sha1hex(...)
  if select("#", ...) ~= 1 then raise("wrong number of arguments") end
  local text = ...
  if type(text) == "number" then text = D.tostring(text) end
  if type(text) ~= "string" then text = "" end
  charge(#text)
  return (py_sha1(text))
end

local function error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then return failed("wrong number or type of arguments") end
  if text:sub(1, 1) == "-" then text = text:sub(2) end
  if not text:find(" ", 1, true) then text = "ERR " .. text end
  return {err = (text:gsub("[\r\n]+$", ""))}
end

local function status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then return failed("wrong number or type of arguments") end
  return {ok = text}
end

local function set_repl(...)
  if select("#", ...) ~= 1 then raise("server.set_repl() requires one argument.") end
  local flags = tonumber((...)) or 0
  if floor(flags) < 0 or floor(flags) > 3 then
    raise("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
end

local function acl_check_cmd(...)
  local n = select("#", ...)
  if n == 0 then raise("Please specify at least one argument for this call") end
  charge(CALL_COST)
  local kind, value
  if n <= 32 then
    kind, value = py_may(n, ...)
  else
    kind, value = py_may(n, {...})
  end
  if kind == 0 then return value end
  raise(value)
end

-- Libraries in Python -----------------------------------------------------------------------------------------------

-- `level` is that of the caller of the library's function; frames that a tail call has left behind count.
local function binary_result(level, ok, ...)
  if ok then return ... end
  error((...), level)
end

local function binary(name)
  return function(...)
    local size = 10
    for i = 1, select("#", ...) do
      local v = select(i, ...)
      if type(v) == "string" then size = size + #v / 8 end
    end
    charge(size)
    return binary_result(3, py_binary(name, ...))
  end
end

local bit, struct = {}, {}
for _, name in next, {"tobit", "bnot", "band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "bswap",
                      "tohex"} do
  bit[name] = binary("bit." .. name)
end
for _, name in next, {"pack", "unpack", "size"} do
  struct[name] = binary("struct." .. name)
end

-- cmsgpack: values travel as an array of marks and scalars, nested tables in prefix order.
local NESTING_MAX = 16

local function is_array(t)
  local count, max = 0, 0
  for k in next, t do
    if type(k) ~= "number" or k <= 0 or floor(k) ~= k then return false end
    if k > max then max = k end
    count = count + 1
  end
  return max == count
end

local function describe(v, out, level)
  local t = type(v)
  if t == "table" and level < NESTING_MAX then
    v = shadow[v] or v
    if is_array(v) then
      out[#out + 1] = "*"
      out[#out + 1] = #v
      for i = 1, #v do describe(rawget(v, i), out, level + 1) end
      return
    end
    D.check_keys(v)
    local n = 0
    for _ in next, v do n = n + 1 end
    out[#out + 1] = "%"
    out[#out + 1] = n
    for k, x in next, v do
      describe(k, out, level + 1)
      describe(x, out, level + 1)
    end
  elseif t == "string" then
    out[#out + 1] = "$"
    out[#out + 1] = v
  elseif t == "number" then
    out[#out + 1] = ":"
    out[#out + 1] = v
  elseif t == "boolean" then
    out[#out + 1] = v and "T" or "F"
  else
    out[#out + 1] = "_"
  end
end

local function pack(...)
  local n = select("#", ...)
  if n == 0 then error("bad argument #0 to 'pack' (MessagePack pack needs input.)", 2) end
  local out = {}
  for i = 1, n do describe((select(i, ...)), out, 0) end
  charge(#out)
  local ok, value = py_binary("cmsgpack.pack", out)
  if not ok then error(value, 2) end
  return value
end

local function unpack_from(name, limit, offset, ...)
  local text = ...
  if type(text) == "number" then text = D.tostring(text) end
  if type(text) ~= "string" then
    error("bad argument #1 to '" .. name .. "' (string expected, got " .. typename(...) .. ")", 3)
  end
  charge(#text)
  return binary_result(4, py_binary("cmsgpack.unpack", text, limit, offset))
end

local function offset_of(v, n, name, default)
  if v == nil and default then return default end
  local x = tonumber(v)
  if not x then
    error("bad argument #" .. n .. " to '" .. name .. "' (number expected, got "
      .. (v == nil and "no value" or type(v)) .. ")", 3)
  end
  return x
end

local cmsgpack = {
  pack = pack, _NAME = "cmsgpack", _VERSION = "lua-cmsgpack 0.4.0",
  _COPYRIGHT = "Copyright (C) 2012, Redis Ltd.", _DESCRIPTION = "MessagePack C implementation for Lua",
  unpack = function(...) return unpack_from("unpack", 0, 0, ...) end,
  unpack_one = function(...)
    return unpack_from("unpack_one", 1, offset_of(select(2, ...), 2, "unpack_one", 0), ...)
  end,
  unpack_limit = function(...)
    local _, limit, offset = ...
    limit = offset_of(limit, 2, "unpack_limit")
    return unpack_from("unpack_limit", limit, offset_of(offset, 3, "unpack_limit", 0), ...)
  end,
}
D.builtins.bit, D.builtins.struct, D.builtins.cmsgpack = protect(bit), protect(struct), protect(cmsgpack)

-- Environments ------------------------------------------------------------------------------------------------------

local function with_log(t)
  t.log, t.LOG_DEBUG, t.LOG_VERBOSE, t.LOG_NOTICE, t.LOG_WARNING = log, 0, 1, 2, 3
  t.REDIS_VERSION, t.REDIS_VERSION_NUM = versions.redis, versions.redis_number
  t.VALKEY_VERSION, t.VALKEY_VERSION_NUM = versions.valkey, versions.valkey_number
  t.SERVER_NAME, t.SERVER_VERSION, t.SERVER_VERSION_NUM = "valkey", versions.valkey, versions.valkey_number
  return t
end

local function with_calls(t)
  t.call, t.pcall, t.setresp, t.sha1hex = call, pcall, setresp, sha1hex
  t.error_reply, t.status_reply = error_reply, status_reply
  t.set_repl, t.acl_check_cmd = set_repl, acl_check_cmd
  t.REPL_NONE, t.REPL_AOF, t.REPL_SLAVE, t.REPL_REPLICA, t.REPL_ALL = 0, 1, 2, 2, 3
  return with_log(t)
end

local function globals_with(api)
  local t = {redis = api, server = api}
  for k, v in next, D.builtins do t[k] = v end
  return t
end

local script_api = with_calls({
  breakpoint = function() return false end,
  debug = function() end,
  replicate_commands = function() return true end,
})
local script_globals = globals_with(protect(script_api))
script_globals.__redis__err__handler, script_globals.__server__err__handler = D.on_error, D.on_error
local SCRIPT = strict(script_globals)
script_globals._G = SCRIPT

-- Libraries see one table of globals while they load and another when their functions run.
local registered
local register_function
local load_api = strict(with_log({register_function = function(...) register_function(...) end}))
local load_globals = {redis = load_api, server = load_api}
setmetatable(load_globals, {__index = D.missing})
local function_globals = globals_with(protect(with_calls({})))
local LIBRARY, library_meta = strict(function_globals)
function_globals._G = LIBRARY

local function library_globals(contents)
  library_meta.__index = contents
  shadow[LIBRARY] = contents
end

-- register_function -------------------------------------------------------------------------------------------------

local FLAGS = {["no-writes"] = true, ["allow-oom"] = true, ["allow-stale"] = true, ["no-cluster"] = true,
               ["allow-cross-slot-keys"] = true}

local function text_of(v)
  local t = type(v)
  if t == "string" then return v end
  return t == "number" and D.tostring(v) or nil
end

local function flags_of(given)
  local flags = {}
  given = shadow[given] or given
  local i = 1
  while true do
    local flag = given[i]
    if flag == nil then return flags end
    flag = text_of(flag)
    if not flag or not FLAGS[flag:lower()] then raise("unknown flag given") end
    flags[#flags + 1] = flag:lower()
    i = i + 1
  end
end

local function named_arguments(t)
  if type(t) ~= "table" then
    raise("calling server.register_function with a single argument is only applicable to Lua table (representing "
      .. "named arguments).")
  end
  local name, description, callback, flags
  -- Objects as keys are refused before the order of the keys, which depends on their addresses, decides about anything.
  for k in next, t do
    if not text_of(k) then raise("named argument key given to server.register_function is not a string") end
  end
  for k, v in next, t do
    local key = text_of(k):lower()
    if key == "function_name" then
      name = text_of(v)
      if not name then raise("function_name argument given to server.register_function must be a string") end
    elseif key == "description" then
      description = text_of(v)
      if not description then raise("description argument given to server.register_function must be a string") end
    elseif key == "callback" then
      if type(v) ~= "function" then
        raise("callback argument given to server.register_function must be a function")
      end
      callback = v
    elseif key == "flags" then
      if type(v) ~= "table" then
        raise("flags argument to server.register_function must be a table representing function flags")
      end
      flags = flags_of(v)
    else
      raise("unknown argument given to server.register_function")
    end
  end
  if not name then raise("server.register_function must get a function name argument") end
  if not callback then raise("server.register_function must get a callback argument") end
  return name, callback, description, flags
end

register_function = function(...)
  if not registered then raise("server.register_function can only be called on FUNCTION LOAD command") end
  local n = select("#", ...)
  if n < 1 or n > 2 then raise("wrong number of arguments to server.register_function") end
  local name, callback, description, flags = ...
  if n == 1 then
    name, callback, description, flags = named_arguments(name)
  else
    description, flags = nil, nil
    name = text_of(name)
    if not name then raise("first argument to server.register_function must be a string") end
    if type(callback) ~= "function" then raise("second argument to server.register_function must be a function") end
  end
  if not name:find("^[%w_]+$") then
    raise("Library names can only contain letters, numbers, or underscores(_) and must be at least one character long")
  end
  if registered[name] then raise("Function already exists in the library") end
  registered[name] = callback
  registered[#registered + 1] = {name, description or false, concat(flags or {}, ",")}
end

-- Entry points ------------------------------------------------------------------------------------------------------
-- Each does all of a run in one crossing and returns what Python is to make of it: the KiB in use, a kind and more.

local on_error, begin, finish, reset_json = D.on_error, D.begin, D.finish, D.reset_json

-- The script that runs, and the table it has returned.
local current, given

-- After a run, whatever came of it.
local function ended()
  registered, current, given, owed = nil, nil, nil, 0
  script_globals.KEYS, script_globals.ARGV = nil, nil
  return finish()
end
D.ended = ended

local function started(env, limit, room_kb)
  resp = 2
  reset_json()
  begin(limit, room_kb, env)
end

local function raised(e)
  sethook()
  if type(e) ~= "table" then
    local text = D.tostring(e)
    return ended(), "e", text
  end
  local text = rawget(e, "err")
  if type(text) ~= "string" and type(text) ~= "number" then text = nil end
  return ended(), "e", text, rawget(e, "source"), rawget(e, "line")
end

-- The tokens of a table, in one crossing unless there are many.
local function described(out)
  sethook()
  local n = #out
  if n <= 200 then return ended(), "t", resp, unpack(out, 2, n) end
  return ended(), "T", resp, out
end

local function flattened()
  local out = {D}
  flatten(given, out, 0)
  return out
end

local function answered(ok, result)
  if not ok then return raised(result) end
  local t = type(result)
  if t == "table" then
    given = result
    ok, result = xpcall(flattened, on_error)
    if not ok then return raised(result) end
    return described(result)
  end
  sethook()
  if t ~= "string" and t ~= "number" and t ~= "boolean" then result = nil end
  return ended(), "v", resp, result
end

-- Of one or two values; as large as if they had been appended.
local function pair(n, a, b)
  if n == 1 then return {a} end
  if n == 2 then return {a, b} end
  return {}
end

-- The first n of the n + m arguments as one table, the others as another.
local function halves(n, m, ...)
  if n <= 2 and m <= 2 then
    local a, b, c, d = ...
    if n == 2 then return {a, b}, pair(m, c, d) end
    if n == 1 then return {a}, pair(m, b, c) end
    return {}, pair(m, a, b)
  end
  local all, keys, argv = {...}, {}, {}
  for i = 1, n do keys[i] = all[i] end
  for i = 1, m do argv[i] = all[n + i] end
  return keys, argv
end

local function body()
  -- A tail call leaves no frame that error(text, 2) could name.
  return current()
end

local function eval(limit, room_kb, f, keys, argv)
  started(SCRIPT, limit, room_kb)
  script_globals.KEYS, script_globals.ARGV = keys, argv
  setfenv(f, SCRIPT)
  current = f
  return answered(xpcall(body, on_error))
end

D.eval = eval

function D.eval_few(limit, room_kb, f, n, m, ...)
  return eval(limit, room_kb, f, halves(n, m, ...))
end

local function load_library(chunk)
  registered = {}
  library_globals(load_globals)
  setfenv(chunk, LIBRARY)
  chunk()
  local found = registered
  registered = nil
  library_globals(function_globals)
  return found
end

local function fcall(limit, room_kb, chunk, name, keys, argv)
  started(LIBRARY, limit, room_kb)
  return answered(xpcall(function()
    local f = load_library(chunk)[name]
    return f(keys, argv)
  end, on_error))
end

D.fcall = fcall

function D.fcall_few(limit, room_kb, chunk, name, n, m, ...)
  return fcall(limit, room_kb, chunk, name, halves(n, m, ...))
end

-- The functions a library registers: name, description or false, and flags of each.
function D.load(limit, room_kb, chunk)
  started(LIBRARY, limit, room_kb)
  local ok, result = xpcall(function()
    local found = load_library(chunk)
    local out = {D}
    for i = 1, #found do
      out[#out + 1] = found[i][1]
      out[#out + 1] = found[i][2]
      out[#out + 1] = found[i][3]
    end
    return out
  end, function(e) return type(e) == "string" and {err = "ERR " .. e} or e end)
  if not ok then return raised(result) end
  return described(result)
end
return D
"""
