import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  chmodSync,
  createReadStream,
  createWriteStream,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startServer, type TestServer } from "../support/server.ts";

/** Trees between open folders of the host and a sandbox, on the real engine. */
// In memory where that can be had: what making 10 000 files costs on a disk is the disk's affair.
const base = realpathSync(mkdtempSync(path.join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "chorus-host-")));
const ro = path.join(base, "ro");
const rw = path.join(base, "rw");
const secret = path.join(base, "secret");
const inner = path.join(rw, "inner-ro");
let server: TestServer;
let id: string;

beforeAll(async () => {
  for (const dir of [ro, rw, secret, inner]) mkdirSync(dir, { recursive: true });
  writeFileSync(path.join(secret, "key"), "secret\n");
  server = await startServer({ env: { CHORUS_SANDBOX_HOST_DIRS: `${ro}:ro,${rw}:rw,${inner}:ro` } });
  id = String((await server.ok("sandbox_create", { workspace_mb: 512, memory_mb: 512 }))["sandbox_id"]);
});
beforeEach(async () => {
  await sh("cd /workspace && rm -rf -- * .[!.]* 2>/dev/null; true");
  for (const dir of [ro, rw, inner]) {
    execFileSync("chmod", ["-R", "u+rwx", dir]);
    for (const name of readdirSync(dir)) if (name !== "inner-ro") rmSync(path.join(dir, name), { recursive: true });
  }
});
afterAll(async () => {
  await server?.ok("sandbox_destroy", { sandbox_id: id });
  await server?.[Symbol.asyncDispose]();
  rmSync(base, { recursive: true, force: true });
});

const sh = async (command: string): Promise<string> => {
  const done = await server.ok("exec_run", { sandbox_id: id, command, max_output_bytes: 49_152 });
  return String(done["stdout"]) + String(done["stderr"]);
};
const upload = (host_path: string, to: string, more: object = {}) =>
  server.call("file_upload", { sandbox_id: id, host_path, path: to, ...more });
const download = (from: string, host_path: string, more: object = {}) =>
  server.call("file_download", { sandbox_id: id, path: from, host_path, ...more });
const put = (file: string, content: string, mode = 0o644) => {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
  chmodSync(file, mode);
};
const refused = (answer: { data: Record<string, unknown> }) =>
  Object.fromEntries((answer.data["refused"] as { path: string; why: string }[]).map(({ path: at, why }) => [at, why]));

/** What a folder of the host holds: mode and content of files, targets of links. */
function tree(root: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(root, { recursive: true, encoding: "utf8" })) {
    const at = path.join(root, name);
    const stats = lstatSync(at);
    const mode = (stats.mode & 0o777).toString(8);
    if (stats.isSymbolicLink()) found[name] = `-> ${readlinkSync(at)}`;
    else found[name] = stats.isDirectory() ? `dir ${mode}` : `${mode} ${readFileSync(at, "utf8")}`;
  }
  return found;
}

