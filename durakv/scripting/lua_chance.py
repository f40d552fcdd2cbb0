"""math.random() and math.randomseed() of scripts, in Lua: Valkey's rand.c, 48 bits, equal seeds give equal sequences.

Rule: chance starts from the logged entry's seed at each run and from nothing else.
"""

from __future__ import annotations

from typing import Final

CHANCE: Final = r"""
local D, py_seed = ...
local type, select, error, tonumber, floor, bad_argument = type, select, error, tonumber, math.floor, D.bad_argument

local seed_hi, seed_lo = 0, 0

-- The seed is asked for by the first draw of a run; D.begin() says that there was none yet.
local function draw()
  if not D.seeded then
    seed_hi, seed_lo = py_seed()
    D.seeded = true
  end
  local low = seed_lo * 15525485 + 11
  seed_hi = (seed_hi * 15525485 + seed_lo * 1502 + floor(low / 16777216)) % 16777216
  seed_lo = low % 16777216
  return seed_hi * 128 + floor(seed_lo / 131072)
end

local function integer(v, n, name)
  local x = tonumber(v)
  if type(v) ~= "number" and type(v) ~= "string" or not x then
    error("bad argument #" .. n .. " to '" .. name .. "' (number expected, got "
      .. (v == nil and "no value" or type(v)) .. ")", 3)
  end
  if x ~= x or x >= 9.2e18 or x <= -9.2e18 then return 0 end
  x = x < 0 and -floor(-x) or floor(x)
  x = x % 4294967296
  return x >= 2147483648 and x - 4294967296 or x
end

local function random(...)
  local r = (draw() % 2147483647) / 2147483647
  local n = select("#", ...)
  if n == 0 then return r end
  if n == 1 then
    local upper = integer(..., 1, "random")
    if upper < 1 then bad_argument(1, "random", "interval is empty") end
    return floor(r * upper) + 1
  end
  if n ~= 2 then error("wrong number of arguments", 2) end
  local lower, upper = ...
  lower, upper = integer(lower, 1, "random"), integer(upper, 2, "random")
  if lower > upper then bad_argument(2, "random", "interval is empty") end
  return floor(r * (upper - lower + 1)) + lower
end

local function randomseed(...)
  local s = integer((...), 1, "randomseed") % 4294967296
  local x = s * 65536 + 13070
  seed_hi, seed_lo = floor(x / 16777216), x % 16777216
  D.seeded = true
end

math.random, math.randomseed = random, randomseed
"""
