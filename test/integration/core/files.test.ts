import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import type { Call } from "../../../src/sandbox/api.ts";
import type { Guest } from "../../../src/sandbox/guest/types.ts";
import { call, entries, type TestProcess, told, World } from "../../support/core.ts";

type Worker = Awaited<ReturnType<typeof worker>>;

async function worker(options: ConstructorParameters<typeof World>[0] = {}) {
  const process = await new World(options).process();
  const id = await process.create();
  const read = async (file: string) => (await process.service.fileRead(id, { path: file }, call)).content;
  const write = (file: string, content: string) => process.service.fileWrite(id, [{ path: file, content }], call);
  return { ...process, id, read, write };
}

/** Does something whenever the server calls this method of the sandbox's guest, before or instead of it. */
async function spy<M extends "writeFiles" | "manageFiles" | "getTar">(
  { core }: TestProcess,
  id: string,
  method: M,
  wrap: (original: Guest[M]) => Guest[M],
): Promise<void> {
  const guest = await core.connections.guest(id, call.signal);
  // A bound method is of the type it had.
  guest[method] = wrap(guest[method].bind(guest) as Guest[M]);
}

const edit = (old_string: string, new_string: string) => ({ path: "f", edits: [{ old_string, new_string }] });

describe("an edit", () => {
  test("is made again, once, on what another wrote meanwhile", async () => {
    const at = await worker();
    await at.write("f", "one\n");
    let others = 1;
    await spy(at, at.id, "writeFiles", (write) => async (files, ...rest) => {
      if (others-- > 0) await write([{ path: "f", bytes: Buffer.from("zero\none\n") }]);
      return write(files, ...rest);
    });
    expect(await at.service.fileEdit(at.id, edit("one", "two"), call)).toMatchObject({ replacements: 1 });
    expect(await at.read("f")).toBe("zero\ntwo\n");
  });

  test("gives up on a file that keeps changing", async () => {
    const at = await worker();
    await at.write("f", "one\n");
    let n = 0;
    await spy(at, at.id, "writeFiles", (write) => async (files, ...rest) => {
      await write([{ path: "f", bytes: Buffer.from(`one ${n++}\n`) }]);
      return write(files, ...rest);
    });
    await expect(at.service.fileEdit(at.id, edit("one", "two"), call)).rejects.toMatchObject({ code: "FILE_CONFLICT" });
    expect(n).toBe(2);
    expect(await at.read("f")).toBe("one 1\n");
  });

  test.each([
    ["the connection broke", "GUEST_UNAVAILABLE", (at: Worker) => at.backend.dropConnections(at.id)],
    [
      "the engine went away",
      "BACKEND_UNAVAILABLE",
      () => {
        throw new SandboxError("BACKEND_UNAVAILABLE", "The engine does not answer.");
      },
    ],
  ])("whose answer got lost as %s is not repeated, and says so", async (_why, code, lose) => {
    const at = await worker();
    await at.write("f", "one\n");
    let writes = 0;
    await spy(at, at.id, "writeFiles", (write) => async (files, ...rest) => {
      writes++;
      await write(files, ...rest);
      lose(at);
      return write(files, ...rest);
    });
    await expect(at.service.fileEdit(at.id, edit("one", "two"), call)).rejects.toMatchObject({
      code,
      message: expect.stringContaining("is not known"),
      retryable: false,
    });
    expect(writes).toBe(1);
    expect(await at.read("f")).toBe("two\n");
  });
});

test("changes of files are told, a move as two", async () => {
  const at = await worker();
  await at.write("f", "one\n");
  await at.service.fileEdit(at.id, edit("one", "three"), call);
  await at.service.fileManage(at.id, { op: "mkdir", path: "d" }, call);
  await at.service.fileManage(at.id, { op: "move", path: "f", dest: "d/g" }, call);
  await at.service.fileManage(at.id, { op: "copy", path: "d/g", dest: "h" }, call);
  await at.service.fileManage(at.id, { op: "delete", path: "h" }, call);
  await at.service[Symbol.asyncDispose]();
  const changes = told(at.store, at.id, "file.changed").flatMap(({ changes: list }) => list);
  expect(changes).toEqual([
    { path: "f", op: "create", size_bytes: 4 },
    { path: "f", op: "delete", size_bytes: null },
    { path: "d", op: "mkdir", size_bytes: null },
    { path: "d/g", op: "move", size_bytes: null },
    { path: "h", op: "delete", size_bytes: null },
  ]);
});

