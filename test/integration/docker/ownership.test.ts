import { afterAll, expect, test } from "vitest";
import { z } from "zod";
import { newSandboxId } from "../../../src/sandbox/ids.ts";
import { newInstallId, rawEngine, testBackend, testImage, testSpec } from "../../support/docker.ts";

const installId = newInstallId();
const backend = testBackend({ installId });
const foreign: string[] = [];

afterAll(async () => {
  await Promise.all(foreign.map((id) => rawEngine("DELETE", `/containers/${id}?force=true&v=true`)));
  await backend[Symbol.asyncDispose]();
});

/** A container of somebody else, with these labels. */
async function container(name: string, Labels: Record<string, string>): Promise<string> {
  const { json } = await rawEngine("POST", `/containers/create?name=${name}`, {
    Image: testImage("busybox"),
    Entrypoint: ["/bin/sleep", "600"],
    Labels,
    HostConfig: { NetworkMode: "none" },
  });
  const { Id } = z.object({ Id: z.string() }).parse(json);
  foreign.push(Id);
  return Id;
}

test("what is not this install's is neither listed nor touched", async () => {
  const other = newSandboxId();
  const copied = newSandboxId();
  const ids = [
    await container(other, { "dev.chorus.sandbox.install": "another", "dev.chorus.sandbox.id": other }),
    // Made from an image that was committed from one of our sandboxes, and so with its labels.
    await container(`mine-${copied}`, { "dev.chorus.sandbox.install": installId, "dev.chorus.sandbox.id": copied }),
    await container(newSandboxId(), {}),
  ];
  expect(await backend.list()).toEqual([]);
  for (const name of [other, copied, `mine-${copied}`, ids[0] ?? ""]) {
    expect(await backend.status(name)).toBeUndefined();
    await backend.kill(name);
    await backend.remove(name);
    await expect(backend.connect(name)).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
    await expect(backend.lastWords(name)).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
  }
  for (const id of ids) expect((await rawEngine("GET", `/containers/${id}/json`)).status).toBe(200);
});

test("what was created but never started is listed and can be removed", async () => {
  const id = newSandboxId();
  await container(id, { "dev.chorus.sandbox.install": installId, "dev.chorus.sandbox.id": id });
  expect(await backend.list()).toMatchObject([{ sandbox_id: id, state: "created" }]);
  await backend.kill(id);
  expect(await backend.lastWords(id)).toEqual([]);
  await backend.remove(id);
  expect(await backend.list()).toEqual([]);
});

test("a name that is taken is a conflict, and its holder stays", async () => {
  const { image_id } = await backend.resolveImage(testImage("busybox"));
  const spec = testSpec(image_id);
  const holder = await container(spec.sandbox_id, {});
  await expect(backend.create(spec)).rejects.toMatchObject({ code: "CONFLICT" });
  expect((await rawEngine("GET", `/containers/${holder}/json`)).status).toBe(200);
});
