import { redirectConsole, serve } from "../../src/server/index.ts";
import { FakeSandboxes } from "./mcp-fake.ts";
import { serverOptions } from "./mcp-options.ts";

// A server process with a fake service, for tests that need a real one on the other side of real pipes.
redirectConsole(process.stderr);
const fake = new FakeSandboxes();
const serving = serve({
  ...serverOptions(fake, () => console.log("opened")),
  input: process.stdin,
  output: process.stdout,
});
await serving.closed;
process.stderr.write("closed\n");
