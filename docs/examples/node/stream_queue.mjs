// A queue in a stream: a consumer group shares out the jobs, and those of a dead consumer are claimed by another.
// Relies on acknowledged writes surviving: pending lists, deliveries and XACK are in the log like any other write.
// After an unknown outcome XADD is repeated (jobs carry an id and may run twice), what XREADGROUP delivered to nobody is
// found by `claim`, and XACK is repeated.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";

const toJobs = (entries) => entries.map(([id, flat]) => {
  const pairs = Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
  return { id, fields: Object.fromEntries(pairs) };
});

/** Jobs are { id, fields }. A waiting `read` needs a connection of its own. */
export class StreamQueue {
  constructor(r, stream, group) {
    Object.assign(this, { r, stream, group });
  }

  /** Make the stream and the group unless they are there. */
  async create() {
    try {
      await this.r.xgroup("CREATE", this.stream, this.group, "0", "MKSTREAM");
    } catch (error) {
      if (!String(error.message).startsWith("BUSYGROUP")) throw error;
    }
  }

  /** Add a job; its entry id. */
  async add(fields) {
    return this.r.xadd(this.stream, "*", ...Object.entries(fields).flat());
  }

  /** New jobs for this consumer, empty when none came in time. */
  async read(consumer, count = 10, blockMs = 1000) {
    const found = await this.r.xreadgroup(
      "GROUP", this.group, consumer, "COUNT", count, "BLOCK", blockMs, "STREAMS", this.stream, ">",
    );
    return (found ?? []).flatMap(([, entries]) => toJobs(entries));
  }

  /** Take over up to `count` jobs delivered to anybody at least `idleMs` ago and not acknowledged since. */
  async claim(consumer, idleMs, count = 10) {
    const jobs = [];
    let cursor = "0-0";
    do {
      const left = count - jobs.length;
      const reply = await this.r.xautoclaim(this.stream, this.group, consumer, idleMs, cursor, "COUNT", left);
      cursor = reply[0];
      jobs.push(...toJobs(reply[1]));
    } while (cursor !== "0-0" && jobs.length < count);
    return jobs;
  }

  /** Acknowledge and delete; false when somebody had done it before. */
  async done(id) {
    const replies = await this.r.multi().xack(this.stream, this.group, id).xdel(this.stream, id).exec();
    for (const [error] of replies) if (error) throw error;
    return replies[0][1] === 1;
  }
}

async function main() {
  const { port } = parseArgs({ options: { port: { type: "string", default: "6379" } } }).values;
  const r = new Redis({ port: Number(port), maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false });
  await r.del("orders");
  const queue = new StreamQueue(r, "orders", "workers");
  await queue.create();
  for (let number = 0; number < 3; number += 1) await queue.add({ order: number });
  console.log(`first takes ${(await queue.read("first", 2)).length} and dies`);
  console.log(`second claims ${(await queue.claim("second", 0)).length}`);
  console.log(`second reads ${(await queue.read("second")).length}`);
  await r.quit();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
