import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { busybox, eventually, startServer, type TestServer } from "../support/server.ts";

/** The operator's file, from the environment to the engine, as an agent meets it. */
describe("under an operator's policy", () => {
  let folder: string;
  let server: TestServer;
  const file = () => path.join(folder, "policy.json");

  beforeAll(async () => {
    folder = mkdtempSync("/tmp/chorus-policy-");
    mkdirSync(path.join(folder, "in"));
    const policy = {
      images: ["chorus-sandbox/*"],
      profiles: ["strict", "dev"],
      capabilities: ["DAC_OVERRIDE", "FOWNER"],
      host_dirs: [`${folder}:ro`],
      proxy: { http: "http://proxy.example:3128" },
      ulimits: { nofile: 600 },
      sizes: { tmp_mb: "8m", shm_mb: "8m", workspace_inodes: 500 },
      defaults: { memory_mb: "256m", workspace_mb: "16m", ttl_s: "10m" },
      maxima: { memory_mb: "512m", sandboxes: 3 },
    };
    writeFileSync(file(), JSON.stringify(policy));
    server = await startServer({
      env: { CHORUS_SANDBOX_POLICY: file(), CHORUS_SANDBOX_HOST_DIRS: `${folder}/in:ro` },
    });
  });
  afterAll(async () => {
    const { sandboxes } = await server.ok("sandbox_list");
    for (const { sandbox_id } of sandboxes as { sandbox_id: string }[])
      await server.ok("sandbox_destroy", { sandbox_id });
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  const run = async (sandbox_id: unknown, command: string) =>
    String((await server.ok("exec_run", { sandbox_id, command }))["stdout"]).trim();
  const denials = async () => {
    const { events } = await server.ok("sandbox_events", { after: "start", types: ["policy.denied"], limit: 200 });
    return (events as { rule: string; sandbox_id: string }[]).map(({ rule, sandbox_id }) => [rule, sandbox_id]);
  };

  it("every sandbox has what the operator chose, and says so", async () => {
    const sandbox = await server.ok("sandbox_create");
    expect(sandbox).toMatchObject({
      profile: "strict",
      resources: { memory_mb: 256, workspace_mb: 16, tmp_mb: 8, shm_mb: 8, workspace_inodes: 500 },
      env_keys: [],
    });
    const id = sandbox["sandbox_id"];
    expect(await run(id, "echo $http_proxy $HTTP_PROXY; ulimit -n; df -k /tmp | awk 'NR > 1 { print $2 }'")).toBe(
      "http://proxy.example:3128 http://proxy.example:3128\n600\n8192",
    );
    await server.ok("sandbox_destroy", { sandbox_id: id });
  });

  it("what goes beyond it is refused, however it is spelled, with the rule, the way out, and an event", async () => {
    const before = (await denials()).length;
    for (const image of [
      "alpine",
      "docker.io/library/alpine",
      "index.docker.io/chorus-sandbox2/x",
      "evil.io/chorus-sandbox/x",
    ]) {
      const { error } = await server.call("sandbox_create", { image });
      expect(error, image).toMatchObject({ code: "POLICY_DENIED", next: expect.stringContaining(file()) });
      expect(error?.message).toContain("rule images");
    }
    expect((await server.call("sandbox_create", { memory_mb: 513 })).error?.next).toContain("raise maxima.memory_mb");
    const id = String((await server.ok("sandbox_create", { image: `docker.io/${busybox}` }))["sandbox_id"]);
    expect((await server.call("sandbox_update", { sandbox_id: id, memory_mb: 513 })).error?.code).toBe("POLICY_DENIED");
    const upload = { sandbox_id: id, host_path: path.join(folder, "policy.json"), path: "x" };
    expect((await server.call("file_upload", upload)).error?.code).toBe("POLICY_DENIED");
    expect((await denials()).slice(before)).toEqual([
      ...Array.from({ length: 4 }, () => ["images", "_host"]),
      ["maxima.memory_mb", "_host"],
      ["maxima.memory_mb", id],
      ["host_dirs", id],
    ]);
    await server.ok("sandbox_destroy", { sandbox_id: id });
  });

  it("dev is root with a writable root and the granted capabilities, and whoever looks can see it", async () => {
    const sandbox = await server.ok("sandbox_create", { profile: "dev" });
    const id = sandbox["sandbox_id"];
    const confined_by = { capabilities: ["DAC_OVERRIDE", "FOWNER"] };
    expect(sandbox).toMatchObject({ profile: "dev", confined_by });
    expect(await run(id, "id -u; touch /usr/new && ls /usr/new")).toBe("0\n/usr/new");
    const { events } = await server.ok("sandbox_events", {
      sandbox_id: id,
      after: "start",
      types: ["lifecycle.created"],
    });
    expect(events).toMatchObject([{ profile: "dev", confined_by, resources: { tmp_mb: 8 } }]);
    await server.ok("sandbox_destroy", { sandbox_id: id });
  });

  it("policy://effective shows all of it", async () => {
    const { contents } = await server.client.readResource({ uri: "policy://effective" });
    const [content] = contents;
    const policy: unknown = JSON.parse(content && "text" in content ? content.text : "null");
    expect(policy).toMatchObject({
      source: file(),
      images: ["docker.io/chorus-sandbox/*"],
      profiles: ["strict", "dev"],
      capabilities: ["DAC_OVERRIDE", "FOWNER"],
      host_dirs_ceiling: [{ path: folder, mode: "ro" }],
      host_dirs: [{ path: `${folder}/in`, mode: "ro" }],
      ulimits: { nofile: 600, core: 0 },
      sizes: { tmp_mb: 8, shm_mb: 8, workspace_inodes: 500 },
      maxima: { memory_mb: 512, sandboxes: 3, pids: 4096 },
      networks: ["none"],
    });
  });

  it("a limit below what is used is refused, and a higher one goes live", async () => {
    const id = String((await server.ok("sandbox_create"))["sandbox_id"]);
    const hog = "(head -c 200000000 /dev/zero; sleep 600) | tail -n 1";
    await server.ok("exec_run", { sandbox_id: id, command: hog, wait_s: 0 });
    const used = async () => {
      const { memory } = (await server.ok("sandbox_stats", { sandbox_id: id })) as { memory: { used_bytes: number } };
      return memory.used_bytes;
    };
    await eventually("memory is used", async () => (await used()) > 190_000_000, 60_000);
    const less = await server.call("sandbox_update", { sandbox_id: id, memory_mb: 16 });
    expect(less.error).toMatchObject({
      code: "LIMIT_EXCEEDED",
      message: expect.stringContaining("nothing was changed"),
    });
    expect(await used()).toBeGreaterThan(190_000_000);
    const more = await server.ok("sandbox_update", { sandbox_id: id, memory_mb: 500, cpus: 0.5 });
    expect(more).toMatchObject({ resources: { memory_mb: 500, cpus: 0.5, tmp_mb: 8 } });
    const { memory } = (await server.ok("sandbox_stats", { sandbox_id: id })) as { memory: { limit_bytes: number } };
    expect(memory.limit_bytes).toBe((500 + 16 + 8 + 8 + 96) * 2 ** 20);
    await server.ok("sandbox_destroy", { sandbox_id: id });
  });

  it("a runtime the engine does not name is an error with the names it has", async () => {
    const other = path.join(folder, "other.json");
    writeFileSync(other, JSON.stringify({ runtimes: ["no-such-runtime"] }));
    await using elsewhere = await startServer({ env: { CHORUS_SANDBOX_POLICY: other } });
    expect((await elsewhere.call("sandbox_create")).error).toMatchObject({
      code: "BACKEND_UNAVAILABLE",
      message: expect.stringMatching(/no-such-runtime; it names \w+/),
      retryable: false,
    });
    expect((await elsewhere.ok("sandbox_list"))["sandboxes"]).toEqual([]);
  });
});
