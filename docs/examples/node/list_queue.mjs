// A queue in a list: BLMOVE puts each job aside for the worker that takes it, so a worker that dies loses none.
// Relies on acknowledged writes surviving, and on -UNBLOCKED (a wait cut short, as by an election) being definite.
// After an unknown outcome a job may be there twice (put) or set aside already (take): `recover` brings it back.
// Jobs therefore carry an id and may run twice.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";

/** Jobs are strings, first in first out. A waiting `take` needs a connection of its own. */
export class ListQueue {
  constructor(r, name) {
    Object.assign(this, { r, waiting: `{${name}}:waiting`, running: `{${name}}:running:` });
  }

  async put(job) {
    await this.r.lpush(this.waiting, job);
  }

  /** The next job, set aside for `worker`; null when none came in time or the wait was cut short. */
  async take(worker, timeoutS = 1) {
    try {
      return await this.r.blmove(this.waiting, this.running + worker, "RIGHT", "LEFT", timeoutS);
    } catch (error) {
      if (String(error.message).startsWith("UNBLOCKED")) return null;
      throw error;
    }
  }

  /** Forget a job that ran; may be repeated. */
  async done(worker, job) {
    await this.r.lrem(this.running + worker, 1, job);
  }

  /** Give back what a worker held that has ended; how many. A worker does it for itself when it starts. */
  async recover(worker) {
    let count = 0;
    while ((await this.r.lmove(this.running + worker, this.waiting, "LEFT", "RIGHT")) !== null) count += 1;
    return count;
  }

  /** The next job at most once: plain BRPOP, for jobs that may be lost with their worker. */
  async pop(timeoutS = 1) {
    const found = await this.r.brpop(this.waiting, timeoutS);
    return found === null ? null : found[1];
  }
}

async function main() {
  const { port } = parseArgs({ options: { port: { type: "string", default: "6379" } } }).values;
  const r = new Redis({ port: Number(port), maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false });
  const queue = new ListQueue(r, "mail");
  await queue.put("job-1");
  await queue.put("job-2");
  console.log(`first worker takes ${await queue.take("first")} and dies`);
  console.log(`given back ${await queue.recover("first")}`);
  for (let i = 0; i < 2; i += 1) {
    const job = await queue.take("second");
    await queue.done("second", job);
    console.log(`second worker ran ${job}`);
  }
  await r.quit();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
