import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually, startServer, type TestServer } from "../support/server.ts";

/** An agent at work on the files of one sandbox. */
let server: TestServer;
let id: string;

beforeAll(async () => {
  server = await startServer();
  id = String((await server.ok("sandbox_create", { workspace_mb: 64 }))["sandbox_id"]);
});
afterAll(async () => {
  await server.ok("sandbox_destroy", { sandbox_id: id });
  await server[Symbol.asyncDispose]();
});

const sh = async (command: string): Promise<string> =>
  String((await server.ok("exec_run", { sandbox_id: id, command }))["stdout"]);
const ok = (tool: string, args: Record<string, unknown>) => server.ok(tool, { sandbox_id: id, ...args });
const call = (tool: string, args: Record<string, unknown>) => server.call(tool, { sandbox_id: id, ...args });
const write = (path: string, content: string, more: object = {}) =>
  ok("file_write", { files: [{ path, content, ...more }] });
const read = async (path: string) => (await ok("file_read", { path }))["content"];
const edits = (...pairs: [string, string][]) => pairs.map(([old_string, new_string]) => ({ old_string, new_string }));

describe("file_edit", () => {
  it("changes text in order, keeps mode, and shows what it did", async () => {
    await write("tool.py", "#!/usr/bin/python\ndef one():\n    return 1\n\ndef two():\n    return 2\n", {
      mode: "0755",
    });
    const answer = await call("file_edit", {
      path: "tool.py",
      edits: edits(["return 1", "return uno()"], ["def one", "def uno"], ["return uno()", "return 1()"]),
    });
    expect(answer.data).toMatchObject({ replacements: 3 });
    expect(answer.data["diff"]).toContain("-def one():\n+def uno():\n-    return 1\n+    return 1()\n \n");
    expect(answer.text).toContain("3 replacements");
    expect(await sh("stat -c %a tool.py")).toBe("755\n");
  });

  it("keeps \\r\\n, the byte order mark and a missing newline at the end, and follows a link", async () => {
    await write("dos.txt", "\ufeffone\r\ntwo\r\nthree");
    await sh("ln -s dos.txt link.txt");
    const { diff } = await ok("file_edit", { path: "link.txt", edits: edits(["one\ntwo\n", "1\n2\n2½\n"]) });
    expect(diff).toContain("-two\n");
    const bytes = Buffer.from(
      String((await ok("file_read", { path: "dos.txt", encoding: "base64" }))["content"]),
      "base64",
    );
    expect(bytes.toString()).toBe("\ufeff1\r\n2\r\n2½\r\nthree");
    expect(await sh("readlink link.txt")).toBe("dos.txt\n");
  });

  it("changes nothing unless all fit, and says which did not and what is there", async () => {
    await write("app.js", "const limit = 10;\nconst limits = [10];\nrun(limit);\n");
    const answer = await call("file_edit", {
      path: "app.js",
      edits: edits(["run(limit)", "run(limits)"], ["const limit  = 12;", "x"]),
    });
    expect(answer.error).toMatchObject({ code: "EDIT_NOT_APPLIED" });
    expect(answer.text).toContain("edits[1]");
    expect(answer.text).toContain('1: "const limit = 10;"');
    const twice = await call("file_edit", { path: "app.js", edits: edits(["limit", "x"]) });
    expect(twice.text).toMatch(/found 3 times/);
    expect(await read("app.js")).toBe("const limit = 10;\nconst limits = [10];\nrun(limit);\n");
    const all = await ok("file_edit", {
      path: "app.js",
      edits: [{ old_string: "10", new_string: "11", replace_all: true }],
    });
    expect(all["replacements"]).toBe(2);
  });

  it("is refused for what is no text, not there, a folder or too large", async () => {
    await sh("printf 'a\\000b' > bin; printf 'a\\377b' > latin; mkdir -p dir; head -c 9000000 /dev/zero > big");
    const code = async (path: string) => (await call("file_edit", { path, edits: edits(["a", "b"]) })).error?.code;
    expect(await code("bin")).toBe("FILE_INVALID");
    expect(await code("latin")).toBe("FILE_INVALID");
    expect(await code("dir")).toBe("FILE_INVALID");
    expect(await code("none")).toBe("FILE_NOT_FOUND");
    expect(await code("big")).toBe("LIMIT_EXCEEDED");
    await sh("rm big");
  });

  it("edits 8 MiB, more than one answer of the guest holds", async () => {
    await sh("yes 'the quick brown fox' | head -c 7000000 > large; echo END >> large");
    const { replacements } = await ok("file_edit", { path: "large", edits: edits(["END\n", "THE END\n"]) });
    expect(replacements).toBe(1);
    expect(await sh("tail -c 8 large; wc -c < large; rm large")).toBe("THE END\n7000008\n");
  });

  it("writes only over what it read, and not over another's etag", async () => {
    const [file] = (await write("raced", "a\n"))["files"] as { etag: string }[];
    await write("raced", "a b\n");
    const stale = await call("file_edit", { path: "raced", edits: edits(["a", "c"]), if_match: file?.etag });
    expect(stale.error?.code).toBe("FILE_CONFLICT");
    expect(await read("raced")).toBe("a b\n");
  });

  it("loses no edit when many come at once", async () => {
    await write("shared", Array.from({ length: 8 }, (_, i) => `<${i}>\n`).join(""));
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, i) => call("file_edit", { path: "shared", edits: edits([`<${i}>`, `done ${i}`]) })),
    );
    const content = String(await read("shared"));
    for (const [i, answer] of answers.entries()) {
      if (answer.isError) expect(answer.error?.code).toBe("FILE_CONFLICT");
      expect(content.includes(`done ${i}\n`)).toBe(!answer.isError);
    }
  });
});

