import { describe, expect, test } from "vitest";
import { answering, execJson, framing, leaseJson, ok, scriptedGuest, unavailable } from "./scripted-guest.ts";

const view = { max_bytes: 100 };
const snapshotHeader = (segments: unknown[], exec: object = execJson) => ({ exec, segments });

describe("an answer that does not fit the protocol", () => {
  test.each([
    ["no JSON", "nope"],
    ["another shape", JSON.stringify({ claimed: "yes" })],
    ["a number beyond bounds", JSON.stringify({ ...leaseJson, ttl_remaining_ms: -1 })],
    ["nesting without end", "[".repeat(10_000)],
    ["nothing", ""],
  ])("%s", async (_name, body) => {
    const guest = scriptedGuest((stream) => {
      stream.respond(ok);
      stream.end(body);
    });
    await expect(guest.setLease({})).rejects.toMatchObject(unavailable("makes no sense"));
  });

  test.each([
    ["a terminal escape as its shell", { shell: "\u001b]0;x\u0007" }],
    ["a shell without end", { shell: "x".repeat(10_000) }],
    ["a time that is none", { started_at: "yesterday" }],
  ])("health with %s", async (_name, change) => {
    const health = {
      ...{ api: 1, version: "1", sandbox_id: "sb_1", pid: 1, started_at: "2026-11-22T01:02:03Z", uptime_ms: 1, uid: 2 },
      ...{ workdir: "/workspace", shell: "/bin/sh", arch: "amd64", state: "running", lease: leaseJson },
      ...{ facts: { oldest: 1, next: 2 }, execs: { running: 0, total: 0 } },
    };
    expect((await scriptedGuest(answering(health)).health()).sandbox_id).toBe("sb_1");
    await expect(scriptedGuest(answering({ ...health, ...change })).health()).rejects.toMatchObject(
      unavailable(Object.keys(change)[0] ?? ""),
    );
  });

  test("another version of the API names both, and is not worth a retry", async () => {
    const guest = scriptedGuest(answering(leaseJson, { ":status": 200, "guest-api": "2" }));
    await expect(guest.setLease({})).rejects.toMatchObject({
      ...unavailable('speaks version "2" of the guest API; this server speaks version 1'),
      retryable: false,
    });
    const silent = scriptedGuest(answering(leaseJson, { ":status": 200 }));
    await expect(silent.setLease({})).rejects.toMatchObject(unavailable("speaks version none"));
  });

  test("fields of tomorrow are dropped, facts of tomorrow still count", async () => {
    const lease = await scriptedGuest(answering({ ...leaseJson, extra: 1 })).setLease({});
    expect(lease).toEqual(leaseJson);
    const at = "2026-11-22T01:02:03Z";
    const facts = [
      { seq: 4, at, kind: "teleported", where: "x".repeat(1000) },
      { seq: 5, at, kind: "paused" },
    ];
    const answer = await scriptedGuest(answering({ facts, oldest: 1, next: 6 })).facts(3, 0);
    expect(answer.facts).toEqual([
      { seq: 4, at, kind: "unknown" },
      { seq: 5, at, kind: "paused", change_id: "" },
    ]);
  });

  test.each([
    ["a known fact without its fields", [{ seq: 4, kind: "exec.ended" }], 5],
    ["facts from before the cursor", [{ seq: 3, kind: "paused" }], 5],
    ["facts out of order", [{ seq: 5 }, { seq: 4 }], 6],
    ["the same fact twice", [{ seq: 4 }, { seq: 4 }], 6],
    ["facts from the future", [{ seq: 9 }], 5],
    ["more facts than a page", Array.from({ length: 257 }, (_, n) => ({ seq: n + 4 })), 500],
    [
      "a meta that is too long",
      [{ seq: 4, kind: "exec.started", exec_id: "e", tty: false, meta: "x".repeat(20_000) }],
      5,
    ],
  ])("%s", async (_name, partial, next) => {
    const facts = partial.map((fact) => ({ at: "2026-11-22T01:02:03Z", kind: "resumed", ...fact }));
    const guest = scriptedGuest(answering({ facts, oldest: 1, next }));
    await expect(guest.facts(3, 0)).rejects.toMatchObject(unavailable("makes no sense"));
  });
});

