// BullMQ on the queue "conformance": `worker <port> <record>` until it is stopped, or `add <port> <from> <to>`.
import { createRequire } from "node:module";
import { appendFileSync } from "node:fs";

const require = createRequire(process.env.BULLMQ_HOME + "/");
const { Queue, Worker } = require("bullmq");
const [mode, port, ...rest] = process.argv.slice(2);
const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };
const quiet = () => {};
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

if (mode === "worker") {
  const worker = new Worker(
    "conformance",
    async (job) => appendFileSync(rest[0], `${job.data.number}\n`),
    { connection, concurrency: 8, lockDuration: 2000, stalledInterval: 1000, maxStalledCount: 100 },
  );
  worker.on("error", quiet);
} else {
  const queue = new Queue("conformance", { connection });
  queue.on("error", quiet);
  const [from, to] = rest.map(Number);
  const options = { attempts: 20, backoff: { type: "fixed", delay: 100 }, removeOnComplete: true };
  let refused = 0;
  for (let at = from; at < to; at += 50) {
    const numbers = Array.from({ length: Math.min(50, to - at) }, (_, i) => at + i);
    for (;;) {
      try {
        // With an id of its own a job added twice is one job.
        await queue.addBulk(numbers.map((number) => (
          { name: "job", data: { number }, opts: { ...options, jobId: `n${number}` } })));
        break;
      } catch (error) {
        refused += 1;
        if (refused > 200) throw error;
        await pause(50);
      }
    }
  }
  console.log(`added, refused ${refused}`);
  await queue.close();
}
