// A server process that claims a warm sandbox and then says so and hangs, to be killed between guest and store.
import { pathToFileURL } from "node:url";

const [dist, dataDir, image, claimMs] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(`${dist}/${file}`).href);
const [
  { openStore },
  { createDockerBackend },
  { Connections },
  { claimWarm },
  { admit },
  { effectivePolicy },
  { fitEngine },
] = await Promise.all([
  load("sandbox/store/index.js"),
  load("sandbox/backends/docker/index.js"),
  load("sandbox/connections.js"),
  load("sandbox/pool.js"),
  load("sandbox/admission.js"),
  load("sandbox/policy.js"),
  load("sandbox/confinement.js"),
]);
const { availableParallelism, homedir } = await import("node:os");

const silent = () => {};
const logger = { debug: silent, info: silent, warn: console.error, error: console.error };
const store = await openStore({ dataDir, host: "h" });
const backend = createDockerBackend({
  installId: store.installId,
  engine: { host: process.env.DOCKER_HOST, tlsVerify: false, home: homedir() },
  guestBinary: (arch) => `${dist}/guest/chorus-guest-linux-${arch}`,
  logger,
});
const policy = effectivePolicy({}, "built-in", availableParallelism());
const core = { store, backend, connections: new Connections(backend, logger), policy, tenant: "default", logger };
const info = await backend.engine();
const spec = fitEngine(admit({}, policy, image), info);
const never = new AbortController().signal;
const warm = await claimWarm(core, info, spec, {}, never, Number(claimMs));
process.stdout.write(`${JSON.stringify(warm?.member.sandbox_id ?? null)}\n`);
setInterval(silent, 60_000);
