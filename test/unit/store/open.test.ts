import { chmod, mkdir, readdir, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import { networkFileSystem } from "../../../src/sandbox/store/data-dir.ts";
import { Database } from "../../../src/sandbox/store/database.ts";
import { openStore } from "../../../src/sandbox/store/index.ts";
import { StoreProcesses, thisProcess } from "../../../src/sandbox/store/processes.ts";
import { StoreRoles } from "../../../src/sandbox/store/roles.ts";
import { openTables } from "../../../src/sandbox/store/tables.ts";
import { eventually } from "../../support/server.ts";
import { execStarted, newDataDir, newStore, sandboxRecord } from "../../support/store.ts";

describe("the data dir", () => {
  it("is made for its owner alone", async () => {
    const dataDir = path.join(await newDataDir(), "state", "chorus-sandbox");
    await newStore({ dataDir });
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
  });

  it("is refused by name when others may enter, with the command that helps", async () => {
    const dataDir = await newDataDir();
    await chmod(dataDir, 0o750);
    const opening = openStore({ dataDir, host: "h" });
    await expect(opening).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/CHORUS_SANDBOX_DATA_DIR .*mode 0750/),
      next: `Run: chmod 700 "${dataDir}"`,
    });
    expect(await readdir(dataDir)).toEqual([]);
  });

  it("is refused when it is a file, below one, or a link to nowhere", async () => {
    const dir = await newDataDir();
    const file = path.join(dir, "file");
    await writeFile(file, "");
    await symlink(path.join(dir, "nowhere"), path.join(dir, "link"));
    for (const dataDir of [file, path.join(file, "below"), path.join(dir, "link")]) {
      const opening = openStore({ dataDir, host: "h" });
      await expect(opening).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: /CHORUS_SANDBOX_DATA_DIR/ });
    }
  });

  it.runIf(process.getuid?.() === 0)("is refused when it belongs to somebody else", async () => {
    const dataDir = path.join(await newDataDir(), "theirs");
    await mkdir(dataDir, { mode: 0o700 });
    const { chown } = await import("node:fs/promises");
    await chown(dataDir, 12345, 12345);
    await expect(openStore({ dataDir, host: "h" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("uid 12345"),
    });
  });

  it("tells network file systems from local ones", () => {
    // statfs gives cifs as a negative number where f_type is signed.
    expect([0x6969, 0xff534d42, 0xff534d42 | 0, 0x01021997, 0x65735546].map(networkFileSystem)).toEqual([
      "nfs",
      "cifs",
      "cifs",
      "9p",
      "fuse",
    ]);
    expect([0xef53, 0x01021994, 0x58465342, 0x9123683e, 0x794c7630].map(networkFileSystem)).toEqual(
      Array(5).fill(undefined),
    );
  });
});

describe("a store", () => {
  it("keeps its install id and contents, and has a process id of its own each time", async () => {
    const dataDir = await newDataDir();
    const first = await newStore({ dataDir });
    await first.write((tx) => {
      tx.putSandbox(sandboxRecord("sb_a"));
      tx.emit("sb_a", execStarted("ex_1"));
    });
    await first.flushed();
    await first[Symbol.asyncDispose]();
    const second = await newStore({ dataDir, host: (installId) => `h-${installId}` });
    expect(second.installId).toBe(first.installId);
    expect(second.processId).not.toBe(first.processId);
    expect(second.sandbox("sb_a")?.sequence).toBe(1);
    const { host, sequence } = await second.write((tx) => tx.emit("sb_a", execStarted("ex_2")));
    expect([host, sequence]).toEqual([`h-${first.installId}`, 2]);
  });

  it("of a newer layout is left alone", async () => {
    const dataDir = await newDataDir();
    const database = await Database.open(path.join(dataDir, "store"), dataDir);
    const { tables } = await openTables(database, dataDir);
    await database.transact(() => tables.meta.put("store", { layout: 2, install_id: "x" }));
    await database.close();
    await expect(openStore({ dataDir, host: "h" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/layout 2.*reads layout 1/),
    });
  });

  it("is closed once, after what was under way, and then says so", async () => {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir });
    const neighbour = await newStore({ dataDir });
    const writing = store.write((tx) => tx.putSandbox(sandboxRecord("sb_a")));
    await Promise.all([store[Symbol.asyncDispose](), store[Symbol.asyncDispose]()]);
    await writing;
    expect(neighbour.sandbox("sb_a")).toBeDefined();
    expect(neighbour.processes.list().map((record) => record.process_id)).toEqual([neighbour.processId]);
    expect(() => store.sandbox("sb_a")).toThrow("closed");
    expect(() => store.journal.newest()).toThrow("closed");
    expect(() => store.journal.onAppend(() => {})).toThrow("closed");
    for (const call of [store.write(() => 1), store.flushed(), store.prune(), store.roles.hold("keeper", 1000)]) {
      await expect(call).rejects.toMatchObject({ code: "ABORTED" });
    }
  });
});

