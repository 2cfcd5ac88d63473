import { describe, expect, it, vi } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import { call, fakeOf, recordOf, told, World } from "../../support/core.ts";
import { eventually } from "../../support/server.ts";

describe("an update", () => {
  it("changes every field at engine, guest and store, and tells which, never what the env holds", async () => {
    const world = new World();
    const process = await world.process();
    const id = await process.create({ labels: { keep: "1", drop: "2" }, env: { A: "first-a", B: "first-b" } });
    const view = await process.service.update(
      id,
      {
        ...{ ttl_s: 500, idle_s: 400, cpus: 2, memory_mb: 256, pids: 128 },
        ...{ labels: { drop: null, add: "3" }, env: { A: null, C: "third-c" } },
      },
      call,
    );
    expect(view).toMatchObject({
      ...{ labels: { keep: "1", add: "3" }, env_keys: ["B", "C"] },
      resources: { cpus: 2, memory_mb: 256, pids: 128, workspace_mb: 512 },
    });
    expect(view.expires_in_s).toBeLessThanOrEqual(500);
    expect(view.idle_in_s).toBeLessThanOrEqual(400);
    const { guest } = fakeOf(world.engine, id);
    expect(guest.options.limits).toMatchObject({ cpus: 2, memory_mb: 256, pids: 128 });
    expect(Object.fromEntries(guest.env)).toEqual({ B: "first-b", C: "third-c" });
    const [updated, ...others] = told(process.store, id, "lifecycle.updated");
    expect(others).toEqual([]);
    expect(updated).toMatchObject({
      labels: { keep: "1", add: "3" },
      actor: { kind: "agent", client: "tests/1" },
      changed: {
        labels: { old: { keep: "1", drop: "2" }, new: { keep: "1", add: "3" } },
        env_keys: { old: ["A", "B"], new: ["B", "C"] },
        resources: { old: { cpus: 1 }, new: { cpus: 2 } },
        ttl_s: { old: 3600, new: 500 },
        idle_s: { old: 900, new: 400 },
      },
    });
    expect(JSON.stringify(updated)).not.toMatch(/first-|third-/);
  });

  it("that changes nothing tells nothing, but a lease asked for anew is news", async () => {
    const process = await new World().process();
    const id = await process.create({ labels: { a: "1" } });
    await process.service.update(id, { labels: { a: "1", gone: null }, paused: false }, call);
    expect(told(process.store, id, "lifecycle.updated")).toEqual([]);
    await process.service.update(id, { ttl_s: 3600 }, call);
    expect(told(process.store, id, "lifecycle.updated")).toMatchObject([
      { changed: { ttl_s: { old: 3600, new: 3600 } } },
    ]);
  });

  it("beyond the policy is refused, told, and changes nothing", async () => {
    const process = await new World().process();
    const id = await process.create();
    const refused = process.service.update(id, { cpus: 2, memory_mb: 100_000 }, call);
    await expect(refused).rejects.toMatchObject({ code: "POLICY_DENIED" });
    expect(told(process.store, id, "policy.denied")).toMatchObject([
      { what: "memory_mb", requested: 100_000, allowed: 4096, rule: "maxima.memory_mb" },
    ]);
    expect(recordOf(process.store, id).resources.cpus).toBe(1);
  });
});

describe("memory for all sandboxes of the install", () => {
  // Two of the default size, and room for one of them to grow by 500 MiB.
  const policy = { maxima: { memory_total_mb: 2 * (512 + 512 + 128 + 64 + 96) + 600 } };

  it("is given out once, whichever processes ask at the same moment", async () => {
    const world = new World({ policy });
    const [one, two] = [await world.process(), await world.process()];
    const ids = [await one.create(), await one.create()];
    const grown = await Promise.allSettled(
      [one, two].map((process, i) => process.service.update(ids[i] ?? "", { memory_mb: 1012 }, call)),
    );
    const failures = grown.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
    expect(failures).toMatchObject([{ code: "LIMIT_EXCEEDED", next: expect.stringMatching(/Destroy one/) }]);
    expect(ids.map((id) => recordOf(one.store, id).resources.memory_mb).sort()).toEqual([1012, 512]);
    await expect(two.create({ memory_mb: 16, workspace_mb: 1 })).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
  });

  it("is given back when the engine does not follow", async () => {
    const process = await new World({ policy }).process();
    const [id = "", other = ""] = [await process.create(), await process.create()];
    vi.spyOn(process.backend, "update").mockRejectedValueOnce(new SandboxError("LIMIT_EXCEEDED", "No."));
    await expect(process.service.update(id, { memory_mb: 1012 }, call)).rejects.toMatchObject({ message: "No." });
    await process.service.update(other, { memory_mb: 1012 }, call);
    expect(recordOf(process.store, other)).not.toHaveProperty("growing_to_mb");
  });
});