describe("there and back", () => {
  it("keeps names, modes and links of a tree", async () => {
    const long = `${"d".repeat(120)}/${"f".repeat(200)}`;
    put(path.join(ro, "t/plain"), "1\n");
    put(path.join(ro, "t/ü ä\n'\"$(x)\\"), "odd\n", 0o600);
    put(path.join(ro, "t/-rf"), "dash\n");
    put(path.join(ro, "t/run.sh"), "#!/bin/sh\necho ran\n", 0o755);
    put(path.join(ro, `t/${long}`), "long\n");
    put(path.join(ro, "t/sub/deep/x"), "");
    mkdirSync(path.join(ro, "t/empty"), { mode: 0o700 });
    symlinkSync("run.sh", path.join(ro, "t/link"));
    symlinkSync("../../plain", path.join(ro, "t/sub/deep/up"));
    symlinkSync("nowhere", path.join(ro, "t/dangling"));
    const up = await upload(path.join(ro, "t"), "work/tree");
    expect(up.data).toMatchObject({ refused: [] });
    expect(await sh("work/tree/run.sh; cat work/tree/sub/deep/up; stat -c %a work/tree/empty")).toBe("ran\n1\n700\n");
    const down = await download("work/tree", path.join(rw, "back/here"));
    expect(down.data).toMatchObject({ refused: [], files: up.data["files"], bytes: up.data["bytes"] });
    expect(tree(path.join(rw, "back/here"))).toEqual(tree(path.join(ro, "t")));
    expect(readdirSync(rw, { recursive: true }).filter((name) => String(name).includes(".part"))).toEqual([]);
  });

  it("keeps names that are no UTF-8", async () => {
    mkdirSync(path.join(ro, "raw"));
    const name = Buffer.concat([Buffer.from(`${ro}/raw/`), Buffer.from([0x61, 0xff, 0xfe])]);
    writeFileSync(name, "bytes\n");
    await upload(path.join(ro, "raw"), "raw");
    expect(await sh("cat raw/$(printf 'a\\377\\376')")).toBe("bytes\n");
    await download("raw", path.join(rw, "raw"));
    const [back] = readdirSync(Buffer.from(path.join(rw, "raw")), { encoding: "buffer" });
    expect(back).toEqual(Buffer.from([0x61, 0xff, 0xfe]));
  });

  it("gives a single file the name that was asked for", async () => {
    put(path.join(ro, "a.txt"), "a\n", 0o640);
    expect((await upload(path.join(ro, "a.txt"), "in/b.txt")).data).toMatchObject({ files: 1, bytes: 2 });
    expect(await sh("cat in/b.txt; stat -c %a in/b.txt; ln -s b.txt in/link")).toBe("a\n640\n");
    expect((await download("in/b.txt", path.join(rw, "new/c.txt"))).data).toMatchObject({ files: 1, bytes: 2 });
    expect(tree(rw)["new/c.txt"]).toBe("640 a\n");
    await download("in/link", path.join(rw, "followed"));
    expect(readFileSync(path.join(rw, "followed"), "utf8")).toBe("a\n");
    const onFolder = await download("in/b.txt", path.join(rw, "new"));
    expect(onFolder.error?.code).toBe("FILE_CONFLICT");
    expect((await upload(path.join(ro, "a.txt"), "in")).error?.code).toBe("FILE_INVALID");
  });

  it("merges and overwrites, and never puts a file in a folder's place", async () => {
    put(path.join(ro, "m/a"), "new\n");
    put(path.join(ro, "m/dir"), "a file\n");
    await sh("mkdir -p m/dir; echo old > m/a; echo kept > m/b");
    const up = await upload(path.join(ro, "m"), "m");
    expect(Object.keys(refused(up))).toEqual(["dir"]);
    expect(await sh("cat m/a m/b; ls -d m/dir/")).toBe("new\nkept\nm/dir/\n");
    put(path.join(rw, "m/a/inside"), "x");
    put(path.join(rw, "m/b"), "old\n");
    put(path.join(rw, "m/c"), "kept\n");
    const down = await download("m", path.join(rw, "m"));
    expect(refused(down)).toEqual({ a: "a folder of that name is there" });
    expect(tree(path.join(rw, "m"))).toMatchObject({ b: "644 kept\n", c: "644 kept\n", "a/inside": "644 x" });
  });

  it("takes what include and exclude say, both ways alike", async () => {
    for (const file of ["src/a.ts", "src/a.js", "src/gen/b.ts", "node_modules/x/i.ts", "docs/README.md", "top.ts"])
      put(path.join(ro, "p", file), file);
    const select = { include: ["*.ts", "/docs/"], exclude: ["node_modules/", "src/gen"] };
    expect((await upload(path.join(ro, "p"), "p", select)).data["files"]).toBe(3);
    expect(await sh("cd p && find . -type f | sort")).toBe("./docs/README.md\n./src/a.ts\n./top.ts\n");
    await upload(path.join(ro, "p"), "q");
    expect((await download("q", path.join(rw, "q"), select)).data["files"]).toBe(3);
    expect(Object.keys(tree(path.join(rw, "q"))).sort()).toEqual([
      "docs",
      "docs/README.md",
      "src",
      "src/a.ts",
      "top.ts",
    ]);
  });

  it("tells of transfers and refusals", async () => {
    put(path.join(ro, "e"), "12345");
    await upload(path.join(ro, "e"), "e");
    await upload("/etc/passwd", "e");
    const { events } = await server.ok("sandbox_events", {
      sandbox_id: id,
      limit: 2,
      types: ["file.transferred", "policy.denied"],
    });
    expect(events).toMatchObject([
      { type: "file.transferred", direction: "upload", host_path: path.join(ro, "e"), path: "e", files: 1, bytes: 5 },
      { type: "policy.denied", what: "host_path", requested: "/etc/passwd", rule: "host_dirs" },
    ]);
  });
});

