#!/usr/bin/env node
// @ts-check
/**
 * The main job, on real parts: an MCP client starts the server over stdio, as Claude would, and works in a sandbox, while a second
 * process prints the events that arrive on NATS.
 *
 *   npm run demo
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { bootstrap } from "./bootstrap.mjs";
import * as screen from "./demo/screen.mjs";
import { onExit } from "./lib/cleanup.mjs";
import { cli } from "./lib/cli.mjs";
import { ROOT } from "./lib/repository.mjs";

const EVENTS_SHOWN_WITHIN_MS = 40;

const PRIMES = `import sys, time

def primes(limit):
    sieve = bytearray([1]) * (limit + 1)
    for n in range(2, int(limit ** 0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit + 1, n)))
    return [n for n in range(2, limit + 1) if sieve[n]]

if __name__ == "__main__":
    started = time.perf_counter()
    found = primes(int(sys.argv[1]))
    print(f"{len(found)} primes up to {sys.argv[1]}, the last is {found[-1]}")
    print(f"took {time.perf_counter() - started:.3f} s", file=sys.stderr)
`;

const TEST = `from primes import primes

def test_small():
    assert primes(20) == [2, 3, 5, 7, 11, 13, 17, 19]

def test_wrong_on_purpose():
    assert len(primes(100)) == 24
`;

const ATTACK = `id -u; echo "capabilities: $(grep CapEff /proc/self/status | cut -f2)"
kill -9 1
echo x > /etc/passwd
mount -t tmpfs none /mnt
python3 -c 'import urllib.request as u; u.urlopen("http://example.org", timeout=3)' 2>&1 | tail -1`;

async function main() {
  const { env, engine } = await bootstrap();
  const dataDir = mkdtempSync(join(tmpdir(), "chorus-demo-"));
  onExit("demo data", () => rmSync(dataDir, { recursive: true, force: true }));

  const watcher = startWatcher(env);
  const client = await connectClient({
    ...env,
    CHORUS_SANDBOX_DATA_DIR: dataDir,
    CHORUS_SANDBOX_POOL: "0",
    LOG_LEVEL: "warn",
  });

  screen.title("An agent makes a sandbox and works in it");
  /** @type {(tool: string, args: Record<string, unknown>) => Promise<Record<string, unknown>>} */
  const call = async (tool, args) => {
    screen.asked(tool, args);
    const started = performance.now();
    const result = await client.callTool({ name: tool, arguments: args });
    const ms = performance.now() - started;
    const content = Array.isArray(result.content) ? result.content[0] : undefined;
    const text = content?.type === "text" ? content.text : "";
    screen.answered(text, ms, result.isError === true);
    if (result.isError) throw new Error(`${tool} failed: ${text}`);
    // Its events are a few milliseconds behind: shown here, they stand below what caused them.
    await setTimeout(EVENTS_SHOWN_WITHIN_MS);
    return /** @type {Record<string, unknown>} */ (result.structuredContent);
  };

  const sandbox = await call("sandbox_create", { name: "demo", labels: { purpose: "demo" } });
  const sandbox_id = sandbox["sandbox_id"];
  await call("file_write", {
    sandbox_id: "demo",
    files: [
      { path: "primes.py", content: PRIMES },
      { path: "test_primes.py", content: TEST },
    ],
  });
  await call("exec_run", { sandbox_id: "demo", command: "python3 primes.py 1000000" });
  await call("exec_run", { sandbox_id: "demo", command: "python3 -m pytest -q 2>&1 | tail -12" });
  await call("file_read", { sandbox_id: "demo", path: "primes.py", line_start: 3, line_end: 8, line_numbers: true });

  screen.title("A server in the background, asked by a second command");
  const server = await call("exec_run", { sandbox_id: "demo", command: "python3 -m http.server 8000", wait_s: 0 });
  await call("exec_run", {
    sandbox_id: "demo",
    command: "for i in $(seq 50); do curl -sf 127.0.0.1:8000/primes.py && break; sleep 0.1; done | head -3",
  });
  await call("exec_kill", { sandbox_id: "demo", exec_id: server["exec_id"] });

  screen.title("Hostile code stays inside");
  await call("exec_run", { sandbox_id: "demo", command: ATTACK });

  screen.title("What it used, and its end");
  await call("sandbox_stats", { sandbox_id: "demo" });
  await call("sandbox_destroy", { sandbox_id: "demo" });
  const { events } = await call("sandbox_events", { sandbox_id, after: "start", limit: 200 });

  const expected = /** @type {unknown[]} */ (events).length;
  const seen = await watcher.count(expected, 10_000);
  screen.title("Both sides agree");
  screen.say(
    `  ${expected} events in the server's journal, ${seen} read from JetStream by the other process, in order.`,
  );
  await client.close();
  await watcher.stop();
  howToConnect(engine.isPrivate);
  return seen === expected ? 0 : 1;
}

/** @param {Record<string, string>} env */
async function connectClient(env) {
  // Only now is node_modules sure to be there.
  const { Client } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  const { command, args } = JSON.parse(readFileSync(join(ROOT, "mcp.json"), "utf8")).mcpServers["chorus-sandbox"];
  const started = performance.now();
  const client = new Client({ name: "demo", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  await client.connect(
    new StdioClientTransport({ command, args, cwd: ROOT, env: { ...strings(process.env), ...env }, stderr: "inherit" }),
  );
  const { tools } = await client.listTools();
  screen.title("An MCP client starts the server over stdio");
  screen.say(
    `  ${command} ${args.join(" ")} answered after ${Math.round(performance.now() - started)} ms with ${tools.length} tools`,
  );
  return client;
}

/** @param {Record<string, string>} env */
function startWatcher(env) {
  const child = spawn(process.execPath, [join(ROOT, "scripts/demo/watch-events.mjs")], {
    env: { ...process.env, ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  onExit("event watcher", () => void child.kill());
  let seen = 0;
  /** @type {(() => void)[]} */
  const waiting = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { event, subject, at } = JSON.parse(line);
    screen.heard({ ...event, subject }, Math.max(0, at - Date.parse(event.time)));
    if (event.sequence) seen++;
    for (const wake of waiting.splice(0)) wake();
  });
  return {
    /** @param {number} wanted @param {number} ms */
    async count(wanted, ms) {
      const deadline = AbortSignal.timeout(ms);
      while (seen < wanted && !deadline.aborted) {
        await new Promise((resolve) => {
          waiting.push(() => resolve(undefined));
          deadline.addEventListener("abort", () => resolve(undefined), { once: true });
        });
      }
      return seen;
    },
    async stop() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.stdin.end();
      await ended;
    },
  };
}

/** @param {boolean} ownEngine whether the engine was started for the demo */
function howToConnect(ownEngine) {
  screen.title("Connect your own agent");
  screen.say(`  Claude Code     claude mcp add chorus-sandbox -- node ${join(ROOT, "dist/main.js")}
  Claude Desktop  Settings → Developer → Edit Config, and put in what mcp.json has, with the absolute path:
                  {"mcpServers": {"chorus-sandbox": {"command": "node", "args": ["${join(ROOT, "dist/main.js")}"]}}}
  Events          set NATS_URL in the server's environment; subjects and recipes are in docs/events.md
`);
  if (ownEngine)
    screen.say(
      "  The demo's private engine stops now. With Docker or Podman running, the server finds it by itself.\n",
    );
}

/** @param {NodeJS.ProcessEnv} env @returns {Record<string, string>} */
function strings(env) {
  return Object.fromEntries(Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));
}

await cli(main);
