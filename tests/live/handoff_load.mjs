// An ioredis cluster client that counts on keys of the given tags until its input ends; then it says what it saw.
import { createRequire } from "node:module";

const require = createRequire(`${process.env.IOREDIS_HOME}/package.json`);
const { Cluster } = require("ioredis");
const [tags, ...nodes] = process.argv.slice(2);
const places = nodes.map((node) => ({ host: node.split(":")[0], port: Number(node.split(":")[1]) }));
const cluster = new Cluster(places);
const errors = [];
let operations = 0;
let wrong = 0;
let going = true;
process.stdin.resume();
process.stdin.on("end", () => (going = false));

async function count(tag) {
  for (let n = 1; going; n += 1) {
    try {
      const key = `{${tag}}:ioredis`;
      if ((await cluster.incr(key)) !== n) wrong += 1;
      const replies = await cluster.multi().get(key).rpush(`${key}:list`, n).exec();
      if (replies[0][1] !== String(n) || replies[1][1] !== n) wrong += 1;
      const piped = await cluster.pipeline().get(key).llen(`${key}:list`).exec();
      if (piped[0][1] !== String(n) || piped[1][1] !== n) wrong += 1;
      operations += 3;
    } catch (error) {
      errors.push(`${tag}: ${error.message}`);
      break;
    }
  }
}

await Promise.all(tags.split(",").map(count));
console.log(JSON.stringify({ operations, wrong, errors }));
cluster.disconnect();
process.exit(0);
