import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import type { SandboxService } from "../../../src/sandbox/service.ts";
import { call, gate, World } from "../../support/core.ts";

/** What each tool answers in each state: `ok`, or the error's code. docs/security.md has the same table. */
const states = ["creating", "running", "paused", "ended", "failed"] as const;
type State = (typeof states)[number];
const notRunning = "SANDBOX_NOT_RUNNING";
const over = "SANDBOX_ENDED";

const table: Record<string, Record<State, string>> = {
  sandbox_get: row("ok", "ok", "ok", "ok", "ok"),
  sandbox_update: row(notRunning, "ok", "ok", over, over),
  "sandbox_update labels": row("ok", "ok", "ok", over, over),
  sandbox_stats: row(notRunning, "ok", "ok", over, over),
  sandbox_events: row("ok", "ok", "ok", "ok", "ok"),
  exec_run: row(notRunning, "ok", notRunning, over, over),
  exec_output: row(notRunning, "ok", "ok", "ok", "EXEC_NOT_FOUND"),
  exec_input: row(notRunning, "ok", notRunning, over, over),
  exec_kill: row(notRunning, "ok", "ok", over, over),
  exec_list: row("ok", "ok", "ok", "ok", "ok"),
  file_read: row(notRunning, "ok", "ok", over, over),
  file_list: row(notRunning, "ok", "ok", over, over),
  file_search: row(notRunning, "ok", "ok", over, over),
  file_write: row(notRunning, "ok", notRunning, over, over),
  file_edit: row(notRunning, "ok", notRunning, over, over),
  file_manage: row(notRunning, "ok", notRunning, over, over),
  file_upload: row(notRunning, "ok", notRunning, over, over),
  file_download: row(notRunning, "ok", "ok", over, over),
  sandbox_destroy: row("ok", "ok", "ok", "ok", "ok"),
};

function row(...codes: [string, string, string, string, string]): Record<State, string> {
  const [creating, running, paused, ended, failed] = codes;
  return { creating, running, paused, ended, failed };
}

type Use = (service: SandboxService, id: string, exec: string, open: string) => Promise<unknown>;
const uses: Record<string, Use> = {
  sandbox_get: (service, id) => service.get(id, {}, call),
  sandbox_update: (service, id) => service.update(id, { ttl_s: 1000 }, call),
  "sandbox_update labels": (service, id) => service.update(id, { labels: { a: "b" } }, call),
  sandbox_stats: (service, id) => service.stats(id, call),
  sandbox_events: (service, id) => service.events({ sandbox_id: id }, call),
  exec_run: (service, id) => service.execRun(id, { command: "true" }, call),
  exec_output: (service, id, exec) => service.execOutput(id, exec, {}, call),
  exec_input: (service, id, exec) => service.execInput(id, exec, { data: "x" }, call),
  exec_kill: (service, id, exec) => service.execKill(id, exec, {}, call),
  exec_list: (service, id) => service.execList(id, call),
  file_read: (service, id) => service.fileRead(id, { path: "a" }, call),
  file_list: (service, id) => service.fileList(id, {}, call),
  file_search: (service, id) => service.fileSearch(id, { pattern: "a" }, call),
  file_write: (service, id) => service.fileWrite(id, [{ path: "b", content: "b" }], call),
  file_edit: (service, id) => service.fileEdit(id, { path: "a", edits: [{ old_string: "a", new_string: "b" }] }, call),
  file_manage: (service, id) => service.fileManage(id, { op: "mkdir", path: "d" }, call),
  file_upload: (service, id, _exec, open) => service.fileUpload(id, { host_path: `${open}/up`, path: "up" }, call),
  file_download: (service, id, _exec, open) => service.fileDownload(id, { host_path: `${open}/got`, path: "a" }, call),
  sandbox_destroy: (service, id) => service.destroy(id, call),
};

/** A sandbox that has come to this state by itself, with a command in it as far as it lived. */
async function sandboxThatIs(state: State) {
  const open = await realpath(await mkdtemp(path.join(tmpdir(), "chorus-states-")));
  onTestFinished(() => rm(open, { recursive: true, force: true }));
  await writeFile(path.join(open, "up"), "up");
  const world = new World({ hostDirs: [{ path: open, mode: "rw" }] });
  const { service, backend } = await world.process();
  const held = gate();
  onTestFinished(held.open);
  if (state === "creating") backend.hooks.create = () => held.opened;
  if (state === "failed")
    backend.hooks.create = () => {
      throw new SandboxError("INTERNAL", "no such luck");
    };
  const created = await service.create({ wait_s: state === "creating" ? 0 : 30 }, call).catch(() => undefined);
  const id = created?.sandbox_id ?? (await service.list({ include_ended: true }, call)).sandboxes[0]?.sandbox_id ?? "";
  let exec = "ex_none";
  if (state !== "creating" && state !== "failed") {
    await service.fileWrite(id, [{ path: "a", content: "a" }], call);
    exec = (await service.execRun(id, { command: "cat", keep_stdin: true, wait_s: 0 }, call)).exec_id;
    if (state === "paused") await service.update(id, { paused: true }, call);
    if (state === "ended") await service.destroy(id, call);
  }
  return { service, id, exec, open, held };
}

it("the table knows every tool that takes a sandbox", () => {
  expect(Object.keys(uses)).toEqual(Object.keys(table));
});

it.each(states.flatMap((state) => Object.keys(table).map((tool) => [tool, state] as const)))(
  "%s of one that is %s",
  async (tool, state) => {
    const { service, id, exec, open, held } = await sandboxThatIs(state);
    const use = uses[tool];
    if (use === undefined) throw new Error(`no use of ${tool}`);
    const work = use(service, id, exec, open);
    // Destroying stops a creation; here that hangs in the engine until it lets go.
    if (tool === "sandbox_destroy") held.open();
    const answer = await work.then(
      () => ({ code: "ok", next: "" }),
      (error: SandboxError) => error,
    );
    expect(answer.code).toBe(table[tool]?.[state]);
    if (answer.code === notRunning)
      expect(answer.next).toMatch(state === "paused" ? /sandbox_update.*"paused":false/ : /sandbox_get/);
  },
);
