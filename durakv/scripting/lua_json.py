"""cjson, in Lua: lua-cjson 2.1 as Valkey configures it, its texts and its limits.

Rule: its settings hold for one run; a script that changed them for the next one would leave state no log
entry tells of.
"""

from __future__ import annotations

from typing import Final

JSON: Final = r"""
local D = ...
local type, tonumber, select, error, next, rawget = type, tonumber, select, error, D.next, D.rawget
local find, sub, byte, char = string.find, string.sub, string.byte, string.char
local gsub, format = string.gsub, string.format
local floor, concat, huge, null = math.floor, D.concat, math.huge, D.null
local shadow, bad_argument, typename = D.shadow, D.bad_argument, D.typename

local config

-- Set back only what a script has changed.
local changed = true

function D.reset_json()
  if not changed then return end
  changed = false
  config = {convert = false, ratio = 2, safe = 10, encode_depth = 1000, decode_depth = 1000, precision = 14,
            keep = true, encode_invalid = 0, decode_invalid = true}
end
D.reset_json()

-- Raised inside and turned into an error at the caller's line by encode() and decode().
local failure

local function fail(text)
  failure = text
  error(D, 0)
end

-- Encoding -----------------------------------------------------------------------------------------------------------

local ESCAPES = {['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\127"] = "\\u007f",
                 ["\b"] = "\\b", ["\t"] = "\\t", ["\n"] = "\\n", ["\f"] = "\\f", ["\r"] = "\\r"}
for i = 0, 31 do
  local c = char(i)
  ESCAPES[c] = ESCAPES[c] or format("\\u%04x", i)
end

local function encode_string(s)
  if find(s, '[%z\1-\31"\\/\127]') then s = gsub(s, '[%z\1-\31"\\/\127]', ESCAPES) end
  return '"' .. s .. '"'
end

local function encode_number(x)
  if x ~= x or x == huge or x == -huge then
    if config.encode_invalid == 0 then fail("Cannot serialise number: must not be NaN or Inf") end
    if config.encode_invalid == 2 then return "null" end
    if x ~= x then return "nan" end
  end
  return format("%." .. config.precision .. "g", x)
end

-- Number of elements, or -1 for what is no array.
local function array_length(t)
  local max, items = 0, 0
  for k in next, t do
    if type(k) == "number" and k >= 1 and floor(k) == k then
      -- An int in the library: larger keys make it the least one.
      if k > max then max = k < 2147483648 and k or -2147483648 end
      items = items + 1
    else
      return -1
    end
  end
  if config.ratio > 0 and max > items * config.ratio and max > config.safe then
    if not config.convert then fail("Cannot serialise table: excessively sparse array") end
    return -1
  end
  return max
end

local encode_value

local function encode_table(t, out, depth)
  if depth > config.encode_depth then
    fail("Cannot serialise, excessive nesting (" .. depth .. ")")
  end
  t = shadow[t] or t
  local n = array_length(t)
  if n > 0 then
    out[#out + 1] = "["
    for i = 1, n do
      if i > 1 then out[#out + 1] = "," end
      encode_value(rawget(t, i), out, depth)
    end
    out[#out + 1] = "]"
    return
  end
  out[#out + 1] = "{"
  local comma = false
  for k in next, t do
    if type(k) ~= "number" and type(k) ~= "string" then
      fail("Cannot serialise " .. type(k) .. ": table key must be a number or string")
    end
  end
  for k, v in next, t do
    if comma then out[#out + 1] = "," end
    comma = true
    out[#out + 1] = type(k) == "number" and '"' .. encode_number(k) .. '":' or encode_string(k) .. ":"
    encode_value(v, out, depth)
  end
  out[#out + 1] = "}"
end

encode_value = function(v, out, depth)
  local t = type(v)
  if t == "string" then
    out[#out + 1] = encode_string(v)
  elseif t == "number" then
    out[#out + 1] = encode_number(v)
  elseif t == "boolean" then
    out[#out + 1] = v and "true" or "false"
  elseif t == "table" then
    encode_table(v, out, depth + 1)
  elseif t == "nil" or v == null then
    out[#out + 1] = "null"
  else
    fail("Cannot serialise " .. t .. ": type not supported")
  end
end

local function guarded(f, ...)
  failure = nil
  local ok, result = D.pcall0(f, ...)
  if ok then return true, result end
  if failure then return false, failure end
  D.rethrow(result)
end

local function encode(...)
  if select("#", ...) ~= 1 then bad_argument(1, "encode", "expected 1 argument") end
  local v = ...
  local ok, result = guarded(function()
    local out = {}
    encode_value(v, out, 0)
    return concat(out)
  end)
  if not ok then error(result, 2) end
  return result
end

-- Decoding -----------------------------------------------------------------------------------------------------------

local KINDS = {["{"] = "T_OBJ_BEGIN", ["}"] = "T_OBJ_END", ["["] = "T_ARR_BEGIN", ["]"] = "T_ARR_END",
               [","] = "T_COMMA", [":"] = "T_COLON"}
local UNESCAPES = {['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", t = "\t", n = "\n", f = "\f", r = "\r"}

-- The text, where reading goes on, and the token just read: its kind, its value and its first character.
local text, at, kind, value, token_at, depth

local function hex4(from)
  local digits = sub(text, from, from + 3)
  return find(digits, "^%x%x%x%x$") and tonumber(digits, 16) or nil
end

local function utf8(code)
  if code <= 0x7f then return char(code) end
  if code <= 0x7ff then return char(0xc0 + floor(code / 64), 0x80 + code % 64) end
  if code <= 0xffff then
    return char(0xe0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(0xf0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64,
              0x80 + code % 64)
end

local function token_error(what)
  kind, value, token_at = "T_ERROR", what, at
end

-- \uXXXX at `at`, pairs of surrogates included; nil when it is none.
local function unicode_escape()
  local code = hex4(at + 2)
  if not code then return nil end
  local size = 6
  if code >= 0xd800 and code <= 0xdfff then
    if code >= 0xdc00 or sub(text, at + 6, at + 7) ~= "\\u" then return nil end
    local low = hex4(at + 8)
    if not low or low < 0xdc00 or low > 0xdfff then return nil end
    code = (code - 0xd800) * 1024 + (low - 0xdc00) + 0x10000
    size = 12
  end
  at = at + size
  return utf8(code)
end

local function read_string()
  at = at + 1
  local from, pieces = at, nil
  while true do
    local stop = find(text, '["\\%z]', at)
    if not stop or byte(text, stop) == 0 then
      at = stop or #text + 1
      return token_error("unexpected end of string")
    end
    if byte(text, stop) == 34 then
      value = sub(text, from, stop - 1)
      if pieces then
        pieces[#pieces + 1] = value
        value = concat(pieces)
      end
      kind, at = "T_STRING", stop + 1
      return
    end
    pieces = pieces or {}
    pieces[#pieces + 1] = sub(text, from, stop - 1)
    at = stop
    local escape = sub(text, stop + 1, stop + 1)
    if escape == "u" then
      local letter = unicode_escape()
      if not letter then return token_error("invalid unicode escape code") end
      pieces[#pieces + 1] = letter
    else
      local letter = UNESCAPES[escape]
      if not letter then return token_error("invalid escape code") end
      pieces[#pieces + 1] = letter
      at = stop + 2
    end
    from = at
  end
end

-- Like strtod(): the longest beginning that is a number.
local function read_number()
  local _, stop = find(text, "^[-+]?0[xX]%x+", at)
  if not stop then
    _, stop = find(text, "^[-+]?%d+%.?%d*", at)
    if not stop then _, stop = find(text, "^[-+]?%.%d+", at) end
    if stop then
      local _, exponent = find(text, "^[eE][-+]?%d+", stop + 1)
      stop = exponent or stop
    end
  end
  if not stop then
    local sign, word = sub(text, at, at + 9):match("^([-+]?)(%a+)")
    word = word and word:lower() or ""
    local size = word:find("^infinity") and 8 or (word:find("^inf") or word:find("^nan")) and 3
    if not size then return token_error("invalid number") end
    -- The sign of 0 / 0 is the other way round on x86.
    value = word:find("^inf") and huge or -(0 / 0)
    if sign == "-" then value = -value end
    kind, at = "T_NUMBER", at + #sign + size
    return
  end
  value = tonumber(sub(text, at, stop))
  kind, at = "T_NUMBER", stop + 1
end

-- What strtod() takes and JSON does not.
local function is_invalid_number()
  if byte(text, at) == 43 then return true end
  local from = byte(text, at) == 45 and at + 1 or at
  local c = byte(text, from)
  if c == 48 then return find(text, "^0[xX%d]", from) ~= nil end
  if c and c <= 57 then return false end
  local word = sub(text, from, from + 2):lower()
  return word == "inf" or word == "nan"
end

local function read_token()
  at = find(text, "[^ \t\n\r]", at) or #text + 1
  token_at = at
  local c = sub(text, at, at)
  if c == "" or c == "\0" then
    kind = "T_END"
  elseif KINDS[c] then
    kind = KINDS[c]
    at = at + 1
  elseif c == '"' then
    read_string()
  elseif find(c, "[-%d]") then
    if not config.decode_invalid and is_invalid_number() then return token_error("invalid number") end
    read_number()
  elseif sub(text, at, at + 3) == "true" then
    kind, value, at = "T_BOOLEAN", true, at + 4
  elseif sub(text, at, at + 4) == "false" then
    kind, value, at = "T_BOOLEAN", false, at + 5
  elseif sub(text, at, at + 3) == "null" then
    kind, value, at = "T_NULL", null, at + 4
  elseif config.decode_invalid and find(c, "[+iInN]") and is_invalid_number() then
    read_number()
  else
    token_error("invalid token")
  end
end

local function unexpected(wanted)
  fail("Expected " .. wanted .. " but found " .. (kind == "T_ERROR" and value or kind) .. " at character " .. token_at)
end

local read_value

local function descend()
  depth = depth + 1
  if depth > config.decode_depth then
    fail("Found too many nested data structures (" .. depth .. ") at character " .. (at - 1))
  end
end

local function read_object()
  descend()
  local t = {}
  read_token()
  if kind ~= "T_OBJ_END" then
    while true do
      if kind ~= "T_STRING" then unexpected("object key string") end
      local key = value
      read_token()
      if kind ~= "T_COLON" then unexpected("colon") end
      read_token()
      t[key] = read_value()
      read_token()
      if kind == "T_OBJ_END" then break end
      if kind ~= "T_COMMA" then unexpected("comma or object end") end
      read_token()
    end
  end
  depth = depth - 1
  return t
end

local function read_array()
  descend()
  local t, n = {}, 0
  read_token()
  if kind ~= "T_ARR_END" then
    while true do
      n = n + 1
      t[n] = read_value()
      read_token()
      if kind == "T_ARR_END" then break end
      if kind ~= "T_COMMA" then unexpected("comma or array end") end
      read_token()
    end
  end
  depth = depth - 1
  return t
end

read_value = function()
  if kind == "T_OBJ_BEGIN" then return read_object() end
  if kind == "T_ARR_BEGIN" then return read_array() end
  if kind == "T_STRING" or kind == "T_NUMBER" or kind == "T_BOOLEAN" or kind == "T_NULL" then return value end
  unexpected("value")
end

local function decode(...)
  if select("#", ...) ~= 1 then bad_argument(1, "decode", "expected 1 argument") end
  local v = ...
  if type(v) == "number" then v = D.tostring(v) end
  if type(v) ~= "string" then bad_argument(1, "decode", "string expected, got " .. typename(...)) end
  if #v >= 2 and (byte(v, 1) == 0 or byte(v, 2) == 0) then
    error("JSON parser does not support UTF-16 or UTF-32", 2)
  end
  text, at, depth = v, 1, 0
  local ok, result = guarded(function()
    read_token()
    local result = read_value()
    read_token()
    if kind ~= "T_END" then unexpected("the end") end
    return result
  end)
  text = nil
  if not ok then error(result, 2) end
  return result
end

-- Settings -----------------------------------------------------------------------------------------------------------

local function one_at_most(name, ...)
  if select("#", ...) > 1 then error("bad argument #2 to '" .. name .. "' (found too many arguments)", 3) end
end

local function integer_option(name, setting, low, high, v)
  if v ~= nil then
    local x = tonumber(v)
    if not x then error("bad argument #1 to '" .. name .. "' (number expected, got " .. type(v) .. ")", 3) end
    if x < low or x > high then
      error("bad argument #1 to '" .. name .. "' (expected integer between " .. low .. " and " .. high .. ")", 3)
    end
    config[setting], changed = floor(x), true
  end
  return config[setting]
end

local function switch_option(name, setting, v)
  if v ~= nil then
    if v == "on" then v = true elseif v == "off" then v = false end
    if type(v) ~= "boolean" then
      error("bad argument #1 to '" .. name .. "' (invalid option '" .. D.tostring(v) .. "')", 3)
    end
    config[setting], changed = v, true
  end
  return config[setting]
end

local function encode_invalid_numbers(...)
  one_at_most("encode_invalid_numbers", ...)
  local v = ...
  if v == "null" then
    config.encode_invalid, changed = 2, true
  elseif v ~= nil then
    config.flag = false
    config.encode_invalid = switch_option("encode_invalid_numbers", "flag", v) and 1 or 0
  end
  if config.encode_invalid == 2 then return "null" end
  return config.encode_invalid == 1
end

local module = {
  encode = encode, decode = decode, null = null, _NAME = "cjson", _VERSION = "2.1.0",
  encode_sparse_array = function(convert, ratio, safe)
    switch_option("encode_sparse_array", "convert", convert)
    integer_option("encode_sparse_array", "ratio", 0, 2147483647, ratio)
    integer_option("encode_sparse_array", "safe", 0, 2147483647, safe)
    return config.convert, config.ratio, config.safe
  end,
  encode_max_depth = function(...)
    one_at_most("encode_max_depth", ...)
    return (integer_option("encode_max_depth", "encode_depth", 1, 2147483647, (...)))
  end,
  decode_max_depth = function(...)
    one_at_most("decode_max_depth", ...)
    return (integer_option("decode_max_depth", "decode_depth", 1, 2147483647, (...)))
  end,
  encode_number_precision = function(...)
    one_at_most("encode_number_precision", ...)
    return (integer_option("encode_number_precision", "precision", 1, 14, (...)))
  end,
  encode_keep_buffer = function(...)
    one_at_most("encode_keep_buffer", ...)
    return (switch_option("encode_keep_buffer", "keep", (...)))
  end,
  encode_invalid_numbers = encode_invalid_numbers,
  decode_invalid_numbers = function(...)
    one_at_most("decode_invalid_numbers", ...)
    return (switch_option("decode_invalid_numbers", "decode_invalid", (...)))
  end,
}
D.builtins.cjson = D.protect(module)
return D
"""