it("a refused create is told under the host's own subject", async () => {
  const process = await new World({ policy: { images: ["docker.io/library/*"] } }).process();
  await expect(process.create({ image: "evil.example/x:1" })).rejects.toMatchObject({ code: "POLICY_DENIED" });
  await expect(process.create({ image: "docker.io/library/alpine:3", network: "open" })).rejects.toMatchObject({
    code: "POLICY_DENIED",
  });
  expect(told(process.store, "_host", "policy.denied")).toMatchObject([
    { what: "image", requested: "evil.example/x:1", rule: "images", actor: { client: "tests/1" } },
    { what: "network", requested: "open", rule: "networks" },
  ]);
  expect(process.store.liveSandboxes()).toEqual([]);
});

it("lists page by page, newest first, and filter by state, labels and origin", async () => {
  const process = await new World().process();
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.unshift(await process.create({ labels: { odd: String(i % 2) } }));
  const elsewhere = { ...call, folder: "/elsewhere" };
  ids.unshift((await process.service.create({ name: "far" }, elsewhere)).sandbox_id);
  const ask = async (request: Parameters<typeof process.service.list>[0]) =>
    (await process.service.list(request, call)).sandboxes.map(({ sandbox_id }) => sandbox_id);
  const seen: string[] = [];
  for (let cursor: string | undefined; ; ) {
    const { sandboxes, next_cursor } = await process.service.list({ limit: 4, ...(cursor && { cursor }) }, call);
    seen.push(...sandboxes.map(({ sandbox_id }) => sandbox_id));
    if (next_cursor === undefined) break;
    cursor = next_cursor;
  }
  expect(seen).toEqual(ids);
  expect(await ask({ labels: { odd: "1" } })).toEqual([ids[2], ids[4]]);
  expect(await ask({ here: true })).toEqual(ids.slice(1));
  await process.service.destroy(ids[1] ?? "", call);
  await process.service.update(ids[2] ?? "", { paused: true }, call);
  expect(await ask({})).toEqual(ids.filter((_, i) => i !== 1));
  expect(await ask({ include_ended: true })).toEqual(ids);
  expect(await ask({ state: "ended" })).toEqual([ids[1]]);
  expect(await ask({ state: "paused" })).toEqual([ids[2]]);
  // The row a page ended with may end in between.
  expect(await ask({ cursor: ids[1] })).toEqual(ids.slice(2));
  await expect(ask({ cursor: "sb_nothing" })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

it("stats give the share of cpu since the sample before, and of the whole time at first", async () => {
  const world = new World();
  const process = await world.process();
  const id = await process.create();
  const { guest } = fakeOf(world.engine, id);
  const stats = guest.stats();
  const sample = (usage_ms: number | null, uptime_ms: number) => {
    guest.stats = () => ({ ...stats, uptime_ms, cpu: { ...stats.cpu, usage_ms } }) as typeof stats;
    return process.service.stats(id, call).then(({ cpu }) => cpu.usage_pct);
  };
  expect(await sample(500, 1_000)).toBe(50);
  expect(await sample(600, 1_100)).toBe(100);
  expect(await sample(1_000, 2_000)).toBe(50);
  expect(await sample(3_000, 3_000)).toBe(200);
  // A guest that counts backwards tells nothing.
  expect(await sample(0, 4_000)).toBeNull();
  expect(await sample(null, 5_000)).toBeNull();
});

it("samples of running sandboxes come from the keeper", async () => {
  const process = await new World().process();
  const seen: string[] = [];
  await process.keep({ onStats: (record) => seen.push(record.sandbox_id), timing: { sampleMs: 10 } });
  const id = await process.create();
  await eventually("a sample comes", () => seen.includes(id));
});

it("a wrong name costs a bounded look", async () => {
  const process = await new World().process();
  const id = await process.create({ name: "old" });
  await process.service.destroy(id, call);
  let read = 0;
  const sandboxes = process.store.sandboxes.bind(process.store);
  vi.spyOn(process.store, "sandboxes").mockImplementation(function* (options) {
    const [record] = sandboxes(options);
    for (; record && read < 100_000; read++) yield record;
  });
  await expect(process.exec("nobody", "true")).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
  expect(read).toBeLessThan(5_000);
});