describe("file_search", () => {
  beforeAll(async () => {
    await sh(
      [
        "mkdir -p proj/src proj/node_modules/x proj/.git proj/logs",
        "printf 'one\\ntwo needle\\nthree\\n' > proj/src/a.py",
        "printf 'Needle\\n' > proj/src/b.txt",
        "printf 'needle\\n' > proj/node_modules/x/i.js",
        "printf 'needle\\n' > proj/.git/config",
        "printf 'needle\\n' > proj/logs/keep.log",
        "printf 'needle\\n' > proj/logs/drop.log",
        "printf 'needle\\000\\n' > proj/bin",
        "printf 'node_modules/\\n*.log\\n!keep.log\\n' > proj/.gitignore",
        "for i in $(seq 1 700); do echo needle $i; done > proj/many",
        "ln -s /etc proj/etc",
      ].join("; "),
    );
  });
  const paths = (data: Record<string, unknown>) => (data["matches"] as { path: string }[]).map(({ path }) => path);

  it("finds lines with what stands around them, and minds .gitignore, .git and binaries", async () => {
    const found = await ok("file_search", { path: "proj", pattern: "ne{2}dle$", context: 1 });
    expect(found["matches"]).toEqual([
      { path: "logs/keep.log", line: 1, text: "needle" },
      { path: "src/a.py", line: 2, text: "two needle", before: ["one"], after: ["three"] },
    ]);
    expect(
      paths(await ok("file_search", { path: "proj", pattern: "NEEDLE", ignore_case: true, glob: "**/*.txt" })),
    ).toEqual(["src/b.txt"]);
    const text = (await call("file_search", { path: "proj", pattern: "two", context: 1 })).text;
    expect(text).toContain("src/a.py\n```\n1- one\n2: two needle\n3- three\n```");
  });

  it("counts what is beyond the limit", async () => {
    const found = await ok("file_search", { path: "proj/many", pattern: "needle", limit: 500 });
    expect(found["matches"]).toHaveLength(500);
    expect(found["omitted"]).toBe(200);
    const few = await ok("file_search", { path: "proj", pattern: "needle", limit: 2 });
    expect(few["matches"]).toHaveLength(2);
  });

  it("fits an answer whose lines are long, and says what a bad pattern is", async () => {
    await sh("for i in $(seq 1 400); do printf 'wide %0480d\\n' $i; done > proj/wide");
    const found = await ok("file_search", { path: "proj/wide", pattern: "wide", limit: 400 });
    expect(JSON.stringify(found).length).toBeLessThanOrEqual(65_536);
    expect((found["matches"] as unknown[]).length + Number(found["omitted"])).toBe(400);
    expect((await call("file_search", { pattern: "(" })).error?.code).toBe("INVALID_ARGUMENT");
    expect((await call("file_search", { pattern: "a", path: "nowhere" })).error?.code).toBe("FILE_NOT_FOUND");
  });
});

