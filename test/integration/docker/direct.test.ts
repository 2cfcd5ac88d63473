import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, it, onTestFinished } from "vitest";
import type { SandboxBackend } from "../../../src/sandbox/backend.ts";
import { directStream } from "../../../src/sandbox/backends/docker/direct.ts";
import { connectGuest } from "../../../src/sandbox/guest/client.ts";
import { newInstallId, rawEngine, testBackend, testImage, testSpec } from "../../support/docker.ts";

async function sandbox(backend: SandboxBackend): Promise<string> {
  const { image_id } = await backend.resolveImage(testImage("busybox"));
  const spec = testSpec(image_id);
  onTestFinished(() => backend.remove(spec.sandbox_id));
  await backend.create(spec);
  return spec.sandbox_id;
}

/** What runs in a sandbox, as the engine sees it. */
async function processes(id: string): Promise<string[]> {
  const { json } = await rawEngine("GET", `/containers/${id}/top`);
  return (json as { Processes: string[][] }).Processes.map((row) => row.at(-1) ?? "");
}

it("reaches the guest without a process of its own in the sandbox, or else through one", async () => {
  const installId = newInstallId();
  const backend = testBackend({ installId });
  const id = await sandbox(backend);
  await using direct = connectGuest(await backend.connect(id));
  expect(await direct.health()).toMatchObject({ sandbox_id: id });
  expect(await processes(id)).toEqual([expect.stringContaining("guest serve")]);

  await using bridged = connectGuest(await testBackend({ installId, direct: false }).connect(id));
  expect(await bridged.health()).toMatchObject({ sandbox_id: id });
  expect(await processes(id)).toEqual([
    expect.stringContaining("guest serve"),
    expect.stringContaining("guest connect"),
  ]);
});

/** A container that does what a captured guest could; its id and pid. */
async function captured(script: string): Promise<{ id: string; pid: number }> {
  const body = {
    Image: testImage("busybox"),
    Entrypoint: ["/bin/sh", "-c", `mkdir -p /run; ${script}; exec sleep 600`],
    HostConfig: { NetworkMode: "none" },
  };
  const { json } = await rawEngine("POST", "/containers/create", body);
  const id = (json as { Id: string }).Id;
  onTestFinished(async () => void (await rawEngine("DELETE", `/containers/${id}?force=true`)));
  await rawEngine("POST", `/containers/${id}/start`);
  const inspected = await rawEngine("GET", `/containers/${id}/json`);
  return { id, pid: (inspected.json as { State: { Pid: number } }).State.Pid };
}

it.each([
  [
    "a link in the socket's place",
    (host: string) => `mkdir -p /run/chorus; ln -s ${host}/guest.sock /run/chorus/guest.sock`,
  ],
  ["a link in its folder's place", (host: string) => `rm -rf /run/chorus; ln -s ${host} /run/chorus`],
  ["a link above", (host: string) => `rm -rf /run; ln -s ${host}/.. /run`],
  ["a file in the socket's place", () => "mkdir -p /run/chorus; echo > /run/chorus/guest.sock"],
  ["a pipe in the socket's place", () => "mkdir -p /run/chorus; mkfifo /run/chorus/guest.sock"],
])("never follows %s to the host", async (_what, script) => {
  const host = path.join(mkdtempSync(path.join(tmpdir(), "chorus-direct-")), "chorus");
  mkdirSync(host);
  let met = 0;
  const server = createServer((socket) => {
    met += 1;
    socket.destroy();
  }).listen(path.join(host, "guest.sock"));
  onTestFinished(() => {
    server.close();
    rmSync(path.dirname(host), { recursive: true, force: true });
  });
  const { id, pid } = await captured(script(host));
  expect(await directStream(id, pid, undefined)).toBeUndefined();
  expect(met).toBe(0);
});

it("takes no process for a sandbox that is not in its container", async () => {
  const id = await sandbox(testBackend());
  const { json } = await rawEngine("GET", `/containers/${id}/json`);
  const { Id, State } = json as { Id: string; State: { Pid: number } };
  const stream = await directStream(Id, State.Pid, undefined);
  expect(stream).toBeDefined();
  stream?.destroy();
  expect(await directStream("0".repeat(64), State.Pid, undefined)).toBeUndefined();
  expect(await directStream(Id, process.pid, undefined)).toBeUndefined();
});
