// Rate limit with a sliding window: a sorted set of the requests of the last moments, judged by a script.
// Relies on scripts being one log entry with the entry's time: every caller is judged by one clock. A request carries an
// id, so asking again after an unknown outcome gives the same answer and counts once.
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";

const ALLOW = `
local key, window_ms, limit, id = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now_us - window_ms * 1000))
if redis.call('ZSCORE', key, id) then return 1 end
if redis.call('ZCARD', key) >= limit then return 0 end
redis.call('ZADD', key, string.format('%.0f', now_us), id)
redis.call('PEXPIRE', key, window_ms)
return 1`;

/** At most `limit` requests of one caller in any `windowMs` milliseconds; refused ones do not count. */
export class SlidingWindow {
  constructor(r, limit, windowMs) {
    Object.assign(this, { r, limit, windowMs });
    r.defineCommand("slidingAllow", { numberOfKeys: 1, lua: ALLOW });
  }

  /** Whether this request is within the limit; give the same `requestId` when asking again. */
  async allow(who, requestId = randomUUID()) {
    return (await this.r.slidingAllow(`sliding:${who}`, this.windowMs, this.limit, requestId)) === 1;
  }
}

async function main() {
  const { port } = parseArgs({ options: { port: { type: "string", default: "6379" } } }).values;
  const r = new Redis({ port: Number(port), maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false });
  await r.del("sliding:ann");
  const limiter = new SlidingWindow(r, 3, 60_000);
  const answers = await Promise.all(Array.from({ length: 5 }, (_, i) => limiter.allow("ann", `request-${i}`)));
  console.log(`allowed ${answers.filter(Boolean).length} of 5`);
  const again = await limiter.allow("ann", `request-${answers.indexOf(true)}`);
  console.log(`asked again: ${again ? "allowed" : "refused"}`);
  await r.quit();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
