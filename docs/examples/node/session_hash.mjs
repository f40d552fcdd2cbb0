// Sessions: one hash each, deleted when idle; a code in it has a shorter deadline of its own and is used at most once.
// Relies on acknowledged writes surviving: nobody is logged out by a failover, and a code that was used stays used.
// After an unknown outcome start, log-out and giving a code are repeated; a code that may be used up is replaced.
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";

async function all(transaction) {
  const replies = await transaction.exec();
  for (const [error] of replies) if (error) throw error;
  return replies.map(([, reply]) => reply);
}

/** Sessions that end after `idleS` seconds without a read. */
export class Sessions {
  constructor(r, idleS) {
    Object.assign(this, { r, idleS });
  }

  /** Begin a session; `id` must be unguessable. */
  async start(id, user, fields = {}) {
    await all(this.r.multi().hset(`session:${id}`, { user, ...fields }).expire(`session:${id}`, this.idleS));
  }

  /** The fields, empty when the session is over. Costs a write only once half of the idle time has passed. */
  async read(id) {
    const key = `session:${id}`;
    const [fields, leftMs] = await all(this.r.multi().hgetall(key).pttl(key));
    if (!("user" in fields)) return {};
    if (leftMs < this.idleS * 500) await this.r.expire(key, this.idleS);
    return fields;
  }

  /** Put a one-time code into a session; it vanishes by itself after `validMs`. */
  async giveCode(id, code, validMs) {
    const key = `session:${id}`;
    const put = this.r.multi().call("HSETEX", key, "PX", validMs, "FIELDS", 1, "code", code);
    await all(put.expire(key, this.idleS));
  }

  /** Whether this was the code; every attempt uses it up. */
  async useCode(id, code) {
    const [stored] = await this.r.call("HGETDEL", `session:${id}`, "FIELDS", 1, "code");
    return stored === code;
  }

  /** Log out. */
  async end(id) {
    await this.r.unlink(`session:${id}`);
  }
}

async function main() {
  const { port } = parseArgs({ options: { port: { type: "string", default: "6379" } } }).values;
  const r = new Redis({ port: Number(port), maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false });
  const sessions = new Sessions(r, 1800);
  const id = randomBytes(32).toString("base64url");
  await sessions.start(id, "ann", { theme: "dark" });
  await sessions.giveCode(id, "123456", 60_000);
  console.log(`user ${(await sessions.read(id)).user}`);
  const uses = await Promise.all([1, 2].map(() => sessions.useCode(id, "123456")));
  console.log(`code ${uses.filter(Boolean).length} time`);
  await sessions.end(id);
  console.log(`after log-out ${Object.keys(await sessions.read(id)).length} fields`);
  await r.quit();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
