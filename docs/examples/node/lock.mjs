// A lock: SET NX PX with a token, a fence number beside it, and a script that releases only what one holds.
// Relies on no acknowledged write being lost (a failover never gives the lock to a second holder) and on reads being
// linearizable. After an unknown outcome `acquire` reads whose token is there; release is safe to repeat. A holder can
// outlive its deadline without noticing: what the lock protects must refuse lower fence numbers.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis, ReplyError } from "ioredis";

const RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

/** Whether the command may have happened; every other error says that it has not. */
export function outcomeUnknown(error) {
  return !(error instanceof ReplyError) || error.message.startsWith("UNKNOWN");
}

/** One attempt to hold `name` for `ttlMs`; make a new one for each. */
export class Lock {
  constructor(r, name, ttlMs) {
    Object.assign(this, { r, ttlMs, key: `lock:{${name}}`, fenceKey: `fence:{${name}}`, token: randomUUID() });
  }

  /** The fence number, higher than that of every holder before; 0 when somebody else holds the lock. */
  async acquire() {
    try {
      const attempt = this.r.multi().incr(this.fenceKey).set(this.key, this.token, "PX", this.ttlMs, "NX");
      const [[, fence], [, held]] = await attempt.exec();
      return held === "OK" ? fence : 0;
    } catch (error) {
      if (!outcomeUnknown(error)) throw error;
      return this.#ask();
    }
  }

  // A read may be repeated until the cluster answers again, and nobody else gets the lock within its deadline.
  async #ask() {
    for (const deadlineMs = performance.now() + this.ttlMs; ; await sleep(50)) {
      try {
        const [heldBy, fence] = await this.r.mget(this.key, this.fenceKey);
        return heldBy === this.token ? Number(fence) : 0;
      } catch (error) {
        if (performance.now() > deadlineMs) throw error;
      }
    }
  }

  /** Whether it was still held; a lock that has passed on to somebody else is left alone. */
  async release() {
    return (await this.r.eval(RELEASE, 1, this.key, this.token)) === 1;
  }
}

async function main() {
  const { port } = parseArgs({ options: { port: { type: "string", default: "6379" } } }).values;
  const r = new Redis({ port: Number(port), maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false });
  await r.del("lock:{report}", "fence:{report}");
  const first = new Lock(r, "report", 10_000);
  const second = new Lock(r, "report", 10_000);
  console.log(`first holds fence ${await first.acquire()}`);
  console.log(`second waits: ${(await second.acquire()) === 0}`);
  console.log(`second cannot release: ${!(await second.release())}`);
  console.log(`first releases: ${await first.release()}`);
  console.log(`second holds fence ${await second.acquire()}`);
  await r.quit();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
