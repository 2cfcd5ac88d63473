import { setTimeout as delay } from "node:timers/promises";
import { expect, it, onTestFinished, vi } from "vitest";
import { gate } from "../../support/core.ts";
import { FakeSandboxes } from "../../support/mcp-fake.ts";
import { serverOptions } from "../../support/mcp-options.ts";
import { _meta, inProcess } from "./in-process.ts";

const run = { name: "exec_run", arguments: { sandbox_id: "alpha", command: "hi" } };
const call = { id: 1, method: "tools/call", params: { ...run, _meta } };
const cancel = { method: "notifications/cancelled", params: { requestId: 1, _meta } };
const commands = (fake: FakeSandboxes) => fake.asked.filter(({ method }) => method === "execRun");

/** A fresh server, whose tools are loaded by the first call, once `load` was called. */
async function stillLoading(fake: FakeSandboxes) {
  const loading = gate();
  const began = gate();
  vi.resetModules();
  vi.doMock("../../../src/server/call-tool.ts", async (original) => {
    began.open();
    await loading.opened;
    return original();
  });
  onTestFinished(() => vi.doUnmock("../../../src/server/call-tool.ts"));
  const { serve } = await import("../../../src/server/index.ts");
  return { ...inProcess(serverOptions(fake), serve), load: loading.open, loading: began.opened };
}

/** The server has got to the end of what was sent before. */
async function answered({ request }: ReturnType<typeof inProcess>): Promise<void> {
  await request(9, "resources/list", {});
}

it.each([false, true])("a call that is cancelled while the tools load runs nothing, client gone: %s", async (gone) => {
  const fake = new FakeSandboxes();
  const server = await stillLoading(fake);
  server.send(call);
  await server.loading;
  server.send(cancel);
  await answered(server);
  if (gone) server.input.end();
  server.load();
  await vi.dynamicImportSettled();
  // Nobody is told of a call that runs without its client; a process that loads nothing more would have got to it by now.
  if (gone) await server.serving.closed.then(() => delay(100));
  else await server.request(2, "tools/call", { name: "sandbox_list", arguments: {} });
  expect(commands(fake)).toEqual([]);
});

it("a call whose client goes while the tools load runs all the same", async () => {
  const fake = new FakeSandboxes();
  const server = await stillLoading(fake);
  server.send(call);
  await server.loading;
  server.input.end();
  server.load();
  await vi.waitFor(() => expect(commands(fake)).toHaveLength(1), { timeout: 20_000 });
  expect(commands(fake)[0]?.call?.signal.aborted).toBe(false);
});

it("a call that is cancelled in the same breath, or while the service opens, runs nothing", async () => {
  const fake = new FakeSandboxes();
  const opening = gate();
  const asked = gate();
  const server = inProcess({
    ...serverOptions(fake),
    sandboxes: async () => {
      asked.open();
      await opening.opened;
      return fake;
    },
  });
  await server.request(8, "tools/list", {});
  server.input.write([call, cancel].map((message) => `${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`).join(""));
  await answered(server);
  server.send({ ...call, id: 2 });
  await asked.opened;
  server.send({ ...cancel, params: { requestId: 2, _meta } });
  await answered(server);
  opening.open();
  await server.request(3, "tools/call", { name: "sandbox_list", arguments: {} });
  expect(commands(fake)).toEqual([]);
});
