"""What a script returns, as an array of marks and scalars in prefix order, in Lua; reply.py reads it.

Rule: one pass over the result, in an order that depends on its content alone; no metamethod of the script runs.
"""

from __future__ import annotations

from typing import Final

# Nesting of a reply; encoding one takes a Python frame or two for each level.
DEPTH_MAX: Final = 250

FLATTEN: Final = r"""
local D, DEPTH_MAX = ...
local type, next, rawget, shadow = type, D.next, D.rawget, D.shadow

local function flatten(v, out, depth)
  local t = type(v)
  if t == "string" then
    out[#out + 1] = "$"
    out[#out + 1] = v
    return
  elseif t == "number" then
    out[#out + 1] = ":"
    out[#out + 1] = v
    return
  elseif t == "boolean" then
    out[#out + 1] = v and "T" or "F"
    return
  elseif t ~= "table" then
    out[#out + 1] = "_"
    return
  end
  if depth > DEPTH_MAX then
    out[#out + 1] = "!"
    return
  end
  v = shadow[v] or v
  local x = rawget(v, "err")
  if type(x) == "string" then
    out[#out + 1] = "-"
    out[#out + 1] = x
    return
  end
  x = rawget(v, "ok")
  if type(x) == "string" then
    out[#out + 1] = "+"
    out[#out + 1] = x
    return
  end
  x = rawget(v, "double")
  if type(x) == "number" then
    out[#out + 1] = ","
    out[#out + 1] = x
    return
  end
  x = rawget(v, "big_number")
  if type(x) == "string" then
    out[#out + 1] = "("
    out[#out + 1] = x
    return
  end
  x = rawget(v, "verbatim_string")
  if type(x) == "table" then
    x = shadow[x] or x
    local kind, text = rawget(x, "format"), rawget(x, "string")
    if type(kind) == "string" and type(text) == "string" then
      out[#out + 1] = "="
      out[#out + 1] = kind
      out[#out + 1] = text
      return
    end
  end
  x = rawget(v, "map")
  if type(x) == "table" then
    x = shadow[x] or x
    D.check_keys(x)
    out[#out + 1] = "%"
    local at, n = #out + 1, 0
    out[at] = 0
    for k, item in next, x do
      flatten(k, out, depth + 1)
      flatten(item, out, depth + 1)
      n = n + 1
    end
    out[at] = n
    return
  end
  x = rawget(v, "set")
  if type(x) == "table" then
    x = shadow[x] or x
    D.check_keys(x)
    out[#out + 1] = "~"
    local at, n = #out + 1, 0
    out[at] = 0
    for k in next, x do
      flatten(k, out, depth + 1)
      n = n + 1
    end
    out[at] = n
    return
  end
  out[#out + 1] = "*"
  local at, n = #out + 1, 0
  out[at] = 0
  while true do
    local item = rawget(v, n + 1)
    if item == nil then break end
    flatten(item, out, depth + 1)
    n = n + 1
  end
  out[at] = n
end
D.flatten = flatten
"""
