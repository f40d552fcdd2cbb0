// Rate limit with a fixed window: a counter that begins with the first request and goes away with its window.
// Relies on MULTI being all or nothing: there is never a counter without a deadline. After an unknown outcome the
// request may have been counted; asking again may count it twice, never not at all.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";

/** At most `limit` requests of one caller in `windowS` seconds. */
export class FixedWindow {
  constructor(r, limit, windowS) {
    Object.assign(this, { r, limit, windowS });
  }

  /** Count one request; whether it is within the limit. */
  async allow(who) {
    const key = `window:${who}`;
    const replies = await this.r.multi().incr(key).expire(key, this.windowS, "NX").exec();
    for (const [error] of replies) if (error) throw error;
    return replies[0][1] <= this.limit;
  }
}

async function main() {
  const { port } = parseArgs({ options: { port: { type: "string", default: "6379" } } }).values;
  const r = new Redis({ port: Number(port), maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false });
  await r.del("window:ann");
  const limiter = new FixedWindow(r, 3, 60);
  const answers = await Promise.all(Array.from({ length: 5 }, () => limiter.allow("ann")));
  console.log(`allowed ${answers.filter(Boolean).length} of 5`);
  await r.quit();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