describe("a framed answer that lies", () => {
  const stdout = (from: number, len: number) => ({ stream: "stdout", from, len });
  test.each([
    ["lengths beyond the body", [stdout(0, 5)], "1234", "lengths"],
    ["a body beyond the lengths", [stdout(0, 3)], "1234", "lengths"],
    ["segments that overlap", [stdout(0, 3), stdout(2, 1)], "1234", "goes back"],
    ["five segments", Array.from({ length: 5 }, (_, n) => stdout(n, 1)), "12345", "too many"],
    ["a stream of its own making", [{ stream: "stdin", from: 0, len: 1 }], "1", "protocol"],
    ["a negative length", [stdout(0, -1)], "", "protocol"],
    ["more than was asked for", [stdout(0, 2000)], "x".repeat(2000), "more output"],
  ])("%s", async (_name, segments, bytes, why) => {
    const guest = scriptedGuest(framing(snapshotHeader(segments), bytes));
    await expect(guest.viewExec("ex_1", view)).rejects.toMatchObject(unavailable(why));
  });

  test("output from before the offset that was asked for", async () => {
    const guest = scriptedGuest(framing(snapshotHeader([stdout(4, 1)]), "x"));
    await expect(guest.viewExec("ex_1", { ...view, stdout_offset: 5 })).rejects.toMatchObject(unavailable("goes back"));
    expect((await guest.viewExec("ex_1", { ...view, stdout_offset: 4 })).segments[0]?.bytes.toString()).toBe("x");
  });

  test("the output of another exec", async () => {
    const guest = scriptedGuest(framing(snapshotHeader([], { ...execJson, exec_id: "ex_2" })));
    await expect(guest.viewExec("ex_1", view)).rejects.toMatchObject(unavailable("another exec"));
  });

  test("a header that does not end", async () => {
    const guest = scriptedGuest((stream) => {
      stream.respond(ok);
      stream.end("{".repeat(1_040_000));
    });
    await expect(guest.viewExec("ex_1", view)).rejects.toMatchObject(unavailable("header does not end"));
  });

  test("a file whose length is not that of its content", async () => {
    const file = {
      ...{ path: "a", type: "file", size_bytes: 4, mode: "0644", etag: "v1" },
      modified_at: "2026-11-22T01:02:03Z",
    };
    const header = (len: number) => ({ file, offset: 0, len, omitted: false, cut_lines: 0 });
    const read = (len: number, bytes: string, max_bytes = 10) =>
      scriptedGuest(framing(header(len), bytes)).readFile({ path: "a", max_bytes });
    expect((await read(4, "1234")).bytes.toString()).toBe("1234");
    await expect(read(5, "1234")).rejects.toMatchObject(unavailable("the length it tells"));
    await expect(read(4, "1234", 3)).rejects.toMatchObject(unavailable("longer than was asked for"));
  });
});

describe("a refusal", () => {
  const refusing = (status: number, body: unknown) =>
    scriptedGuest(answering(body, { ":status": status, "guest-api": "1" }));

  test.each([
    [404, "FILE_NOT_FOUND", "FILE_NOT_FOUND"],
    [409, "PAUSED", "SANDBOX_NOT_RUNNING"],
    [409, "ENDING", "SANDBOX_ENDED"],
    [422, "EXEC_NOT_STARTED", "EXEC_NOT_STARTED"],
    [500, "INTERNAL", "INTERNAL"],
  ])("%i %s becomes %s in our words, the guest's quoted", async (status, code, ours) => {
    const guest = refusing(status, { code, message: 'say "hi"\u001b[31m\n', errno: "ENOENT" });
    await expect(guest.stat("a\nb")).rejects.toMatchObject({
      name: "SandboxError",
      code: ours,
      message: expect.stringMatching(/^Stat of "a b" .* \("ENOENT"\): "say \\"hi\\" \[31m"$/),
    });
  });

  test.each([
    [422, "EXEC_NOT_STARTED", "cwd", /file_manage .*mkdir.*`cwd`/],
    [422, "EXEC_NOT_STARTED", "shell", /`argv`/],
    [422, "EXEC_NOT_STARTED", "constructor", /program's name/],
    [422, "FILE_INVALID", "needs_recursive", /`recursive: true`/],
    [422, "FILE_INVALID", "dir", /file_list/],
  ])("%i %s of kind %s says what to do about it", async (status, code, kind, next) => {
    const refused = refusing(status, { code, message: "no", kind }).stat("a");
    await expect(refused).rejects.toMatchObject({ code, next: expect.stringMatching(next) });
  });

  test("details may stand below `details`", async () => {
    const guest = refusing(507, { code: "LIMIT_EXCEEDED", message: "full", details: { kind: "workspace" } });
    await expect(guest.stat("a")).rejects.toMatchObject({ next: expect.stringContaining("workspace_mb") });
  });

  test.each([
    ["a code that is not the guest's to give", 403, { code: "POLICY_DENIED", message: "obey" }],
    ["a code from a prototype", 403, { code: "constructor", message: "x" }],
    ["no reason", 500, "x"],
    ["a redirect", 302, leaseJson],
  ])("%s is no sensible answer", async (_name, status, body) => {
    const refused = refusing(status, body).setLease({});
    await expect(refused).rejects.toMatchObject(unavailable(`with status ${status}`));
    await expect(refused).rejects.not.toMatchObject({ message: expect.stringContaining("obey") });
  });

  test("a long message is cut", async () => {
    const error = await refusing(500, { code: "INTERNAL", message: "x".repeat(50_000) })
      .stat("a")
      .catch((caught: Error) => caught);
    expect(error).toHaveProperty("code", "INTERNAL");
    expect(String(error).length).toBeLessThan(500);
  });
});
