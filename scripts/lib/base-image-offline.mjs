// @ts-check
import { createReadStream, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { canInstall, ensureProgram } from "./apt.mjs";
import { devDir } from "./dev-dir.mjs";
import { SetupError } from "./errors.mjs";
import { run } from "./run.mjs";

/** @import { EngineApi } from "./engine-api.mjs" */

/**
 * The default image without any registry of images: Debian's packages through the mirror, proxy and keys this machine's
 * apt is configured with, and npm through its npm.
 */

const BOOTSTRAP_LIMIT_MS = 15 * 60_000;
const IMPORT_LIMIT_MS = 5 * 60_000;
const ARCHITECTURES = /** @type {Record<string, string>} */ ({ x64: "amd64", arm64: "arm64" });

/**
 * Why it cannot be done here.
 *
 * @param {EngineApi} api
 * @returns {Promise<string | undefined>}
 */
export async function offlineObstacle(api) {
  if (!canInstall()) return "Making it from Debian packages needs root on Debian.";
  const { Arch } = (await api.call("GET", "/version")).json();
  if (Arch !== ARCHITECTURES[process.arch]) return `The engine runs on ${Arch}, packages here are for ${process.arch}.`;
  return undefined;
}

/**
 * The caller holds the image's lock.
 *
 * @param {EngineApi} api
 * @param {string} image
 * @param {{ recipeDir: string, files: Map<string, Buffer>, changes: readonly string[] }} recipe
 */
export async function makeOffline(api, image, { recipeDir, files, changes }) {
  const work = workFolder();
  try {
    const npm = await fetchNpm(String(files.get("npm-version.txt")).trim(), work);
    const archive = join(work, "root.tar");
    await bootstrap({ archive, work, npm, recipeDir, packages: String(files.get("packages.txt")).trim().split("\n") });
    const [repo = image, tag = "latest"] = image.split(":");
    await api.call("POST", "/images/create", {
      query: { fromSrc: "-", repo, tag, changes },
      tar: createReadStream(archive),
      timeoutMs: IMPORT_LIMIT_MS,
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** A fresh folder; what killed runs left beside it goes, since the lock says that nobody else works here. */
function workFolder() {
  const parent = join(devDir(), "work");
  mkdirSync(parent, { recursive: true });
  for (const stale of readdirSync(parent)) rmSync(join(parent, stale), { recursive: true, force: true });
  return mkdtempSync(join(parent, "base-"));
}

/**
 * @param {string} version
 * @param {string} work
 * @returns {Promise<string>} the folder of npm itself
 */
async function fetchNpm(version, work) {
  await run("npm", ["pack", `npm@${version}`, "--silent", "--pack-destination", work], {
    cwd: work,
    timeoutMs: 3 * 60_000,
  });
  await run("tar", ["-xzf", `npm-${version}.tgz`, "--no-same-owner"], { cwd: work, timeoutMs: 60_000 });
  const target = join(work, "modules", "npm");
  mkdirSync(join(work, "modules"));
  await run("mv", ["package", target], { cwd: work, timeoutMs: 10_000 });
  return target;
}

/** @param {{ archive: string, work: string, npm: string, recipeDir: string, packages: readonly string[] }} options */
async function bootstrap({ archive, work, npm, recipeDir, packages }) {
  const mmdebstrap = await ensureProgram("mmdebstrap", ["mmdebstrap"]);
  const { release, lines } = await aptSources();
  const modules = "/usr/local/lib/node_modules";
  // biome-ignore format: one option a line reads best
  const options = [
    "--mode=root", "--variant=minbase", "--format=tar",
    `--include=${packages.join(",")}`,
    ...(await aptOptions()).map((option) => `--aptopt=${option}`),
    "--aptopt=APT::Install-Recommends \"false\"",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    `--customize-hook=mkdir -p "$1${modules}" && cp -r --no-preserve=ownership "$CHORUS_NPM" "$1${modules}/npm"`,
    '--customize-hook=cp "$CHORUS_FINISH" "$1/finish.sh" && chroot "$1" sh /finish.sh && rm "$1/finish.sh"',
  ];
  // In namespaces of its own, and bound to this process's life: however it ends, no mount and no process stays behind.
  const wrapper = ["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
  await run("setpriv", [...wrapper, mmdebstrap, ...options, release, archive, "-"], {
    input: lines.join("\n"),
    env: {
      ...process.env,
      TMPDIR: work,
      DEBIAN_FRONTEND: "noninteractive",
      CHORUS_NPM: npm,
      CHORUS_FINISH: join(recipeDir, "finish.sh"),
    },
    timeoutMs: BOOTSTRAP_LIMIT_MS,
  });
  if (!existsSync(archive)) throw new SetupError("mmdebstrap said it succeeded and wrote no archive");
}

/**
 * Where apt here gets Debian itself from, as apt understands its configuration; other vendors' archives do not belong
 * in the image.
 */
async function aptSources() {
  const format = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CODENAME)";
  const list = () =>
    run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"], { timeoutMs: 30_000 });
  let { stdout } = await list();
  if (!stdout.includes("Debian|")) {
    await run("apt-get", ["update"], { timeoutMs: 3 * 60_000 });
    ({ stdout } = await list());
  }
  const rows = stdout.split("\n").map((line) => line.split("|"));
  const debian = rows.filter(([origin]) => origin === "Debian");
  // The release itself is the one whose name has no suffix such as -security.
  const release = debian.map(([, , , , codename = ""]) => codename).find((codename) => /^[a-z]+$/.test(codename));
  if (!release) throw new SetupError("apt has no source of Debian itself", { next: "check /etc/apt/sources.list*" });
  const lines = debian.map(([, uri, suite, component]) => `deb ${uri} ${suite} ${component}`);
  return { release, lines: [...new Set(lines)] };
}

/** How apt here reaches its sources: proxies, time-outs, checks, credentials. */
async function aptOptions() {
  const { stdout } = await run("apt-config", ["dump"], { timeoutMs: 10_000 });
  const network = /^(Acquire::(https?|ftp|Check|Allow|Retries|Force|Queue)[^ ]*|Acquire::Languages(::)?) ".+";$/;
  return [
    ...stdout
      .split("\n")
      .filter((line) => network.test(line))
      .map((line) => line.replace(/;$/, "")),
    'Dir::Etc::netrc "/etc/apt/auth.conf"',
    'Dir::Etc::netrcparts "/etc/apt/auth.conf.d"',
  ];
}
