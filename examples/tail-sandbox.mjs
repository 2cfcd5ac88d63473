// Prints what happens to one sandbox, or to all, as it happens:  node examples/tail-sandbox.mjs [sandbox_id] [tenant]
// A core NATS subscription: stats included, nothing from before it started, nothing while it is disconnected.
import { connectNats } from "./connect.mjs";

const [sandbox = "*", tenant = "*"] = process.argv.slice(2);
const nc = await connectNats();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => nc.drain());

const events = nc.subscribe(`chorus.sandbox.v1.*.${tenant}.${sandbox}.>`);
await nc.flush();
console.error(`listening on ${events.getSubject()}`);

for await (const message of events) {
  const { time, subject, type, data } = message.json();
  const { sandbox_id, host, tenant, labels, actor, state, ...own } = data;
  const name = type.replace(/^dev\.chorus\.sandbox\.(.*)\.v1$/, "$1");
  console.log(`${time}  ${subject}  ${name}  ${JSON.stringify(own)}`);
}
