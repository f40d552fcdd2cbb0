// Redlock: a lock held by a majority of independent groups, for when whole groups may be lost or out of reach.
// One durakv group needs none of this against the loss of nodes; the groups here are sites that fail as a whole.
// Relies on no group forgetting an acknowledged SET, not even when all its nodes restart: a vote is never given twice.
// A group whose outcome is unknown casts no vote; its key is released all the same, or goes away by its deadline.
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";

const RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";
const CLOCK_DRIFT = 0.01;

/** One attempt to hold `name`; clients need a commandTimeout far below `ttlMs`, and no retries. */
export class Redlock {
  constructor(groups, name, ttlMs) {
    Object.assign(this, { groups, ttlMs, key: `redlock:${name}`, token: randomUUID() });
  }

  /** Milliseconds for which the lock is surely held; 0 when it is not, and then nothing is kept. */
  async acquire() {
    const beganMs = performance.now();
    const asked = this.groups.map((group) => group.set(this.key, this.token, "PX", this.ttlMs, "NX"));
    // No vote from a group that refuses, is down, or whose outcome is unknown.
    const votes = (await Promise.allSettled(asked)).filter(({ value }) => value === "OK").length;
    const validMs = Math.floor(this.ttlMs * (1 - CLOCK_DRIFT) - (performance.now() - beganMs) - 2);
    if (votes > this.groups.length / 2 && validMs > 0) return validMs;
    await this.release();
    return 0;
  }

  /** Release in every group, also where no vote came back; in how many it was held. */
  async release() {
    const asked = this.groups.map((group) => group.eval(RELEASE, 1, this.key, this.token));
    return (await Promise.allSettled(asked)).filter(({ value }) => value === 1).length;
  }
}

async function main() {
  const { port: ports } = parseArgs({ options: { port: { type: "string", multiple: true } } }).values;
  const options = { commandTimeout: 500, maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false };
  const groups = ports.map((port) => new Redis({ port: Number(port), ...options }));
  const first = new Redlock(groups, "invoice", 10_000);
  const second = new Redlock(groups, "invoice", 10_000);
  console.log(`first holds: ${(await first.acquire()) > 0}`);
  console.log(`second waits: ${(await second.acquire()) === 0}`);
  console.log(`released in ${await first.release()} groups`);
  console.log(`second holds: ${(await second.acquire()) > 0}`);
  await second.release();
  await Promise.all(groups.map((group) => group.quit()));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