describe("file_manage", () => {
  it("makes, copies, moves and deletes", async () => {
    expect(await ok("file_manage", { op: "mkdir", path: "m/deep/er" })).toMatchObject({ path: "m/deep/er" });
    await write("m/a.sh", "echo hi\n", { mode: "0750" });
    await sh("ln -s a.sh m/link");
    expect((await call("file_manage", { op: "copy", path: "m", dest: "n" })).error?.code).toBe("FILE_INVALID");
    const copied = await ok("file_manage", { op: "copy", path: "m", dest: "n/copy", recursive: true });
    expect(copied["entries"]).toBe(5);
    expect(await sh("stat -c %a n/copy/a.sh; readlink n/copy/link")).toBe("750\na.sh\n");
    expect((await call("file_manage", { op: "move", path: "m", dest: "n" })).error?.code).toBe("FILE_CONFLICT");
    await ok("file_manage", { op: "move", path: "m/a.sh", dest: "moved/b.sh" });
    expect((await call("file_manage", { op: "delete", path: "n" })).error?.code).toBe("FILE_INVALID");
    await ok("file_manage", { op: "delete", path: "n", recursive: true });
    await ok("file_manage", { op: "delete", path: "m/link" });
    expect(await sh("ls m moved; ls n 2>&1 | tail -1")).toMatch(/^m:\ndeep\n\nmoved:\nb\.sh\n.*No such file/);
  });

  it("spares the workdir and what a link leads to", async () => {
    await sh("mkdir -p /tmp/outside tree; echo x > /tmp/outside/x; ln -s /tmp/outside tree/out");
    await ok("file_manage", { op: "delete", path: "tree", recursive: true });
    expect(await sh("cat /tmp/outside/x")).toBe("x\n");
    for (const path of ["/workspace", ".", "/"]) {
      const { error } = await call("file_manage", { op: "delete", path, recursive: true });
      expect(error?.code).toMatch(/PERMISSION_DENIED|INVALID_ARGUMENT|FILE_INVALID/);
    }
    expect((await call("file_manage", { op: "move", path: "a" })).error?.code).toBe("INVALID_ARGUMENT");
    expect((await call("file_manage", { op: "delete", path: "a", dest: "b" })).error?.code).toBe("INVALID_ARGUMENT");
  });
});

describe("file_read and file_list", () => {
  it("gives as much as was asked for, and less where that has no bounds", async () => {
    await sh("yes '\"quoted\"' | head -c 262144 > quotes; head -c 200000 /dev/urandom > noise");
    const large = await ok("file_read", { path: "quotes", offset: 0, max_bytes: 262_144 });
    expect(String(large["content"]).length).toBe(262_144);
    const base64 = await ok("file_read", { path: "noise", encoding: "base64", max_bytes: 200_000 });
    expect(Buffer.from(String(base64["content"]), "base64").length).toBe(200_000);
    const plain = await ok("file_read", { path: "noise", offset: 0 });
    expect(JSON.stringify(plain).length).toBeLessThanOrEqual(90_000);
  });

  it("lists 1000 entries a page, by depth and glob", async () => {
    await sh("mkdir -p many/deep; for i in $(seq 1 1500); do : > many/f$i; done; : > many/deep/x.py");
    const first = await ok("file_list", { path: "many", limit: 1000 });
    const names = (data: Record<string, unknown>) => (data["entries"] as { path: string }[]).map(({ path }) => path);
    const seen = names(first);
    let cursor = first["next_cursor"];
    while (cursor !== undefined) {
      const page = await ok("file_list", { path: "many", limit: 1000, cursor });
      seen.push(...names(page));
      cursor = page["next_cursor"];
    }
    expect(new Set(seen).size).toBe(1501);
    expect(names(await ok("file_list", { path: "many", glob: "**/*.{py,md}" }))).toEqual(["deep/x.py"]);
    expect(names(await ok("file_list", { path: "many", depth: 1, glob: "**/*.py" }))).toEqual([]);
    expect((await call("file_list", { path: "many", limit: 1001 })).error?.code).toBe("INVALID_ARGUMENT");
  });
});

it("tells of every change", async () => {
  const changes: { path: string; op: string }[] = [];
  const expected = ["create", "edit", "mkdir", "copy", "move", "delete"];
  const missing = () => expected.filter((op) => !changes.some((change) => change.op === op));
  let after = "start";
  // Pages hold what fits an answer, and what follows within a second is told together: read on until all is there.
  for (let pages = 0; pages < 50 && missing().length > 0; pages++) {
    const page = await ok("sandbox_events", { after, limit: 200, types: ["file.changed"], wait_s: 3 });
    changes.push(
      ...(page["events"] as { changes: { path: string; op: string }[] }[]).flatMap((event) => event.changes),
    );
    after = String(page["next_cursor"]);
  }
  expect(missing()).toEqual([]);
  expect(changes).toContainEqual(expect.objectContaining({ path: "moved/b.sh", op: "move" }));
});

it.each([
  ["its client goes", async ({ client }: TestServer) => client.close()],
  ["it is told to end", async ({ pid }: TestServer) => void process.kill(pid, "SIGTERM")],
])("a server tells of the files it changed just before %s", async (_, end) => {
  await using next = await startServer();
  const { dataDir } = next;
  await using ending = await startServer({ dataDir });
  const { sandbox_id } = await ending.ok("sandbox_create");
  const names = ["a", "b", "c"];
  for (const path of names) await ending.ok("file_write", { sandbox_id, files: [{ path, content: "" }] });
  await end(ending);
  await eventually("it has ended", () => !existsSync(`/proc/${ending.pid}`));
  const { events } = await next.ok("sandbox_events", { sandbox_id, after: "start", types: ["file.changed"] });
  const told = (events as { changes: { path: string }[] }[]).flatMap(({ changes }) => changes);
  expect(told.map(({ path }) => path)).toEqual(names);
  await next.ok("sandbox_destroy", { sandbox_id });
});
