// Rate limit with a token bucket: bursts up to a capacity, refilled at a steady rate, in one script.
// Relies on scripts being one log entry with the entry's time: all callers share one clock, and no token is taken twice.
// After an unknown outcome tokens may be gone; they come back with the refill.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";

const TAKE = `
local key, capacity, rate_per_s, wanted = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now_s = time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', key, 'tokens', 'at')
local tokens, at = tonumber(bucket[1]) or capacity, tonumber(bucket[2]) or now_s
tokens = math.min(capacity, tokens + math.max(0, now_s - at) * rate_per_s)
local wait_ms = 0
if tokens >= wanted then tokens = tokens - wanted else wait_ms = math.ceil((wanted - tokens) / rate_per_s * 1000) end
redis.call('HSET', key, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now_s))
redis.call('PEXPIRE', key, math.ceil(capacity / rate_per_s * 1000) + 1000)
return wait_ms`;

/** Holds up to `capacity` tokens; `ratePerS` of them are added each second. */
export class TokenBucket {
  constructor(r, capacity, ratePerS) {
    Object.assign(this, { r, capacity, ratePerS });
    r.defineCommand("bucketTake", { numberOfKeys: 1, lua: TAKE });
  }

  /** 0 when the tokens were taken, else the milliseconds after which they will be there. */
  async take(who, tokens = 1) {
    if (tokens > this.capacity) throw new RangeError(`the bucket holds ${this.capacity} tokens; ask for no more`);
    return this.r.bucketTake(`bucket:${who}`, this.capacity, this.ratePerS, tokens);
  }
}

async function main() {
  const { port } = parseArgs({ options: { port: { type: "string", default: "6379" } } }).values;
  const r = new Redis({ port: Number(port), maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false });
  await r.del("bucket:ann");
  const bucket = new TokenBucket(r, 3, 0.1);
  const waitsMs = await Promise.all(Array.from({ length: 5 }, () => bucket.take("ann")));
  console.log(`taken ${waitsMs.filter((wait) => wait === 0).length} of 5`);
  console.log(`the next in about ${Math.round(Math.max(...waitsMs) / 1000)} s`);
  await r.quit();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
