// A scripted ioredis session. Usage: node session.mjs plain|cluster PORT [PORT ...]
// The first port is the node under test, the others are further nodes of its group.
// Prints one line for each part that passed; any failed assertion ends the process with an error.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [mode, ...ports] = process.argv.slice(2);
const library = createRequire(pathToFileURL(process.env.IOREDIS_HOME + "/package.json"));
const { Redis, Cluster } = library("ioredis");
const DEADLINE_MS = 15000;
const options = { host: "127.0.0.1", maxRetriesPerRequest: 20, connectTimeout: 5000 };
const open = [];

function connect(port, extra = {}) {
  const client = new Redis({ ...options, port: Number(port), ...extra });
  client.on("error", (error) => console.error(String(error)));
  open.push(client);
  return client;
}

function connectCluster() {
  const nodes = ports.map((port) => ({ host: "127.0.0.1", port: Number(port) }));
  const client = new Cluster(nodes, { redisOptions: options, slotsRefreshInterval: 500 });
  client.on("error", (error) => console.error(String(error)));
  open.push(client);
  return client;
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${DEADLINE_MS} ms: ${what}`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function values(r) {
  assert.equal(await r.set("{t}k", "v"), "OK");
  assert.equal(await r.get("{t}k"), "v");
  assert.equal(await r.get("{t}absent"), null);
  assert.equal(await r.set("{t}k", "w", "EX", 100, "NX"), null);
  assert.equal(await r.incrby("{t}n", 5), 5);
  assert.equal(await r.hset("{t}h", { a: "1", b: "2" }), 2);
  assert.deepEqual(await r.hgetall("{t}h"), { a: "1", b: "2" });
  assert.equal(await r.rpush("{t}l", "a", "b", "c"), 3);
  assert.deepEqual(await r.lrange("{t}l", 0, -1), ["a", "b", "c"]);
  assert.equal(await r.sadd("{t}s", "x", "y"), 2);
  assert.deepEqual((await r.smembers("{t}s")).sort(), ["x", "y"]);
  assert.equal(await r.zadd("{t}z", 1.5, "m", 2, "n"), 2);
  assert.deepEqual(await r.zrange("{t}z", 0, -1, "WITHSCORES"), ["m", "1.5", "n", "2"]);
  assert.equal(await r.pexpire("{t}k", 60000), 1);
  assert.ok((await r.pttl("{t}k")) > 50000);
  assert.deepEqual(await r.mget("{t}k", "{t}absent"), ["v", null]);
  const binary = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  assert.equal(await r.set("{t}binary", binary), "OK");
  assert.ok((await r.getBuffer("{t}binary")).equals(binary));
  const large = Buffer.alloc(5_000_000, "durakv");
  assert.equal(await r.set("{t}large", large), "OK");
  assert.ok((await r.getBuffer("{t}large")).equals(large));
  await assert.rejects(r.get("{t}l"), /^ReplyError: WRONGTYPE Operation against a key/);
  await assert.rejects(r.call("NOSUCH", "{t}k"), /unknown command 'NOSUCH'/);
  console.log("values");
}

async function pipelines(r) {
  const p = r.pipeline();
  for (let i = 0; i < 500; i++) p.rpush("{t}order", i).lindex("{t}order", -1);
  const replies = await p.exec();
  assert.equal(replies.length, 1000);
  for (let i = 0; i < 500; i++) {
    assert.deepEqual(replies[2 * i], [null, i + 1]);
    assert.deepEqual(replies[2 * i + 1], [null, String(i)]);
  }
  const reads = await Promise.all(Array.from({ length: 300 }, (_, i) => r.lindex("{t}order", i)));
  assert.deepEqual(reads, Array.from({ length: 300 }, (_, i) => String(i)));
  assert.deepEqual(await r.multi().set("{t}m", 1).incr("{t}m").get("{t}m").exec(), [
    [null, "OK"],
    [null, 2],
    [null, "2"],
  ]);
  console.log("pipelines");
}

async function scans(r) {
  await Promise.all(Array.from({ length: 200 }, (_, i) => r.set(`{t}scan:${i}`, i)));
  const seen = new Set();
  for await (const keys of r.scanStream({ match: "{t}scan:*", count: 20 })) keys.forEach((key) => seen.add(key));
  assert.equal(seen.size, 200);
  console.log("scans");
}

async function blocking(r, waiter) {
  const popped = waiter.blpop("{t}queue", 0);
  assert.equal(await r.rpush("{t}queue", "first"), 1);
  assert.deepEqual(await within(popped, "BLPOP"), ["{t}queue", "first"]);
  assert.equal(await within(waiter.blpop("{t}queue", 0.05), "BLPOP's timeout"), null);
  console.log("blocking");
}

async function messages(publisher, subscriber) {
  const got = [];
  const all = new Promise((resolve) => {
    subscriber.on("message", (channel, text) => {
      got.push(`${channel} ${text}`);
      if (got.length === 10) resolve();
    });
  });
  assert.equal(await subscriber.subscribe("news"), 1);
  for (let i = 0; i < 10; i++) await publisher.publish("news", i);
  await within(all, "ten messages");
  assert.deepEqual(got, Array.from({ length: 10 }, (_, i) => `news ${i}`));
  console.log("messages");
}

async function watching(mine, rival) {
  await mine.set("{t}w", 1);
  await mine.watch("{t}w");
  await rival.set("{t}w", 2);
  assert.equal(await mine.multi().set("{t}w", 3).exec(), null);
  await mine.watch("{t}w");
  assert.deepEqual(await mine.multi().incr("{t}w").exec(), [[null, 3]]);
  console.log("watching");
}

async function plain() {
  const r = connect(ports[0]);
  const far = connect(ports.at(-1), { db: 0 });
  await r.flushall();
  await values(r);
  await pipelines(r);
  await scans(r);
  await blocking(far, connect(ports[0]));
  await messages(far, connect(ports[0]));
  await watching(connect(ports[0]), far);
  const automatic = connect(ports[0], { enableAutoPipelining: true });
  const numbers = await Promise.all(Array.from({ length: 500 }, () => automatic.incr("{t}auto")));
  assert.deepEqual(numbers, Array.from({ length: 500 }, (_, i) => i + 1));
  console.log("auto pipelining");
  const third = connect(ports[0], { db: 3 });
  assert.equal(await third.set("{t}k", "three"), "OK");
  assert.equal(await r.get("{t}k"), "v");
  console.log("databases");
}

async function cluster() {
  const r = connectCluster();
  await values(r);
  await pipelines(r);
  const keys = Array.from({ length: 200 }, (_, i) => `spread:${i}`);
  assert.ok((await Promise.all(keys.map((key) => r.set(key, key)))).every((reply) => reply === "OK"));
  assert.deepEqual(await Promise.all(keys.map((key) => r.get(key))), keys);
  await assert.rejects(r.mget("a", "b"), /CROSSSLOT/);
  console.log("slots");
  await blocking(r, connectCluster());
  await messages(r, connectCluster());
  assert.equal(r.nodes("master").length, 1);
  assert.equal(r.nodes("all").length, 3);
  console.log("topology");
}

try {
  await within(mode === "cluster" ? cluster() : plain(), mode);
  console.log("done");
} finally {
  for (const client of open) client.disconnect();
}
