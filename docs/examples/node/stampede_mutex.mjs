// A cache that computes each missing value once: whoever gets the mutex computes, everybody else waits for the value.
// Relies on reads being linearizable: whoever finds the mutex gone also finds the value that was stored before, on every
// node. After an unknown outcome (a mutex perhaps taken, a value perhaps stored) the next `get` waits for the deadline.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";

const RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";
const POLL_MS = 20;

/** Values are strings. `mutexMs` is longer than computing takes. */
export class Cache {
  constructor(r, ttlS, mutexMs) {
    Object.assign(this, { r, ttlS, mutexMs });
  }

  /** The cached value, computed by at most one caller at a time. */
  async get(key, compute) {
    const mutex = `mutex:{${key}}`;
    const token = randomUUID();
    for (;;) {
      const value = await this.r.get(key);
      if (value !== null) return value;
      if ((await this.r.set(mutex, token, "PX", this.mutexMs, "NX")) === "OK") break;
      await sleep(POLL_MS);
    }
    try {
      // Somebody may have stored it between our GET and our SET.
      let value = await this.r.get(key);
      if (value === null) {
        value = await compute();
        await this.r.set(key, value, "EX", this.ttlS);
      }
      return value;
    } finally {
      await this.r.eval(RELEASE, 1, mutex, token);
    }
  }
}

async function main() {
  const { port } = parseArgs({ options: { port: { type: "string", default: "6379" } } }).values;
  const r = new Redis({ port: Number(port), maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false });
  await r.del("page");
  let calls = 0;
  const render = async () => {
    calls += 1;
    await sleep(50);
    return "<html>";
  };
  const cache = new Cache(r, 60, 5000);
  const values = await Promise.all([1, 2, 3].map(() => cache.get("page", render)));
  console.log(`values ${values.every((value) => value === "<html>")}`);
  console.log(`computed ${calls} time`);
  await r.quit();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