describe("what is not open", () => {
  it.each([
    ["another path", () => "/etc/passwd"],
    ["a path that leaves by ..", () => `${ro}/../secret/key`],
    ["a sibling that begins alike", () => `${ro}-not`],
    ["what does not exist outside", () => "/no/such"],
  ])("%s is refused, naming what is", async (_what, host) => {
    const answer = await upload(host(), "x");
    expect(answer.error?.code).toBe("POLICY_DENIED");
    expect(answer.text).toContain(`${ro}:ro, ${rw}:rw`);
    expect((await download("/etc/passwd", host())).error?.code).toBe("POLICY_DENIED");
  });

  it("a folder for reading cannot be written, nor one within a writable one", async () => {
    await sh("mkdir -p d/inner-ro/sub; echo x > d/inner-ro/x; echo y > d/y; echo z > d/inner-ro/sub/z");
    expect((await download("d", path.join(ro, "d"))).error?.code).toBe("POLICY_DENIED");
    expect((await download("d/y", path.join(inner, "y"))).error?.code).toBe("POLICY_DENIED");
    const merged = await download("d", rw);
    expect(Object.keys(refused(merged)).sort()).toEqual(["inner-ro/", "inner-ro/sub/", "inner-ro/sub/z", "inner-ro/x"]);
    expect(readdirSync(inner)).toEqual([]);
    expect(existsSync(path.join(rw, "y"))).toBe(true);
    symlinkSync("inner-ro", path.join(rw, "alias"));
    expect((await download("d/y", path.join(rw, "alias/y"))).error?.code).toBe("POLICY_DENIED");
    expect(readdirSync(inner)).toEqual([]);
  });

  it("a link out is not followed, a link within is", async () => {
    symlinkSync(secret, path.join(rw, "out"));
    symlinkSync(path.join(secret, "key"), path.join(rw, "key"));
    symlinkSync("../secret/new", path.join(rw, "dangling"));
    put(path.join(rw, "real/a"), "a\n");
    symlinkSync("real", path.join(rw, "within"));
    symlinkSync(path.join(rw, "real"), path.join(rw, "absolute"));
    await sh("echo evil > f");
    for (const name of ["out/key", "key", "out"])
      expect((await upload(path.join(rw, name), "x")).error?.code).toBe("POLICY_DENIED");
    for (const name of ["out/key", "out/new", "key", "dangling"])
      expect((await download("f", path.join(rw, name))).error?.code).toBe("POLICY_DENIED");
    expect(tree(secret)).toEqual({ key: "644 secret\n" });
    for (const name of ["within/a", "absolute/a"])
      expect((await upload(path.join(rw, name), "x")).data).toMatchObject({ files: 1 });
    await download("f", path.join(rw, "within/b"));
    expect(readFileSync(path.join(rw, "real/b"), "utf8")).toBe("evil\n");
    const whole = await upload(rw, "all");
    expect(Object.keys(refused(whole)).sort()).toEqual(["absolute", "dangling", "key", "out"]);
    expect(await sh("cat all/within/a; ls all/out 2>&1 | wc -l")).toBe("a\n1\n");
  });

  it("a server without open folders says so", async () => {
    await using closed = await startServer({ dataDir: server.dataDir });
    const answer = await closed.call("file_upload", { sandbox_id: id, host_path: "/etc/passwd", path: "x" });
    expect(answer.error?.code).toBe("POLICY_DENIED");
    expect(answer.text).toContain("No host folder is open");
  });
});

