import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createUser } from "@nats-io/nkeys";
import { afterEach, expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { eventually } from "../../support/eventually.ts";
import { again, crash, documentedPermissions, relaying } from "../../support/nats.ts";
import { MemoryJournal } from "../../support/nats-journal.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const resource of open.splice(0).reverse()) await resource[Symbol.asyncDispose]();
});

async function start(to: string | Record<string, string>, name: string, ...args: string[]) {
  const script = fileURLToPath(new URL(`../../../examples/${name}.mjs`, import.meta.url));
  const child = spawn(process.execPath, [script, ...args], {
    env: { ...process.env, ...(typeof to === "string" ? { NATS_URL: to } : to) },
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk) => {
    out += chunk;
  });
  child.stderr.on("data", (chunk) => {
    err += chunk;
  });
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const end = (signal: NodeJS.Signals) => {
    child.kill(signal);
    return exited;
  };
  open.push({
    [Symbol.asyncDispose]: async () => {
      await end("SIGKILL");
    },
  });
  await eventually(`${name} is ready`, () => {
    if (child.exitCode !== null) throw new Error(err);
    return err.includes("\n");
  });
  return { lines: () => out.split("\n").filter(Boolean), said: () => err, end };
}

async function setUp() {
  const server = await startNats();
  open.push(server);
  const journal = new MemoryJournal();
  const { relay } = relaying(server.url, journal);
  open.push(relay);
  await eventually("it relays", () => relay.status().state === "relaying");
  return { server, journal, relay };
}

it("tail-sandbox follows one sandbox or all", async () => {
  const { server, journal } = await setUp();
  const all = await start(server.url, "tail-sandbox");
  const one = await start(server.url, "tail-sandbox", "sb_2");
  journal.emit("sb_1");
  journal.emit("sb_2");
  await eventually("all are heard", () => all.lines().length === 2);
  await eventually("the one is heard", () => one.lines().length === 1);
  expect(one.lines()[0]).toMatch(
    /^\S+Z {2}sb_2 {2}exec\.started {2}\{"exec_id":"ex_1","command":"true","cwd":"\/workspace","tty":false\}$/,
  );
  expect(await all.end("SIGTERM")).toBe(0);
});

it("alert-on-oom speaks of nothing else", async () => {
  const { server, journal } = await setUp();
  const { lines, end } = await start(server.url, "alert-on-oom");
  journal.emit("sb_1", { type: "exec.completed" });
  journal.emit("sb_1", { type: "limit.oom", data: { limit: 512 * 2 ** 20 } });
  journal.emit("sb_1", { type: "exec.completed", data: { status: "oom_killed", command: "make" } });
  await eventually("both are told", () => lines().length === 2);
  expect(lines().sort()).toEqual([
    "OOM in sb_1 of default: limit 512 MiB, in ex_1",
    "OOM killed in sb_1 of default: make",
  ]);
  expect(await end("SIGTERM")).toBe(0);
});

it("a tenant follows its own with the documented rights, from before there is a stream, past a server that is down", async () => {
  const server = await startNats({ config: documentedPermissions() });
  open.push(server);
  const folder = mkdtempSync(join(tmpdir(), "chorus-example-"));
  const file = join(folder, "ledger");
  const ledger = () => (existsSync(file) ? readFileSync(file, "utf8").split("\n").filter(Boolean) : []);
  const { host } = new URL(server.url);
  const login = { NATS_URL: `127.0.0.1:1, ${host}`, NATS_USER: "acme", NATS_PASSWORD: "s" };
  const tail = await start(login, "tail-sandbox", "*", "acme");
  const own = ["acme-exec", "chorus.sandbox.v1.*.acme.*.exec.*"];
  const consumer = await start(`nats://acme:s@127.0.0.1:1,${host}`, "durable-consumer", file, ...own);
  expect(consumer.said()).toContain("waiting for the stream CHORUS_SANDBOX_EVENTS: ");

  const journal = new MemoryJournal();
  open.push(relaying({ servers: [server.url], user: "sandbox-host", password: "s" }, journal));
  journal.emit("sb_1", { tenant: "other" });
  journal.emit("sb_2", { tenant: "acme" });
  await eventually("its own is handled", () => ledger().length > 0);
  await eventually("its own is heard", () => tail.lines().length > 0);
  expect([...ledger(), ...tail.lines()].filter((line) => !line.includes("sb_2"))).toEqual([]);
  expect(consumer.said().match(/waiting/g)).toHaveLength(1);
  expect(await consumer.end("SIGTERM")).toBe(0);
  rmSync(folder, { recursive: true });
});

it("a credentials file is a login", async () => {
  const folder = mkdtempSync(join(tmpdir(), "chorus-example-"));
  const creds = join(folder, "user.creds");
  const user = createUser();
  const seed = Buffer.from(user.getSeed()).toString();
  writeFileSync(
    creds,
    `-----BEGIN NATS USER JWT-----\nnone\n------END NATS USER JWT------\n\n` +
      `-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`,
  );
  // A server without operators looks at the key only.
  const server = await startNats({ config: `authorization { users = [ { nkey: ${user.getPublicKey()} } ] }` });
  open.push(server);
  const { said } = await start({ NATS_URL: server.url, NATS_CREDS: creds }, "alert-on-oom");
  expect(said()).toContain("watching");
  rmSync(folder, { recursive: true });
});

it("durable-consumer handles each event once, in order, over its own death and that of NATS", async () => {
  const { server, journal, relay } = await setUp();
  const folder = mkdtempSync(join(tmpdir(), "chorus-example-"));
  const file = join(folder, "ledger");
  const entries = () =>
    readFileSync(file, "utf8")
      .split("\n")
      // The last one may still be written.
      .slice(0, -1)
      .map((line) => ({ id: line.slice(0, line.indexOf(" ")), ...JSON.parse(line.slice(line.indexOf(" "))) }));
  const tell = (count: number) => {
    for (let n = 0; n < count; n += 1) for (const sandbox of ["sb_1", "sb_2"]) journal.emit(sandbox);
  };

  tell(100);
  let consumer = await start(server.url, "durable-consumer", file);
  await eventually("some are handled", () => entries().length > 20);
  await consumer.end("SIGKILL");
  tell(100);
  consumer = await start(server.url, "durable-consumer", file);
  await eventually("more are handled", () => entries().length > 220);
  await crash(server);
  open.push(await again(server));
  tell(100);

  await eventually("all are handled", () => entries().length >= 600 && relay.status().behind === 0, 150_000);
  expect(new Set(entries().map(({ id }) => id)).size).toBe(600);
  for (const sandbox of ["sb_1", "sb_2"]) {
    const sequences = entries().filter((entry) => entry.sandbox === sandbox);
    expect(sequences.map(({ sequence }) => Number(sequence))).toEqual(Array.from({ length: 300 }, (_, n) => n + 1));
  }
  expect(await consumer.end("SIGTERM")).toBe(0);
  rmSync(folder, { recursive: true });
}, 200_000);
