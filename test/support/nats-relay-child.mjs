// A server process reduced to its relay: node nats-relay-child.mjs <compiled src> <data dir> <NATS URL>
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [built, dataDir, url] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(join(built, file)).href);
const { openStore } = await load("sandbox/store/index.js");
const { startPublisher } = await load("events/publisher.js");
const { createLogger } = await load("logger.js");

const store = await openStore({ dataDir, host: "h1" });
const publisher = startPublisher({
  login: { servers: [url] },
  store,
  host: "h1",
  tenant: "default",
  hostUp: () => ({ version: "0", capacity: {} }),
  logger: createLogger("silent"),
});
process.stdout.write("started\n");
process.once("SIGTERM", async () => {
  await publisher[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
});
