import { Client as ModernClient } from "@modelcontextprotocol/client";
import { StdioClientTransport as ModernStdio } from "@modelcontextprotocol/client/stdio";
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as LegacyStdio } from "@modelcontextprotocol/sdk/client/stdio.js";
import { ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { beforeAll, describe, expect, it } from "vitest";
import { tools as registered } from "../../../src/tools/registry.ts";
import { buildServer } from "../../support/mcp-process.ts";
import { execRow, sandboxView } from "../../support/mcp-samples.ts";

let server: { command: string; args: string[] };
beforeAll(async () => {
  server = await buildServer("clients");
});

interface Session extends AsyncDisposable {
  client: LegacyClient | ModernClient;
  updates: AsyncIterator<string>;
  stderr: () => string;
  /** Watches these URIs; the returned function stops. */
  subscribe(uris: string[]): Promise<() => Promise<unknown>>;
}

const info = { name: "tester", version: "1.2.3" };
const id = sandboxView.sandbox_id;

/** What arrives, in order, for one awaiting reader. */
function queue<T>(): { push: (item: T) => void; items: AsyncIterator<T> } {
  const waiting: ((result: IteratorResult<T>) => void)[] = [];
  const ready: T[] = [];
  return {
    push(item) {
      const take = waiting.shift();
      if (take) take({ value: item, done: false });
      else ready.push(item);
    },
    items: {
      next: () =>
        new Promise((resolve) => {
          const item = ready.shift();
          if (item === undefined) waiting.push(resolve);
          else resolve({ value: item, done: false });
        }),
    },
  };
}

async function legacy(): Promise<Session> {
  const client = new LegacyClient(info);
  const { push, items } = queue<string>();
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => push(params.uri));
  const transport = new LegacyStdio({ ...server, stderr: "pipe" });
  let stderr = "";
  transport.stderr?.on("data", (chunk) => {
    stderr += chunk;
  });
  await client.connect(transport);
  return {
    client,
    updates: items,
    stderr: () => stderr,
    async subscribe(uris) {
      for (const uri of uris) await client.subscribeResource({ uri });
      return () => Promise.all(uris.map((uri) => client.unsubscribeResource({ uri })));
    },
    [Symbol.asyncDispose]: () => client.close(),
  };
}

async function modern(): Promise<Session> {
  const client = new ModernClient(info, { versionNegotiation: { mode: { pin: "2026-07-28" } } });
  const { push, items } = queue<string>();
  client.setNotificationHandler("notifications/resources/updated", ({ params }) => push(params.uri));
  const transport = new ModernStdio({ ...server, stderr: "pipe" });
  let stderr = "";
  transport.stderr?.on("data", (chunk) => {
    stderr += chunk;
  });
  await client.connect(transport);
  return {
    client,
    updates: items,
    stderr: () => stderr,
    async subscribe(resourceSubscriptions) {
      const subscription = await client.listen({ resourceSubscriptions });
      return () => subscription.close();
    },
    [Symbol.asyncDispose]: () => client.close(),
  };
}

