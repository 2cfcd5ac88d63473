// @ts-check
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canInstall, ensureProgram, findProgram } from "./apt.mjs";
import { SetupError } from "./errors.mjs";
import { run } from "./run.mjs";
import { tarOf } from "./tar.mjs";

/** @import { EngineApi } from "./engine-api.mjs" */
/** @import { TarEntry } from "./tar.mjs" */

/** The images tests run in: small, made in memory, with nothing to pull. */
export const TEST_IMAGES = /** @type {const} */ ({
  busybox: "chorus-sandbox/test:busybox",
  hostile: "chorus-sandbox/test:hostile",
  scratch: "chorus-sandbox/test:scratch",
});

const LOAD_LIMIT_MS = 60_000;
const HASH_LABEL = "dev.chorus.recipe";

/**
 * @param {EngineApi} api
 * @returns {Promise<string[]>} those that had to be made
 */
export async function ensureTestImages(api) {
  const root = await busyboxRoot();
  const made = [
    await ensure(api, TEST_IMAGES.busybox, root, { Cmd: ["/bin/sh"], Env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] }),
    await ensure(api, TEST_IMAGES.hostile, root, HOSTILE),
    await ensure(api, TEST_IMAGES.scratch, EMPTY_ROOT, {}),
  ];
  return made.filter((name) => name !== undefined);
}

/** Everything an image can declare to get in the way of whoever runs it. */
const HOSTILE = {
  User: "nobody",
  Entrypoint: ["/bin/false"],
  Cmd: ["never"],
  WorkingDir: "/nowhere",
  StopSignal: "SIGKILL",
  Volumes: { "/workspace": {}, "/data": {}, "/tmp": {} },
  ExposedPorts: { "22/tcp": {} },
  Healthcheck: { Test: ["CMD", "/bin/false"], Interval: 1_000_000_000, Timeout: 1_000_000_000, Retries: 1 },
  Env: [
    "PATH=/evil",
    "LD_PRELOAD=/evil.so",
    "LD_LIBRARY_PATH=/evil",
    "HOME=/evil",
    "BASH_ENV=/evil.sh",
    "ENV=/evil.sh",
    "GODEBUG=http2debug=2,gctrace=1",
    "GOMAXPROCS=1",
    "GOMEMLIMIT=1MiB",
    "GOTRACEBACK=crash",
  ],
  Labels: { "dev.chorus.sandbox": "forged", "dev.chorus.install_id": "forged" },
  OnBuild: ["RUN false"],
};

/** No shell, no user, no library: the least an image can be. @type {TarEntry[]} */
const EMPTY_ROOT = [
  { path: "etc" },
  { path: "data" },
  { path: "data/hello.txt", content: "hello from an empty image\n" },
];

/** @returns {Promise<TarEntry[]>} */
async function busyboxRoot() {
  const busybox = await staticBusybox();
  const { stdout } = await run(busybox, ["--list"], { timeoutMs: 10_000 });
  const applets = stdout.split("\n").filter((name) => name && name !== "busybox");
  return [
    ...["bin", "dev", "etc", "proc", "root", "run", "sys", "usr", "usr/bin", "var"].map((path) => ({ path })),
    { path: "tmp", mode: 0o1777 },
    { path: "bin/busybox", content: readFileSync(busybox), mode: 0o755 },
    ...applets.map((name) => ({ path: `bin/${name}`, target: "busybox" })),
    { path: "usr/bin/env", target: "/bin/busybox" },
    { path: "etc/passwd", content: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" },
    { path: "etc/group", content: "root:x:0:\nnogroup:x:65534:\n" },
  ];
}

/**
 * A static busybox: the machine's, or from Debian's package, which a user without rights can at least download.
 *
 * @returns {Promise<string>}
 */
async function staticBusybox() {
  const present = ["/bin/busybox", findProgram("busybox")].find((path) => path && isStatic(path));
  if (present) return present;
  if (canInstall()) return ensureProgram("busybox", ["busybox-static"]);
  if (!findProgram("apt-get")) {
    throw new SetupError("the test images need a static busybox", { next: "install busybox-static" });
  }
  const folder = mkdtempSync(join(tmpdir(), "chorus-busybox-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  await run("apt-get", ["download", "busybox-static"], { cwd: folder, timeoutMs: 120_000 });
  const [deb = ""] = readdirSync(folder);
  await run("dpkg-deb", ["-x", deb, "."], { cwd: folder, timeoutMs: 30_000 });
  return join(folder, "bin/busybox");
}

/** @param {string} path */
function isStatic(path) {
  try {
    const elf = readFileSync(path);
    // A dynamically linked program names its loader.
    return elf.subarray(0, 4).equals(Buffer.from("\u007fELF")) && !elf.subarray(0, 4096).includes("/ld-");
  } catch {
    return false;
  }
}

/**
 * Loads an image unless the same one is there. `docker load` is used because `docker import` cannot declare all of
 * what the hostile image declares.
 *
 * @param {EngineApi} api
 * @param {string} name
 * @param {readonly TarEntry[]} entries
 * @param {Record<string, unknown> & { Labels?: Record<string, string> }} config
 * @returns {Promise<string | undefined>} the name if it had to be made
 */
async function ensure(api, name, entries, config) {
  const layer = tarOf(entries);
  const digest = sha256(layer);
  const recipe = sha256(Buffer.from(digest + JSON.stringify(config))).slice(0, 16);
  if ((await api.image(name))?.Config?.Labels?.[HASH_LABEL] === recipe) return undefined;

  const { Arch } = (await api.call("GET", "/version")).json();
  const image = JSON.stringify({
    architecture: Arch,
    os: "linux",
    created: "2026-01-01T00:00:00Z",
    config: { ...config, Labels: { ...config.Labels, [HASH_LABEL]: recipe } },
    rootfs: { type: "layers", diff_ids: [`sha256:${digest}`] },
    history: [{ created: "2026-01-01T00:00:00Z", created_by: "chorus-sandbox test image" }],
  });
  const imageFile = `${sha256(Buffer.from(image))}.json`;
  const archive = tarOf([
    { path: "layer.tar", content: layer },
    { path: imageFile, content: image },
    {
      path: "manifest.json",
      content: JSON.stringify([{ Config: imageFile, RepoTags: [name], Layers: ["layer.tar"] }]),
    },
  ]);
  await api.call("POST", "/images/load", { query: { quiet: "1" }, tar: archive, timeoutMs: LOAD_LIMIT_MS });
  return name;
}

/** @param {Buffer} bytes */
function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}
