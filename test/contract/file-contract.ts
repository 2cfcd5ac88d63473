import { beforeEach, expect, test } from "vitest";
import type { Guest } from "../../src/sandbox/guest/types.ts";
import { archiveEnd, padding, tarHeader } from "../../src/sandbox/host/tar-format.ts";
import { TarReader } from "../../src/sandbox/host/tar-reader.ts";
import { newExecId } from "../../src/sandbox/ids.ts";
import type { ContractHouse } from "./house.ts";

/** What a guest does with files, seen through a session. */
export function fileContract(house: () => ContractHouse): void {
  let guest: Guest;
  beforeEach(async () => {
    ({ guest } = await house().sandbox());
  });

  const write = (path: string, content: string, more: { mode?: string; if_match?: string } = {}) =>
    guest.writeFiles([{ path, bytes: Buffer.from(content), ...more }]).then(({ files }) => files);

  test("what was written is read, by commands as well", async () => {
    const [written] = await write("dir/sub/a.txt", "hällo\n");
    expect(written).toMatchObject({ size_bytes: 7, created: true });
    const read = await guest.readFile({ path: "/workspace/dir/sub/a.txt", max_bytes: 1000 });
    expect(read.bytes.toString()).toBe("hällo\n");
    expect(read).toMatchObject({
      offset: 0,
      omitted: false,
      file: { type: "file", size_bytes: 7, etag: written?.etag },
    });
    const { segments } = await guest.startExec(
      newExecId("tests", 0),
      { argv: ["cat", "dir/sub/a.txt"] },
      { wait_ms: 20_000 },
    );
    expect(String(segments[0]?.bytes)).toBe("hällo\n");
  });

  test("commands' files are read, with their bytes as they are", async () => {
    await guest.startExec(newExecId("tests", 0), { command: "printf '\\001\\177x' > made" }, { wait_ms: 20_000 });
    const { bytes } = await guest.readFile({ path: "made", max_bytes: 10 });
    expect([...bytes]).toEqual([1, 127, 120]);
  });

  test("several MiB go there and back", async () => {
    const bytes = Buffer.alloc(6 * 1024 * 1024, Buffer.from("0123456789abcdef\n"));
    await guest.writeFiles([
      { path: "big", bytes },
      { path: "small", bytes: Buffer.from("s") },
    ]);
    const back: Buffer[] = [];
    for (let offset = 0; offset < bytes.length; ) {
      const part = await guest.readFile({ path: "big", offset, max_bytes: 1024 * 1024 });
      expect(part.offset).toBe(offset);
      back.push(part.bytes);
      offset += part.bytes.length;
      expect(part.next_offset).toBe(offset < bytes.length ? offset : undefined);
    }
    expect(Buffer.concat(back).equals(bytes)).toBe(true);
    expect((await guest.readFile({ path: "small", max_bytes: 5 })).bytes.toString()).toBe("s");
  });

  test("lines are read by number", async () => {
    await write("lines", "one\ntwo\nthree\nfour\n");
    const middle = await guest.readFile({ path: "lines", line_start: 2, line_end: 3, max_bytes: 1000 });
    expect(middle.bytes.toString()).toBe("two\nthree\n");
    expect(middle).toMatchObject({ line_start: 2, line_end: 3, total_lines: 4, next_line: 4 });
    const end = await guest.readFile({ path: "lines", line_start: 4, max_bytes: 1000 });
    expect(end.bytes.toString()).toBe("four\n");
    expect(end.next_line).toBeUndefined();
    const behind = guest.readFile({ path: "lines", line_start: 5, max_bytes: 1000 });
    await expect(behind).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("what was asked for and is not there is said, and nothing else is", async () => {
    await write("lines", "one\ntwo\nthree\n");
    const omitted = async (request: { line_start?: number; line_end?: number; offset?: number }, max_bytes = 1000) =>
      (await guest.readFile({ path: "lines", max_bytes, ...request })).omitted;
    expect(await omitted({ line_start: 2, line_end: 2 })).toBe(false);
    expect(await omitted({ line_start: 3, line_end: 99 })).toBe(false);
    expect(await omitted({ line_start: 2 })).toBe(false);
    expect(await omitted({ offset: 4 })).toBe(false);
    expect(await omitted({ line_start: 1 }, 8)).toBe(true);
    expect(await omitted({ line_start: 1, line_end: 2 }, 8)).toBe(false);
    expect(await omitted({ line_start: 1, line_end: 3 }, 8)).toBe(true);
    expect(await omitted({ offset: 4 }, 4)).toBe(true);
    await write("lines", `one\n${"x".repeat(5000)}\n`);
    expect(await omitted({ line_start: 1, line_end: 1 })).toBe(false);
    expect(await omitted({ line_start: 2, line_end: 2 }, 10_000)).toBe(true);
  });

  test("long lines are cut and counted", async () => {
    await write("wide", `${"x".repeat(5000)}\nshort\n`);
    const read = await guest.readFile({ path: "wide", line_start: 1, max_bytes: 10_000 });
    expect(read.cut_lines).toBe(1);
    expect(read.bytes.toString()).toBe(`${"x".repeat(2000)}\nshort\n`);
  });

  test("a replaced file keeps its mode and gets another etag", async () => {
    const [first] = await write("tool.sh", "1", { mode: "0755" });
    const [second] = await write("tool.sh", "2");
    expect(second).toMatchObject({ created: false });
    expect(second?.etag).not.toBe(first?.etag);
    expect(await guest.stat("tool.sh")).toMatchObject({ mode: "0755", etag: second?.etag, type: "file" });
  });

  test("changes are facts, there before the answer, of whoever wants them told", async () => {
    const { facts } = await guest.facts(0, 0);
    const after = facts.at(-1)?.seq ?? 0;
    await write("quiet", "1");
    const tell = { id: "ch_1", meta: { client: "tests" } };
    const bytes = Buffer.from("abc");
    const first = await guest.writeFiles([{ path: "new", bytes }], { ...tell, facts_after: after });
    expect(first.facts?.facts).toMatchObject([
      {
        kind: "files",
        change_id: "ch_1",
        meta: { client: "tests" },
        changes: [{ path: "new", op: "create", size_bytes: 3 }],
        omitted: 0,
      },
    ]);
    expect((await guest.writeFiles([{ path: "new", bytes }], { ...tell, op: "edit" })).facts).toBeUndefined();
    await guest.manageFiles({ op: "mkdir", path: "d/e" }, tell);
    await guest.manageFiles({ op: "mkdir", path: "d/e" }, tell);
    await guest.manageFiles({ op: "move", path: "new", dest: "d/moved" }, tell);
    const refused = guest.writeFiles([{ path: "d", bytes }], tell);
    await expect(refused).rejects.toMatchObject({ code: "FILE_INVALID" });
    const last = await guest.manageFiles({ op: "delete", path: "d", recursive: true }, { ...tell, facts_after: after });
    expect(
      last.facts?.facts.map((fact) => fact.kind === "files" && fact.changes.map(({ path, op }) => `${op} ${path}`)),
    ).toEqual([["create new"], ["edit new"], ["mkdir d/e"], ["move d/moved", "delete new"], ["delete d"]]);
  });

  test("a fact of endless changes has some of them and counts the others", async () => {
    const files = Array.from({ length: 300 }, (_, i) => ({ path: `${i}-${"n".repeat(100)}`, bytes: Buffer.of() }));
    const { facts } = await guest.writeFiles(files, { id: "ch_2", meta: {}, facts_after: 0 });
    const told = facts?.facts.at(-1);
    if (told?.kind !== "files") throw new Error("no fact of it");
    expect(told.changes.length + told.omitted).toBe(300);
    expect(told.changes.length).toBeGreaterThan(50);
    expect(Buffer.byteLength(JSON.stringify(told.changes.map(({ path }) => path)))).toBeLessThan(9 * 1024);
  });

  test("if_match writes only over what was read", async () => {
    const [first] = await write("a", "1", { if_match: "" });
    await expect(write("a", "2", { if_match: "" })).rejects.toMatchObject({ code: "FILE_CONFLICT" });
    const [second] = await write("a", "2", { if_match: first?.etag ?? "" });
    await expect(write("a", "3", { if_match: first?.etag ?? "" })).rejects.toMatchObject({ code: "FILE_CONFLICT" });
    const both = guest.writeFiles([
      { path: "untouched", bytes: Buffer.from("x") },
      { path: "a", bytes: Buffer.from("x"), if_match: first?.etag ?? "" },
    ]);
    await expect(both).rejects.toMatchObject({ code: "FILE_CONFLICT" });
    await expect(guest.stat("untouched")).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
    expect(await guest.stat("a")).toMatchObject({ etag: second?.etag });
  });

  test("what cannot be read or written says why", async () => {
    await expect(guest.readFile({ path: "none", max_bytes: 10 })).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
      message: expect.stringContaining('"none"'),
    });
    await expect(guest.stat("none")).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
    await expect(guest.listFiles({ path: "none", depth: 1, limit: 10 })).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
    });
    await expect(guest.readFile({ path: "/workspace", max_bytes: 10 })).rejects.toMatchObject({ code: "FILE_INVALID" });
    await expect(write("/workspace", "x")).rejects.toMatchObject({ code: "FILE_INVALID" });
    await write("file", "x");
    await expect(write("file/below", "x")).rejects.toMatchObject({ code: "FILE_INVALID" });
    await expect(write("/proc/x", "x")).rejects.toMatchObject({
      code: expect.stringMatching(/^(PERMISSION_DENIED|FILE_NOT_FOUND)$/),
    });
  });

  test("lists by depth, glob and page", async () => {
    for (const path of ["b.txt", "a/x.py", "a/deep/y.py", "c.py"]) await write(path, path);
    const names = async (request: { depth: number; glob?: string; limit?: number }) => {
      const { entries } = await guest.listFiles({ path: "/workspace", limit: 100, ...request });
      return entries.map(({ path }) => path).filter((path) => !path.startsWith("."));
    };
    expect(await names({ depth: 1 })).toEqual(["a", "b.txt", "c.py"]);
    expect(await names({ depth: 2 })).toEqual(["a", "a/deep", "a/x.py", "b.txt", "c.py"]);
    expect(await names({ depth: 1, glob: "*.py" })).toEqual(["c.py"]);
    expect(await names({ depth: 1, glob: "{c,d}.{js,py}" })).toEqual(["c.py"]);
    expect(await names({ depth: 9, glob: "**/*.py" })).toEqual(["a/deep/y.py", "a/x.py", "c.py"]);

    const paged: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await guest.listFiles({ path: "a", depth: 9, limit: 2, ...(cursor !== undefined && { cursor }) });
      expect(page.entries.length).toBeLessThanOrEqual(2);
      paged.push(...page.entries.map(({ path }) => path));
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    expect(paged).toEqual(["deep", "deep/y.py", "x.py"]);
    expect((await guest.listFiles({ path: "c.py", depth: 1, limit: 10 })).entries).toMatchObject([
      { path: "c.py", type: "file", size_bytes: 4 },
    ]);
  });

  test("finds lines, with what stands around them", async () => {
    await write("a.py", "one\ntwo\nthree\n");
    await write("b/c.txt", "Two\n");
    await write("bin", "two\0\n");
    const found = await guest.searchFiles({ pattern: "t[w]o$", path: ".", context: 1, limit: 10 });
    expect(found).toMatchObject({
      matches: [{ path: "a.py", line: 2, text: "two", before: ["one"], after: ["three"] }],
      omitted: 0,
    });
    const either = await guest.searchFiles({ pattern: "two", ignore_case: true, limit: 1 });
    expect(either).toMatchObject({ matches: [{ path: "a.py" }], omitted: 1 });
    expect((await guest.searchFiles({ pattern: "o", glob: "**/*.txt", limit: 9 })).matches).toMatchObject([
      { path: "b/c.txt", line: 1, text: "Two" },
    ]);
    await expect(guest.searchFiles({ pattern: "(", limit: 1 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(guest.searchFiles({ pattern: "a", path: "none", limit: 1 })).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
    });
  });

  test("makes, copies, moves and deletes", async () => {
    expect(await guest.manageFiles({ op: "mkdir", path: "x/y" })).toEqual({ path: "x/y", entries: 2 });
    expect(await guest.manageFiles({ op: "mkdir", path: "x/y" })).toMatchObject({ entries: 0 });
    await write("x/f", "f", { mode: "0700" });
    await expect(guest.manageFiles({ op: "copy", path: "x", dest: "z" })).rejects.toMatchObject({
      code: "FILE_INVALID",
      next: expect.stringContaining("recursive: true"),
    });
    expect(await guest.manageFiles({ op: "copy", path: "x", dest: "new/z", recursive: true })).toMatchObject({
      entries: 3,
    });
    expect(await guest.stat("new/z/f")).toMatchObject({ mode: "0700", size_bytes: 1 });
    await expect(guest.manageFiles({ op: "move", path: "x/f", dest: "new" })).rejects.toMatchObject({
      code: "FILE_CONFLICT",
    });
    expect(await guest.manageFiles({ op: "move", path: "x/f", dest: "g" })).toMatchObject({ path: "g", entries: 1 });
    await expect(guest.stat("x/f")).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
    await expect(guest.manageFiles({ op: "delete", path: "new" })).rejects.toMatchObject({
      code: "FILE_INVALID",
      next: expect.stringContaining("recursive: true"),
    });
    expect(await guest.manageFiles({ op: "delete", path: "new", recursive: true })).toMatchObject({ entries: 4 });
    await expect(guest.manageFiles({ op: "delete", path: "/workspace", recursive: true })).rejects.toMatchObject({
      code: "PERMISSION_DENIED",
    });
  });

  test("takes and gives archives", async () => {
    const long = `${"d".repeat(90)}/${"f".repeat(90)}`;
    async function* chunks() {
      for (const [name, body] of [
        ["a", "1"],
        [long, "22"],
        ["../out", "3"],
      ] as const) {
        yield tarHeader({ name, type: "file", mode: 0o640, size: body.length, mtimeS: 1 });
        yield Buffer.concat([Buffer.from(body), Buffer.alloc(padding(body.length))]);
      }
      yield archiveEnd;
    }
    const taken = await guest.putTar("into/here", chunks());
    expect(taken).toMatchObject({ files: 2, bytes: 3, refused: [{ path: "../out" }], refused_total: 1 });
    expect(await guest.stat("into/here/a")).toMatchObject({ mode: "0640" });
    const entries = async (path: string, exclude: string[] = []) => {
      const reader = new TarReader(guest.getTar({ path, include: [], exclude }, () => {}));
      const found: Record<string, string> = {};
      for (let entry = await reader.next(); entry !== undefined; entry = await reader.next())
        found[entry.name] = `${entry.type} ${entry.mode.toString(8)} ${(await reader.body())?.toString() ?? ""}`;
      return found;
    };
    expect(await entries("into/here")).toMatchObject({ a: "file 640 1", [long]: "file 640 22" });
    expect(Object.keys(await entries("into/here", ["a"]))).not.toContain("a");
    expect(await entries("into/here/a")).toEqual({ a: "file 640 1" });
    await expect(entries("none")).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
  });
}
