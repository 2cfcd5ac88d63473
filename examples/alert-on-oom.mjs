// Says which sandboxes run out of memory, and which command it cost:  node examples/alert-on-oom.mjs [tenant]
// Subscribes to two kinds of events only; the server filters, so that this costs nothing however busy the hosts are.
import { connectNats } from "./connect.mjs";

const tenant = process.argv[2] ?? "*";
const nc = await connectNats();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => nc.drain());

const mebibytes = (bytes) => (bytes === null ? "an unknown amount" : `${Math.round(bytes / 2 ** 20)} MiB`);

const alerts = {
  "limit.oom": ({ sandbox_id, tenant, limit, exec_id }) =>
    `OOM in ${sandbox_id} of ${tenant}: limit ${mebibytes(limit)}${exec_id ? `, in ${exec_id}` : ""}`,
  "exec.completed": ({ sandbox_id, tenant, status, command }) =>
    status === "oom_killed" && `OOM killed in ${sandbox_id} of ${tenant}: ${command}`,
};

const listen = async ([action, describe]) => {
  for await (const message of nc.subscribe(`chorus.sandbox.v1.*.${tenant}.*.${action}`)) {
    const text = describe(message.json().data);
    if (text) console.log(text);
  }
};

const listening = Object.entries(alerts).map(listen);
await nc.flush();
console.error("watching for sandboxes that run out of memory");
await Promise.all(listening);
