"""Functions of the standard library whose work grows with their arguments, charged for it, in Lua.

Rule: the count of instructions is the only clock a script has, and it does not see how long one call into C takes. So
these pay by size before they run. Texts and positions of their errors stay those of the C functions. Runs last, so that
the sandbox's own chunks have the plain functions.
"""

from __future__ import annotations

from typing import Final

# Bytes or elements that cost one instruction.
PER_INSTRUCTION: Final = 8

CHARGED: Final = r"""
local D, PER_INSTRUCTION = ...
local type, error, pcall0, charge, shadow = type, error, D.pcall0, D.charge, D.shadow
local find, gsub, sub = string.find, string.gsub, string.sub

local function size_of(v)
  local t = type(v)
  if t == "string" then return #v end
  return t == "table" and #(shadow[v] or v) or 0
end

-- What the C functions themselves complain of, without a position; everything else comes from a callback.
local OWN = {"^bad argument #", "^malformed pattern", "^invalid ", "^unfinished capture", "^missing '%['", "^too many ",
             "^wrong number of", "^pattern too complex", "^string slice too long"}

local function results(name, ok, ...)
  if ok then return ... end
  local e = ...
  if type(e) ~= "string" then D.rethrow(e) end
  for i = 1, #OWN do
    if find(e, OWN[i]) then error(gsub(e, "^(bad argument #%d+ to) '%?'", "%1 '" .. name .. "'"), 3) end
  end
  D.rethrow(e)
end

-- `writes`: past metatables, so that what it puts into a proxy is taken out again when the script has ended.
local function charged(library, name, factor, writes)
  local f = library[name]
  library[name] = function(...)
    local size = size_of((...))
    if writes and shadow[(...)] then D.stick() end
    if size > PER_INSTRUCTION then charge(size * factor / PER_INSTRUCTION) end
    return results(name, pcall0(f, ...))
  end
end

for _, name in D.next, {"upper", "lower", "reverse", "find", "match", "gmatch", "gsub"} do charged(string, name, 1) end
charged(table, "concat", 1)
for _, name in D.next, {"insert", "remove"} do charged(table, name, 1, true) end
-- Comparisons, as many as elements times the logarithm of their number.
charged(table, "sort", 64, true)
"""
