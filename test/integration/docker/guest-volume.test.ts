import { appendFileSync, copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import type { SandboxBackend } from "../../../src/sandbox/backend.ts";
import { EngineClient } from "../../../src/sandbox/backends/docker/client.ts";
import { GuestVolumes } from "../../../src/sandbox/backends/docker/guest-volume.ts";
import { connectGuest } from "../../../src/sandbox/guest/client.ts";
import {
  guestBinary,
  newInstallId,
  rawEngine,
  testBackend,
  testEngineHost,
  testImage,
  testSpec,
} from "../../support/docker.ts";

/** A guest with content of its own for each test, and so with a volume of its own. */
const folder = mkdtempSync(join(tmpdir(), "chorus-guest-"));
const backends: SandboxBackend[] = [];
const sandboxes: { backend: SandboxBackend; id: string }[] = [];
let guestPath = "";
let volume = "";
let image_id = "";
let copies = 0;

beforeAll(async () => {
  const backend = testBackend();
  image_id = (await backend.resolveImage(testImage("busybox"))).image_id;
  await backend[Symbol.asyncDispose]();
});
afterEach(async () => {
  await Promise.all(sandboxes.splice(0).map(({ backend, id }) => backend.remove(id)));
  for (const name of [volume, `${volume}-complete`]) await rawEngine("DELETE", `/volumes/${name}`);
  await Promise.all(backends.splice(0).map((backend) => backend[Symbol.asyncDispose]()));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A server's backend with the guest of this test. */
function server(): SandboxBackend {
  const path = guestPath;
  const backend = testBackend({ guestBinary: () => path });
  backends.push(backend);
  return backend;
}

async function newGuest(): Promise<void> {
  guestPath = join(folder, `guest-${copies++}`);
  copyFileSync(guestBinary("amd64"), guestPath);
  // Bytes after the end of an ELF file change nothing but its hash.
  appendFileSync(guestPath, `${process.pid} ${copies} ${performance.now()}`);
  const path = guestPath;
  // Where the volume is told by nobody, it is asked from the code that names it, on an engine that is not there.
  const engine = new EngineClient({ host: "unix:///nonexistent.sock", home: "/", uid: 0 });
  const volumes = new GuestVolumes(engine, () => path, "nobody");
  volume = (await volumes.identity("amd64")).name;
}

async function works(backend: SandboxBackend): Promise<void> {
  const spec = testSpec(image_id);
  sandboxes.push({ backend, id: spec.sandbox_id });
  await backend.create(spec);
  await using guest = connectGuest(await backend.connect(spec.sandbox_id));
  expect((await guest.health()).sandbox_id).toBe(spec.sandbox_id);
}

async function fillers(): Promise<string[]> {
  const { json } = await rawEngine(
    "GET",
    `/containers/json?all=true&filters=${encodeURIComponent(JSON.stringify({ name: [volume] }))}`,
  );
  return z
    .array(z.object({ Id: z.string() }))
    .parse(json)
    .map(({ Id }) => Id);
}

/** The container a server fills through, left behind by one that died. */
async function abandonedFiller(): Promise<string> {
  const { json } = await rawEngine("POST", `/containers/create?name=${volume}-fill`, {
    Image: image_id,
    Entrypoint: ["/nonexistent"],
    HostConfig: {
      NetworkMode: "none",
      Mounts: [{ Type: "volume", Source: volume, Target: "/.chorus", VolumeOptions: { NoCopy: true } }],
    },
  });
  return z.object({ Id: z.string() }).parse(json).Id;
}

test("many sandboxes of two servers at once fill it once", async () => {
  await newGuest();
  const [one, two] = [server(), server()];
  await Promise.all([works(one), works(two), works(one), works(two)]);
  expect(await fillers()).toEqual([]);
});

test("a volume that a dead server left empty is filled", async () => {
  await newGuest();
  await rawEngine("POST", "/volumes/create", { Name: volume });
  await works(server());
});

test("a volume that a dead server left half filled is filled", async () => {
  await newGuest();
  const filler = await abandonedFiller();
  const engine = new EngineClient({ host: testEngineHost(), home: "/", uid: 0 });
  const { tar } = await import("../../../src/sandbox/backends/docker/tar.ts");
  const archive = tar([{ name: "guest", mode: 0o555, content: Buffer.from("\u007fELF half of it") }]);
  await engine.run({
    method: "PUT",
    path: `/containers/${filler}/archive`,
    query: { path: "/.chorus" },
    archive,
    action: "leave half",
  });
  await rawEngine("DELETE", `/containers/${filler}`);
  await works(server());
});

test("a container that a dead server left in the way is taken over", async () => {
  await newGuest();
  await abandonedFiller();
  await works(server());
  expect(await fillers()).toEqual([]);
}, 60_000);

test("a volume that was removed behind a server's back is filled again", async () => {
  await newGuest();
  const backend = server();
  await works(backend);
  await Promise.all(sandboxes.splice(0).map(({ id }) => backend.remove(id)));
  expect((await rawEngine("DELETE", `/volumes/${volume}`)).status).toBe(204);
  await works(backend);
});

test("a volume whose mark was pruned is not written to again", async () => {
  await newGuest();
  await works(server());
  expect((await rawEngine("DELETE", `/volumes/${volume}-complete`)).status).toBe(204);
  await works(server());
  expect((await rawEngine("GET", `/volumes/${volume}-complete`)).status).toBe(200);
});

test("an installation without the guest says so", async () => {
  const backend = testBackend({ guestBinary: () => "/nonexistent/guest" });
  backends.push(backend);
  await expect(backend.create(testSpec(image_id))).rejects.toMatchObject({
    code: "INTERNAL",
    message: expect.stringContaining("/nonexistent/guest"),
  });
});

describe("volumes of older versions", () => {
  const exists = async (name: string) => (await rawEngine("GET", `/volumes/${name}`)).status === 200;
  /** A server of this install, with a guest of its own version. */
  const serverOf = async (installId: string) => {
    await newGuest();
    const path = guestPath;
    const backend = testBackend({ guestBinary: () => path, installId });
    backends.push(backend);
    return { backend, volume };
  };

  test("go when a newer version of the same install tidies, and nothing else does", async () => {
    const [mine, theirs] = [newInstallId(), newInstallId()];
    const older = await serverOf(mine);
    const inUse = await serverOf(mine);
    const foreign = await serverOf(theirs);
    for (const { backend } of [older, inUse, foreign]) await works(backend);
    const idle = sandboxes.filter(({ backend }) => backend !== inUse.backend);
    await Promise.all(idle.map(({ backend, id }) => backend.remove(id)));
    const newer = await serverOf(mine);
    await works(newer.backend);

    expect(await newer.backend.tidy()).toBe(2);
    for (const name of [older.volume, `${older.volume}-complete`]) expect(await exists(name), name).toBe(false);
    for (const { volume: name } of [inUse, foreign, newer]) {
      expect(await exists(name), name).toBe(true);
      expect(await exists(`${name}-complete`), name).toBe(true);
    }
    expect(await newer.backend.tidy()).toBe(0);

    // An older server that still runs fills its volume anew.
    await works(older.backend);
    // What was in use goes once it is not.
    await Promise.all(sandboxes.map(({ backend, id }) => backend.remove(id)));
    expect(await newer.backend.tidy()).toBe(4);
    expect(await exists(inUse.volume)).toBe(false);
    for (const name of [foreign.volume, `${foreign.volume}-complete`]) await rawEngine("DELETE", `/volumes/${name}`);
  });

  test("a marker alone goes, too, and a server that lacks its binary removes nothing", async () => {
    const mine = newInstallId();
    const older = await serverOf(mine);
    await works(older.backend);
    await Promise.all(sandboxes.splice(0).map(({ backend, id }) => backend.remove(id)));
    const broken = testBackend({ guestBinary: () => "/nonexistent/guest", installId: mine });
    backends.push(broken);
    expect(await broken.tidy()).toBe(0);
    expect((await rawEngine("DELETE", `/volumes/${older.volume}`)).status).toBe(204);
    expect(await (await serverOf(mine)).backend.tidy()).toBe(1);
    expect(await exists(`${older.volume}-complete`)).toBe(false);
  });
});
