import { beforeAll, describe, expect, it } from "vitest";
import { buildServer, RawServer } from "../../support/mcp-process.ts";

let server: { command: string; args: string[] };
beforeAll(async () => {
  server = await buildServer("stdio");
});

const call = (name: string, args: object) => ({ name, arguments: args });
const run = (command: string) => call("exec_run", { sandbox_id: "alpha", command });

describe("the pipe", () => {
  it("carries nothing but the protocol, whatever is printed", async () => {
    await using raw = new RawServer(server);
    await raw.initialize();
    await raw.request(1, "tools/call", call("sandbox_list", {}));
    expect(raw.stderr).toContain("opened");
    expect(raw.lines.every((line) => "id" in line || "method" in line)).toBe(true);
  });

  it("answers malformed lines and lives on", async () => {
    await using raw = new RawServer(server);
    await raw.initialize();
    raw.write('{"jsonrpc":"2.0","id":1,\nnot json\n\n   \n[]\n"text"\n{"id":5}\n');
    expect((await raw.reply(5)).error).toMatchObject({ code: -32600 });
    const answered = raw.lines.filter((line) => line.id === null).map((line) => line.error?.code);
    expect(answered).toEqual([-32700, -32700, -32600, -32600]);
    expect((await raw.request(6, "ping")).result).toEqual({});
  });

  it("takes a call of 9 MB", async () => {
    await using raw = new RawServer(server);
    await raw.initialize();
    const stdin = "é\n".repeat(3_000_000);
    const started = performance.now();
    const reply = await raw.request(
      1,
      "tools/call",
      call("file_write", { sandbox_id: "alpha", files: [{ path: "big", content: stdin }] }),
    );
    console.log(`9 MB argument: ${Math.round(performance.now() - started)} ms`);
    expect(reply.result).toMatchObject({ structuredContent: { files: [{ size_bytes: 6_000_000 }] } });
  });

  it("refuses a message beyond its bound by id, and lives on", async () => {
    await using raw = new RawServer(server);
    await raw.initialize();
    const text = "x".repeat(33 * 1024 * 1024);
    raw.send({ id: 77, method: "tools/call", params: run(text) });
    raw.write(`${JSON.stringify({ method: "tools/call", params: run(text), jsonrpc: "2.0", id: "last" })}\n`);
    expect((await raw.reply(77)).error?.message).toContain("longer than");
    expect((await raw.reply("last")).error?.message).toContain("longer than");
    expect((await raw.request(2, "ping")).result).toEqual({});
  });

  it("makes what a client calls itself harmless", async () => {
    await using raw = new RawServer(server);
    const _meta = {
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientInfo": { name: `new\u001b[1m${"x".repeat(500)}`, version: "2" },
      "io.modelcontextprotocol/clientCapabilities": {},
      traceparent: "not one",
    };
    const reply = await raw.request(1, "tools/call", { ...run("whoami"), _meta });
    const text = JSON.stringify(reply.result);
    expect(text).toMatch(/new\\+x1b\[1mxxx/);
    expect(text).not.toContain("x".repeat(200));
    expect(text).not.toContain("traceparent");
  });
});

describe("the end of stdin", () => {
  it("ends the process", async () => {
    const raw = new RawServer(server);
    await raw.initialize();
    raw.child.stdin.end();
    expect(await raw.exited).toBe(0);
    expect(raw.stderr).toContain("closed");
  });

  it("before anything was said ends it too", async () => {
    const raw = new RawServer(server);
    raw.child.stdin.end();
    expect(await raw.exited).toBe(0);
  });

  it("cancels nothing that runs", async () => {
    const raw = new RawServer(server);
    await raw.initialize();
    raw.send({ id: 1, method: "tools/call", params: run("hang") });
    await raw.until(() => raw.stderr.includes("hanging"));
    raw.child.stdin.end();
    expect(await raw.exited).toBe(0);
    expect(raw.stderr).not.toContain("cancelled");
  });

  it("lets answers go that are ready", async () => {
    const raw = new RawServer(server);
    raw.send({
      id: 0,
      method: "initialize",
      params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "pipe", version: "1" } },
    });
    raw.send({ method: "notifications/initialized" });
    raw.send({ id: 1, method: "tools/call", params: run("hi") });
    raw.send({ id: 2, method: "tools/list" });
    raw.child.stdin.end();
    await raw.exited;
    expect(raw.lines.map((line) => line.id).sort()).toEqual([0, 1, 2]);
  });
});

it("what it costs (printed, not judged)", async () => {
  const started = performance.now();
  await using raw = new RawServer(server);
  await raw.initialize();
  const start = performance.now() - started;
  const timed = async (method: string, params: object, count: number): Promise<string> => {
    const times: number[] = [];
    for (let i = 0; i < count; i++) {
      const begin = performance.now();
      await new Promise<void>((resolve) => {
        raw.child.stdout.once("data", () => resolve());
        raw.send({ id: `${method}-${i}`, method, params });
      });
      times.push(performance.now() - begin);
    }
    await raw.reply(`${method}-${count - 1}`);
    return times.sort((a, b) => a - b)[Math.floor(count / 2)]?.toFixed(2) ?? "-";
  };
  console.log(
    `process start → initialize ${Math.round(start)} ms; p50: ping ${await timed("ping", {}, 500)} ms, ` +
      `exec_run that does nothing ${await timed("tools/call", run("hi"), 500)} ms, tools/list ${await timed("tools/list", {}, 100)} ms`,
  );
});