describe("hostile trees", () => {
  it("special files of the host are passed over and never opened", async () => {
    execFileSync("mkfifo", [path.join(ro, "fifo")]);
    put(path.join(ro, "ok"), "ok");
    const answer = await upload(ro, "s");
    expect(refused(answer)).toEqual({ fifo: "fifo" });
    expect(answer.data["files"]).toBe(1);
  });

  it("links out of a sandbox's tree stay there, and fifos", async () => {
    await sh(
      [
        "mkdir -p h/d h/deep; echo ok > h/ok; mkfifo h/pipe",
        `ln -s ${secret} h/absolute; ln -s ../../../../../../..${secret}/key h/up; ln -s ../.. h/d/two; ln -s ok h/good`,
        "ln -s d/../../x h/middle; ln -s ../ok h/d/fine; ln h/ok h/hard",
      ].join("; "),
    );
    const answer = await download("h", path.join(rw, "h"));
    const found = tree(path.join(rw, "h"));
    expect(Object.keys(found).sort()).toEqual(["d", "d/fine", "deep", "good", "hard", "ok"]);
    expect(Object.keys(refused(answer)).sort()).toEqual(["absolute", "d/two", "middle", "pipe", "up"]);
  });

  it("a folder in the sandbox does not land on a link of the host", async () => {
    await sh("mkdir -p l/dir; echo x > l/dir/x");
    mkdirSync(path.join(rw, "l"));
    symlinkSync(secret, path.join(rw, "l/dir"));
    const answer = await download("l", path.join(rw, "l"));
    expect(Object.keys(refused(answer)).sort()).toContain("dir/x");
    expect(readdirSync(secret)).toEqual(["key"]);
  });

  it("a file of holes costs the host no disk", async () => {
    await sh("dd if=/dev/zero of=sparse bs=1 count=0 seek=300M 2>/dev/null; echo end >> sparse");
    const answer = await download("sparse", path.join(rw, "sparse"));
    expect(answer.data).toMatchObject({ bytes: 300 * 2 ** 20 + 4 });
    const { size, blocks } = statSync(path.join(rw, "sparse"));
    expect(size).toBe(300 * 2 ** 20 + 4);
    expect(blocks * 512).toBeLessThan(8 * 2 ** 20);
  });

  it("folders swapped for links while a tree moves never lead out", async () => {
    for (let i = 0; i < 300; i++) put(path.join(rw, `race/dir/sub/f${i}`), `inside ${i}\n`);
    for (let i = 0; i < 300; i++) put(path.join(secret, `sub/f${i}`), "SECRET\n");
    await sh("mkdir -p land/dir/sub; for i in $(seq 0 299); do echo sandbox > land/dir/sub/f$i; done");
    const dir = path.join(rw, "race/dir");
    const aside = path.join(rw, "race/aside");
    let swapping = true;
    let swaps = 0;
    mkdirSync(path.join(rw, "junk"));
    /** Whatever is in the place goes aside at once: the link, or a folder that a download made there meanwhile. */
    const clear = (): void => renameSync(dir, path.join(rw, "junk", randomUUID()));
    const instead = (put: () => void): void => {
      for (;;) {
        try {
          put();
          return;
        } catch {
          clear();
        }
      }
    };
    const swapper = (async () => {
      for (; swapping; swaps++) {
        renameSync(dir, aside);
        instead(() => symlinkSync(secret, dir));
        await new Promise(setImmediate);
        clear();
        instead(() => renameSync(aside, dir));
        await new Promise(setImmediate);
      }
    })();
    for (let round = 0; round < 12; round++) {
      await Promise.all([upload(path.join(rw, "race"), `up${round}`), download("land", path.join(rw, "race"))]);
    }
    swapping = false;
    await swapper;
    expect(swaps).toBeGreaterThan(20);
    expect(await sh("cat up*/dir/sub/* up*/aside/sub/* 2>/dev/null | grep -c SECRET")).toBe("0\n");
    expect(
      new Set(readdirSync(path.join(secret, "sub")).map((f) => readFileSync(path.join(secret, "sub", f), "utf8"))),
    ).toEqual(new Set(["SECRET\n"]));
    rmSync(path.join(secret, "sub"), { recursive: true });
  });
});

