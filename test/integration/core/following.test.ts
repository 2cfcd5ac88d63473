import { expect, it, vi } from "vitest";
import { progressText } from "../../../src/sandbox/follow.ts";
import { call, ex, fakeOf, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

async function sandbox() {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  return { world, process, service: process.service, id, guest: fakeOf(world.engine, id).guest };
}

it("reports what is printed while a call waits, and asks nothing more when nobody listens", async () => {
  const { process, service, id, guest } = await sandbox();
  await process.exec(id, "true");
  const session = process.core.connections.peek(id);
  if (!session) throw new Error("no session");
  const views = vi.spyOn(session, "viewExec");
  const command = "cat";
  const quiet = service.execRun(id, { command, keep_stdin: true, wait_s: 20 }, call);
  await eventually("it runs", () => guest.runningExecs === 1);
  const ids = () => [...guest.execs.values()].filter(({ running }) => running).map((exec) => exec.id);
  await service.execInput(id, ids()[0] ?? "", { data: "unheard\n", eof: true }, call);
  expect(await quiet).toMatchObject({ stdout: "unheard\n" });
  expect(views).not.toHaveBeenCalled();

  const heard: string[] = [];
  const progress = (message: string) => heard.push(message);
  const loud = service.execRun(id, { command, keep_stdin: true, wait_s: 20 }, { ...call, progress });
  await eventually("it runs", () => guest.runningExecs === 1);
  const [execId = ""] = ids();
  await service.execInput(id, execId, { data: "one\n" }, call);
  await eventually("the first is heard", () => heard.includes("one"));
  const watch = service.execOutput(id, execId, { stdout_offset: 4, wait_s: 20 }, { ...call, progress });
  await service.execInput(id, execId, { data: "\u001b[1mtwo\u001b[0m\n" }, call);
  await eventually("both waits tell of the second", () => heard.filter((message) => message === "two").length === 2);
  await service.execInput(id, execId, { eof: true }, call);
  expect(await watch).toMatchObject({ status: "exited", stdout: "\u001b[1mtwo\u001b[0m\n" });
  await loud;
  const asked = views.mock.calls.length;
  await process.exec(id, "sleep 0.4");
  expect(views).toHaveBeenCalledTimes(asked);
});

it.each([
  ["plain\ntext\n", "plain\ntext"],
  ["\u001b[32mgreen\u001b[0m \u001b]0;title\u0007on", "green on"],
  ["10 %\r50 %\r100 %\r\ndone", "100 %\ndone"],
  ["a\u202eb\u0000c", "abc"],
])("progress shows %j as %j", (printed, shown) => {
  const segments = [{ stream: "stdout" as const, from: 0, bytes: Buffer.from(printed) }];
  // Only the segments count for the text.
  const snapshot = { segments } as unknown as Parameters<typeof progressText>[0];
  expect(progressText(snapshot, { stdout: 0, stderr: 0 })).toBe(shown);
});

it("feeds stdin that is too long for a start, and says so when the connection breaks meanwhile", async () => {
  const { world, service, id, guest } = await sandbox();
  const stdin = "0123456789".repeat(200_000);
  const copy = await service.execRun(id, { command: "cat", stdin, max_output_bytes: 256 }, call);
  expect(copy).toMatchObject({ status: "exited", stdout_bytes: stdin.length });
  const broken = service.execRun(id, { command: "sleep 600", stdin, wait_s: 20 }, call);
  await eventually("it runs", () => guest.runningExecs === 1);
  world.engine.dropConnections(id);
  await expect(broken).rejects.toMatchObject({
    code: "GUEST_UNAVAILABLE",
    message: expect.stringContaining("not known"),
    next: expect.stringContaining("exec_kill"),
  });
});

it("tells of an exec what is still known: forgotten by the guest, or gone with its sandbox", async () => {
  const { process, service, id, guest } = await sandbox();
  const old = await process.exec(id, "echo old; exit 3");
  const open = await service.execRun(id, { command: "echo part; sleep 600", until: "output" }, call);
  expect(open).toMatchObject({ status: "running", stdout: "part\n" });
  guest.execs.delete(old.exec_id);
  for (const use of [
    service.execOutput(id, old.exec_id, {}, call),
    service.execKill(id, old.exec_id, {}, call),
    service.execInput(id, old.exec_id, { data: "x" }, call),
  ]) {
    await expect(use).rejects.toMatchObject({
      code: "EXEC_NOT_FOUND",
      message: expect.stringMatching(/exit code 3, and its output is no longer kept/),
    });
  }
  const waiting = service.execOutput(id, open.exec_id, { stdout_offset: 2, wait_s: 20 }, call);
  guest.vanish();
  guest.options.exit(137);
  expect(await waiting).toMatchObject({ status: "lost", stdout: "", notes: [expect.stringContaining("has ended")] });
  expect(await service.execOutput(id, old.exec_id, { stdout_offset: 1 }, call)).toMatchObject({
    status: "exited",
    exit_code: 3,
    stdout_next: 4,
    omitted: [{ stream: "stdout", from: 1, to: 4, recoverable: false }],
  });
  await expect(service.execOutput(id, "ex_none", {}, call)).rejects.toMatchObject({ code: "EXEC_NOT_FOUND" });
});

it("lists what another process started a moment ago", async () => {
  const { process, service, id, guest } = await sandbox();
  const unheard = guest.start(ex(process, "unheard"), { command: "sleep 600" });
  const { execs } = await service.execList(id, call);
  expect(execs).toMatchObject([{ exec_id: unheard.id, status: "running", stdout_bytes: 0 }]);
  expect(process.store.openExecs(id)).toHaveLength(1);
});