describe("transfers", () => {
  async function open() {
    const base = realpathSync(mkdtempSync(path.join(tmpdir(), "chorus-core-host-")));
    onTestFinished(() => rmSync(base, { recursive: true, force: true }));
    mkdirSync(path.join(base, "in/sub"), { recursive: true });
    writeFileSync(path.join(base, "in/a"), "a");
    writeFileSync(path.join(base, "in/sub/b"), "bb");
    const at = await worker({ hostDirs: [{ path: base, mode: "rw" }] });
    return { ...at, base };
  }

  test("are told with what they moved, and by whom", async () => {
    const { service, store, id, base, read } = await open();
    const messages: string[] = [];
    const asking: Call = { ...call, progress: (message) => messages.push(message) };
    await service.fileUpload(id, { host_path: path.join(base, "in"), path: "t" }, asking);
    expect(await read("t/sub/b")).toBe("bb");
    await service.fileDownload(id, { host_path: path.join(base, "out"), path: "t" }, asking);
    expect(readFileSync(path.join(base, "out/sub/b"), "utf8")).toBe("bb");
    expect(told(store, id, "file.transferred")).toMatchObject([
      { direction: "upload", host_path: path.join(base, "in"), path: "t", files: 2, bytes: 3, refused: 0 },
      { direction: "download", host_path: path.join(base, "out"), files: 2, actor: { client: "tests/1" } },
    ]);
    expect(messages.at(-1)).toMatch(/^2 files, 0\.0 MiB$/);
  });

  test("refused by the policy are told, and touch neither side", async () => {
    const { service, store, id } = await open();
    for (const host_path of ["/etc/passwd", "/"]) {
      const refusal = { code: "POLICY_DENIED" };
      await expect(service.fileUpload(id, { host_path, path: "x" }, call)).rejects.toMatchObject(refusal);
      await expect(service.fileDownload(id, { host_path, path: "." }, call)).rejects.toMatchObject(refusal);
    }
    expect(told(store, id, "policy.denied")).toHaveLength(4);
    expect(told(store, id, "file.transferred")).toEqual([]);
    await expect(service.fileRead(id, { path: "x" }, call)).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
  });

  test("of what is not there make nothing on the host", async () => {
    const { service, id, base } = await open();
    const wanted = { host_path: path.join(base, "new/deep"), path: "none" };
    await expect(service.fileDownload(id, wanted, call)).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
    expect(() => readFileSync(path.join(base, "new"))).toThrow(/ENOENT/);
    await expect(service.fileUpload(id, { host_path: path.join(base, "none"), path: "x" }, call)).rejects.toMatchObject(
      { code: "FILE_NOT_FOUND" },
    );
  });

  test("that break off leave no half file, and are not told", async () => {
    const at = await open();
    await at.write("t/whole", "whole");
    // More than what may be under way at once.
    await at.write("t/x", "x".repeat(6_000_000));
    await spy(at, at.id, "getTar", (get) => (request, leftOut, signal) => {
      const source = get(request, leftOut, signal);
      return (async function* () {
        let bytes = 0;
        for await (const piece of source) {
          bytes += piece.length;
          if (bytes > 100_000) at.backend.dropConnections(at.id);
          yield piece;
        }
      })();
    });
    const out = path.join(at.base, "out");
    await expect(at.service.fileDownload(at.id, { host_path: out, path: "t" }, call)).rejects.toMatchObject({
      code: "GUEST_UNAVAILABLE",
    });
    expect(() => readFileSync(path.join(out, "x"))).toThrow(/ENOENT/);
    expect(readFileSync(path.join(out, "whole"), "utf8")).toBe("whole");
    expect(entries(at.store, at.id).map(({ type }) => type)).not.toContain("file.transferred");
  });

  test("stop when they are cancelled", async () => {
    const { service, id, base, write } = await open();
    await write("x", "x".repeat(2_000_000));
    const stop = new AbortController();
    const asking: Call = { ...call, signal: stop.signal, progress: () => stop.abort() };
    await expect(
      service.fileDownload(id, { host_path: path.join(base, "x"), path: "x" }, asking),
    ).rejects.toMatchObject({ code: "ABORTED" });
    expect(() => readFileSync(path.join(base, "x"))).toThrow(/ENOENT/);
  });
});