describe("size (figures are printed)", () => {
  it("10 000 small files go there and back", async () => {
    for (let i = 0; i < 10_000; i++) put(path.join(ro, `n/d${i % 100}/f${i}`), `content of ${i}\n`);
    const ups = await timed(() => upload(path.join(ro, "n"), "n"));
    expect(ups.answer.data).toMatchObject({ files: 10_000, refused: [] });
    const downs = await timed(() => download("n", path.join(rw, "n")));
    expect(downs.answer.data).toMatchObject({ files: 10_000, refused: [] });
    for (const { ms } of [ups, downs]) expect(ms).toBeLessThan(60_000);
    process.stdout.write(`10 000 files: up ${Math.round(ups.ms)} ms, down ${Math.round(downs.ms)} ms\n`);
    expect(tree(path.join(rw, "n"))).toEqual(tree(path.join(ro, "n")));
  }, 180_000);

  it("100 MiB go there and back in bounded memory, with progress", async () => {
    await pipeline(
      createReadStream("/dev/urandom", { end: 100 * 2 ** 20 - 1 }),
      createWriteStream(path.join(ro, "big")),
    );
    const rss = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1]) / 1024;
    const before = rss();
    const messages: (string | undefined)[] = [];
    const ups = await timed(() =>
      server.call(
        "file_upload",
        { sandbox_id: id, host_path: path.join(ro, "big"), path: "big" },
        { onprogress: ({ message }) => messages.push(message) },
      ),
    );
    const middle = rss();
    const downs = await timed(() => download("big", path.join(rw, "big")));
    const rate = (ms: number) => Math.round((100 * 2 ** 20) / 1000 / ms);
    process.stdout.write(
      `100 MiB: up ${rate(ups.ms)} MB/s, down ${rate(downs.ms)} MB/s; RSS ${Math.round(before)} → ${Math.round(middle)} → ${Math.round(rss())} MiB\n`,
    );
    expect(readFileSync(path.join(rw, "big")).equals(readFileSync(path.join(ro, "big")))).toBe(true);
    expect(messages.some((message) => /files, [\d.]+ MiB/.test(message ?? ""))).toBe(true);
    expect(rss() - before).toBeLessThan(96);
  }, 180_000);

  it("what does not fit the workspace says so, and a cancelled transfer ends", async () => {
    put(path.join(ro, "huge"), "");
    truncateSync(path.join(ro, "huge"), 600 * 2 ** 20);
    expect((await upload(path.join(ro, "huge"), "huge")).error?.code).toBe("LIMIT_EXCEEDED");
    const stop = new AbortController();
    const going = server.call(
      "file_upload",
      { sandbox_id: id, host_path: path.join(ro, "huge"), path: "/tmp/huge" },
      { signal: stop.signal, onprogress: () => stop.abort() },
    );
    await expect(going).rejects.toThrow();
    expect(await sh("echo alive")).toBe("alive\n");
  }, 180_000);
});

async function timed<T>(work: () => Promise<T>): Promise<{ answer: T; ms: number }> {
  const started = performance.now();
  const answer = await work();
  return { answer, ms: performance.now() - started };
}
