import { describe, expect, it } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import { FakeSandboxes } from "../../support/mcp-fake.ts";
import { serverOptions } from "../../support/mcp-options.ts";
import { sandboxView } from "../../support/mcp-samples.ts";
import { _meta, inProcess } from "./in-process.ts";

const list = { name: "sandbox_list", arguments: {} };

describe("opening the service", () => {
  it("happens at the first call, once", async () => {
    let opened = 0;
    const { request } = inProcess(serverOptions(new FakeSandboxes(), () => opened++));
    await request(1, "server/discover", {});
    await request(2, "tools/list", {});
    await request(3, "resources/list", {});
    expect(opened).toBe(0);
    await Promise.all([request(4, "tools/call", list), request(5, "tools/call", list)]);
    expect(opened).toBe(1);
  });

  it("is tried again by the next call when it failed", async () => {
    let tries = 0;
    const options = serverOptions(new FakeSandboxes(), () => {
      if (++tries === 1) throw new SandboxError("BACKEND_UNAVAILABLE", "No container engine answers.");
    });
    const { request } = inProcess(options);
    expect(await request(1, "tools/call", list)).toMatchObject({
      result: { isError: true, content: [{ text: expect.stringMatching(/^BACKEND_UNAVAILABLE: /) }] },
    });
    expect(await request(2, "tools/call", list)).toMatchObject({ result: { structuredContent: { sandboxes: [{}] } } });
  });
});

describe("following events", () => {
  it("starts with a subscription, tells the list of live sandboxes too, and ends with the connection", async () => {
    const fake = new FakeSandboxes();
    const { request, send, lines, until, serving, input } = inProcess(serverOptions(fake));
    await request(1, "tools/call", list);
    expect(fake.listeners.size).toBe(0);
    send({
      id: 2,
      method: "subscriptions/listen",
      params: { notifications: { resourcesListChanged: true, resourceSubscriptions: ["sandbox://alpha"] }, _meta },
    });
    await until(() => lines.some((line) => line.method === "notifications/subscriptions/acknowledged"));
    await request(3, "tools/call", { name: "sandbox_destroy", arguments: { sandbox_id: sandboxView.sandbox_id } });
    await until(() => lines.some((line) => line.method === "notifications/resources/list_changed"));
    await until(() => lines.some((line) => line.method === "notifications/resources/updated"));
    expect(fake.listeners.size).toBe(1);
    input.end();
    await serving.closed;
    expect(fake.listeners.size).toBe(0);
  });

  it("does not start for a subscription that was cancelled meanwhile", async () => {
    const fake = new FakeSandboxes();
    let open = (): void => {};
    const opening = new Promise<FakeSandboxes>((resolve) => {
      open = () => resolve(fake);
    });
    const { send, lines, until, request } = inProcess({ ...serverOptions(fake), sandboxes: () => opening });
    send({
      id: 2,
      method: "subscriptions/listen",
      params: { notifications: { resourceSubscriptions: ["sandbox-events://latest"] }, _meta },
    });
    await until(() => lines.some((line) => line.method === "notifications/subscriptions/acknowledged"));
    send({ method: "notifications/cancelled", params: { requestId: 2, _meta } });
    open();
    await request(3, "tools/call", list);
    expect(fake.listeners.size).toBe(0);
  });
});

it("logs one line a call", async () => {
  const logged: object[] = [];
  const log = (fields: object): void => void logged.push(fields);
  const { request } = inProcess({
    ...serverOptions(new FakeSandboxes()),
    logger: { debug: log, warn: log, error: log },
  });
  await request(1, "tools/call", list);
  expect(logged).toEqual([
    { tool: "sandbox_list", tenant: "default", client: "t/1", ms: expect.any(Number), ok: true },
  ]);
});