describe("processes", () => {
  it("are alive only with the same start and boot", async () => {
    const dataDir = await newDataDir();
    const store = await newStore({ dataDir });
    const [self] = store.processes.list();
    expect(self).toMatchObject({ process_id: store.processId, pid: process.pid });
    expect(store.processes.alive(store.processId)).toBe(true);
    expect(store.processes.alive("ps_unknown")).toBe(false);

    const database = await Database.open(path.join(dataDir, "store"), dataDir);
    const { tables } = await openTables(database, dataDir);
    const now = thisProcess(Date.now);
    const others = {
      ps_reused_pid: { ...now, start_time: "1" },
      ps_last_boot: { ...now, boot_id: "another" },
      ps_gone: { ...now, pid: 2 ** 22 + 1 },
    };
    await database.transact(() => {
      for (const [id, record] of Object.entries(others)) tables.processes.put(id, { ...record, process_id: id });
    });
    await database.close();
    for (const id of Object.keys(others)) expect(store.processes.alive(id)).toBe(false);
    await store.prune();
    expect(store.processes.list()).toHaveLength(1);
  });
});

describe("roles", () => {
  it("have one holder, who renews and releases", async () => {
    const dataDir = await newDataDir();
    const [a, b] = [await newStore({ dataDir }), await newStore({ dataDir })];
    expect(a.roles.holder("keeper")).toBeUndefined();
    const tried = await Promise.all([a.roles.hold("keeper", 60_000), b.roles.hold("keeper", 60_000)]);
    expect(tried.filter(Boolean)).toHaveLength(1);
    const [winner, loser] = tried[0] ? [a, b] : [b, a];
    expect(await winner.roles.hold("keeper", 60_000)).toBe(true);
    expect(await loser.roles.hold("keeper", 60_000)).toBe(false);
    expect(loser.roles.holder("keeper")?.process_id).toBe(winner.processId);
    expect(await loser.roles.hold("relay", 60_000)).toBe(true);
    await loser.roles.release("keeper");
    expect(await loser.roles.hold("keeper", 60_000)).toBe(false);
    await winner.roles.release("keeper");
    expect(await loser.roles.hold("keeper", 60_000)).toBe(true);
  });

  it("are given up with the store", async () => {
    const dataDir = await newDataDir();
    const [a, b] = [await newStore({ dataDir }), await newStore({ dataDir })];
    await a.roles.hold("keeper", 60_000);
    await a[Symbol.asyncDispose]();
    expect(b.roles.holder("keeper")).toBeUndefined();
    expect(await b.roles.hold("keeper", 60_000)).toBe(true);
  });

  describe("given back while the disk is full", () => {
    async function held() {
      const dataDir = await newDataDir();
      const database = await Database.open(path.join(dataDir, "store"), dataDir);
      onTestFinished(() => database.close());
      const { tables } = await openTables(database, dataDir);
      const processes = new StoreProcesses(database, tables);
      const self = thisProcess(Date.now);
      await database.transact(() => processes.add(self));
      const roles = new StoreRoles(database, tables, processes, self.process_id);
      expect(await roles.hold("keeper", 60_000)).toBe(true);
      const full = new SandboxError("LIMIT_EXCEEDED", "The disk is full.");
      const transact = vi.spyOn(database, "transact").mockRejectedValueOnce(full).mockRejectedValueOnce(full);
      await roles.release("keeper");
      expect(roles.holder("keeper")).toBeDefined();
      return { roles, transact };
    }

    it("are given back once there is room", async () => {
      const { roles } = await held();
      await eventually("it is free", () => roles.holder("keeper") === undefined);
    });

    it("are not taken from who holds them again", async () => {
      const { roles, transact } = await held();
      transact.mockReset();
      expect(await roles.hold("keeper", 60_000)).toBe(true);
      const before = transact.mock.calls.length;
      await eventually("it was tried again", () => transact.mock.calls.length > before);
      await Promise.all(transact.mock.results.map(({ value }) => value));
      expect(roles.holder("keeper")).toBeDefined();
    });
  });
});