describe.each([
  ["2025-era client (sdk 1.x)", legacy],
  ["2026-era client (client 2.x)", modern],
])("%s", (_name, connect) => {
  it("sees instructions and tools", async () => {
    await using session = await connect();
    expect(session.client.getInstructions()).toContain("wait_s: 0");
    const { tools } = await session.client.listTools();
    expect(tools).toHaveLength(registered.length);
    expect(
      tools.every((tool) => tool.outputSchema?.type === "object" && tool.annotations?.readOnlyHint !== undefined),
    ).toBe(true);
    expect(session.stderr()).not.toContain("opened");
  });

  it("calls tools, and both renderings come", async () => {
    await using session = await connect();
    await session.client.listTools();
    const result = await session.client.callTool({
      name: "exec_run",
      arguments: { sandbox_id: "alpha", command: "hi", wait_s: "5" },
    });
    expect(result.isError).toBeFalsy();
    expect(result.structuredContent).toMatchObject({ status: "exited", stdout: "hi\n" });
    expect(result.content).toEqual([
      { type: "text", text: expect.stringMatching(/^exit 0 · 3\.2 s · ex_.*\n```\nhi\n```$/) },
    ]);
  });

  it("gets errors with code, message and next", async () => {
    await using session = await connect();
    await session.client.listTools();
    const missing = await session.client.callTool({ name: "sandbox_get", arguments: { sandbox_id: "nope" } });
    expect(missing).toMatchObject({
      isError: true,
      content: [
        { text: expect.stringMatching(/^SANDBOX_NOT_FOUND: There is no sandbox "nope"\.\nNext: Call sandbox_list/) },
      ],
      _meta: { "dev.chorus/error": { code: "SANDBOX_NOT_FOUND", retryable: false } },
    });
    expect(missing).not.toHaveProperty("structuredContent");
    const wrong = await session.client.callTool({ name: "exec_run", arguments: { sandbox_id: "alpha", comand: "x" } });
    expect(wrong).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining('"comand" (did you mean command?)') }],
    });
    const broken = await session.client.callTool({
      name: "exec_run",
      arguments: { sandbox_id: "alpha", command: "explode" },
    });
    expect(broken).toMatchObject({
      isError: true,
      content: [{ text: expect.stringMatching(/^INTERNAL: \P{Cc}*\nNext: \P{Cc}*$/u) }],
    });
  });

  it("hears that a tool is unknown, and of the closest", async () => {
    await using session = await connect();
    await expect(session.client.callTool({ name: "exec_rum", arguments: {} })).rejects.toThrow(
      /Unknown tool "exec_rum" \(did you mean exec_run\?\)/,
    );
  });

  it("is known by name, with the trace it is in", async () => {
    await using session = await connect();
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const whoami = { name: "exec_run", arguments: { sandbox_id: "alpha", command: "whoami" }, _meta: { traceparent } };
    const { structuredContent } = await session.client.callTool(whoami);
    const { stdout } = JSON.parse(JSON.stringify(structuredContent));
    expect(JSON.parse(stdout)).toEqual({ client: "tester/1.2.3", folder: "/home/me", traceparent });
  });

  it("hears of progress", async () => {
    await using session = await connect();
    const messages: (string | undefined)[] = [];
    const run = (command: string) => ({ name: "exec_run", arguments: { sandbox_id: "alpha", command } });
    const call = run("progress");
    // The call ends when this is told: a client drops progress that reaches it together with the answer.
    const onprogress = ({ message }: { message?: string | undefined }): void => {
      messages.push(message);
      void session.client.callTool(run("heard"));
    };
    if (session.client instanceof LegacyClient) await session.client.callTool(call, undefined, { onprogress });
    else await session.client.callTool(call, { onprogress });
    expect(messages).toEqual(["half way"]);
  });

  it("cancels", async () => {
    await using session = await connect();
    const controller = new AbortController();
    const call = { name: "exec_run", arguments: { sandbox_id: "alpha", command: "hang" } };
    const { signal } = controller;
    const hanging =
      session.client instanceof LegacyClient
        ? session.client.callTool(call, undefined, { signal })
        : session.client.callTool(call, { signal });
    await expect.poll(session.stderr, { timeout: 30_000 }).toContain("hanging");
    controller.abort();
    await expect(hanging).rejects.toThrow();
    await expect.poll(session.stderr, { timeout: 30_000 }).toContain("cancelled");
    await expect(session.client.callTool({ name: "sandbox_list", arguments: {} })).resolves.toBeTruthy();
  });

  it("reads resources, templates and completions", async () => {
    await using session = await connect();
    const uris = async () => (await session.client.listResources()).resources.map((resource) => resource.uri);
    expect(await uris()).toEqual(["sandbox-events://latest", "schema://events", "policy://effective"]);
    expect(session.stderr()).not.toContain("opened");
    const read = async (uri: string) =>
      JSON.parse(JSON.stringify((await session.client.readResource({ uri })).contents[0]));
    expect(JSON.parse((await read(`sandbox://${id}`)).text)).toMatchObject({ sandbox_id: id });
    expect(JSON.parse((await read("sandbox://alpha")).text)).toMatchObject({ sandbox_id: id });
    expect(JSON.parse((await read("sandbox-events://latest")).text)).toHaveProperty("events");
    expect(JSON.parse((await read("schema://events")).text)).toHaveProperty(["exec.started"]);
    expect(JSON.parse((await read("policy://effective")).text)).toMatchObject({ source: "built-in" });
    await expect(read("sandbox://nope")).rejects.toThrow(/SANDBOX_NOT_FOUND|not found/i);
    await expect(read("file:///etc/passwd")).rejects.toThrow(/not found/i);
    expect(await uris()).toContain(`sandbox://${id}`);
    const { resourceTemplates } = await session.client.listResourceTemplates();
    expect(resourceTemplates.map((template) => template.uriTemplate)).toEqual(
      expect.arrayContaining(["sandbox://{sandbox_id}", "sandbox://{sandbox_id}/execs/{exec_id}/{stream}"]),
    );
    const exec = "sandbox://{sandbox_id}/execs/{exec_id}/{stream}";
    const completed = async (uri: string, name: string, value: string, known: Record<string, string> = {}) => {
      const ref = { type: "ref/resource", uri } as const;
      const asked = { ref, argument: { name, value }, context: { arguments: known } };
      return (await session.client.complete(asked)).completion.values;
    };
    expect(await completed("sandbox://{sandbox_id}", "sandbox_id", "al")).toEqual(["alpha"]);
    expect(await completed(exec, "exec_id", "ex_", { sandbox_id: "alpha" })).toEqual([execRow.exec_id]);
    expect(await completed(exec, "exec_id", "other", { sandbox_id: "alpha" })).toEqual([]);
    expect(await completed(exec, "exec_id", "ex_")).toEqual([]);
    expect(await completed(exec, "stream", "std")).toEqual(["stdout", "stderr"]);
    expect(await completed("sandbox://other", "sandbox_id", "al")).toEqual([]);
  });

  it("hears of events of what it subscribed to, until it stops", async () => {
    await using session = await connect();
    const destroy = () => session.client.callTool({ name: "sandbox_destroy", arguments: { sandbox_id: id } });
    const stop = await session.subscribe([`sandbox://${id}`]);
    await destroy();
    expect((await session.updates.next()).value).toBe(`sandbox://${id}`);
    await stop();
    await destroy();
    await session.subscribe(["sandbox-events://latest"]);
    await destroy();
    expect((await session.updates.next()).value).toBe("sandbox-events://latest");
  });
});

it("a 2026-era client that probes first is served as well", async () => {
  const client = new ModernClient(info, { versionNegotiation: { mode: "auto" } });
  await client.connect(new ModernStdio({ ...server, stderr: "ignore" }));
  expect((await client.callTool({ name: "sandbox_stats", arguments: { sandbox_id: "alpha" } })).isError).toBeFalsy();
  await client.close();
});

it("a 2025-era subscription to a sandbox that does not exist is refused", async () => {
  await using session = await legacy();
  await expect(session.subscribe(["sandbox://nope"])).rejects.toThrow("SANDBOX_NOT_FOUND");
});
