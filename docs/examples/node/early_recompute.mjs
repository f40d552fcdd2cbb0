// A cache whose values are renewed before they expire, by a throw of the dice (XFetch): nobody waits for a hot one.
// The nearer the deadline and the dearer the computation, the likelier a reader renews it while others read the old one.
// Relies on reads being linearizable: once a reader has stored the new value no node shows the old one, so the dice stop.
// After an unknown outcome the old or the new value is there, both valid: nothing needs to be done.
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";

/** `beta` above 1 renews earlier; `dice` draws from [0, 1). */
export class EarlyCache {
  constructor(r, ttlMs, { beta = 1, dice = Math.random } = {}) {
    Object.assign(this, { r, ttlMs, beta, dice });
  }

  /** The cached value, or a new one when it is absent or the dice say so. */
  async get(key, compute) {
    const stored = await this.r.get(key);
    if (stored !== null) {
      const { value, costMs, deadlineMs } = JSON.parse(stored);
      const earlyMs = -costMs * this.beta * Math.log(1 - this.dice());
      if (Date.now() + earlyMs < deadlineMs) return value;
    }
    const beganMs = Date.now();
    const value = await compute();
    const endedMs = Date.now();
    const entry = JSON.stringify({ value, costMs: endedMs - beganMs, deadlineMs: endedMs + this.ttlMs });
    await this.r.set(key, entry, "PX", this.ttlMs);
    return value;
  }
}

async function main() {
  const { port } = parseArgs({ options: { port: { type: "string", default: "6379" } } }).values;
  const r = new Redis({ port: Number(port), maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false });
  await r.del("top");
  const versions = ["first", "second"];
  const rank = async () => {
    await sleep(20);
    return versions.shift();
  };
  console.log(`computed ${await new EarlyCache(r, 60_000).get("top", rank)}`);
  console.log(`cached ${await new EarlyCache(r, 60_000, { dice: () => 0 }).get("top", rank)}`);
  console.log(`renewed ${await new EarlyCache(r, 60_000, { beta: 10_000, dice: () => 0.9 }).get("top", rank)}`);
  await r.quit();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
