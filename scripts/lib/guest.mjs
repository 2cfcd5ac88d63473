// @ts-check
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { SetupError } from "./errors.mjs";
import { GUEST_OUTPUT, GUEST_SOURCE } from "./repository.mjs";
import { run } from "./run.mjs";

const BUILD_LIMIT_MS = 5 * 60_000;
const ARCHITECTURES = ["amd64", "arm64"];

/**
 * Builds the guest for every architecture an engine may have, unless the sources are those it was built from.
 *
 * @returns {Promise<string>} what was done
 */
export async function ensureGuest() {
  const stamp = join(GUEST_OUTPUT, "source.sha256");
  const hash = await sourceHash();
  const outputs = ARCHITECTURES.map((arch) => join(GUEST_OUTPUT, `chorus-guest-linux-${arch}`));
  if (outputs.every(existsSync) && existsSync(stamp) && readFileSync(stamp, "utf8") === hash) return "up to date";
  const main = await mainPackage();
  mkdirSync(GUEST_OUTPUT, { recursive: true });
  for (const arch of ARCHITECTURES) {
    const output = join(GUEST_OUTPUT, `chorus-guest-linux-${arch}`);
    await go(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", `${output}.new`, main], {
      GOOS: "linux",
      GOARCH: arch,
    });
    // Replaced at once: a server that starts in the middle must not inject half a guest.
    renameSync(`${output}.new`, output);
  }
  writeFileSync(stamp, hash);
  return `built for ${ARCHITECTURES.join(", ")}`;
}

async function mainPackage() {
  const { stdout } = await go(["list", "-f", '{{if eq .Name "main"}}{{.ImportPath}}{{end}}', "./..."]);
  const [main] = stdout.split("\n").filter(Boolean);
  if (!main) throw new SetupError(`${GUEST_SOURCE} has no main package`);
  return main;
}

/**
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 */
function go(args, env = {}) {
  return run("go", args, {
    cwd: GUEST_SOURCE,
    timeoutMs: BUILD_LIMIT_MS,
    // The installed compiler, never one downloaded behind our back.
    env: { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local", ...env },
  });
}

async function sourceHash() {
  const { stdout: version } = await go(["version"]);
  const hash = createHash("sha256").update(version);
  for (const path of filesBelow(GUEST_SOURCE).filter(
    (name) => /(\.go|go\.mod|go\.sum)$/.test(name) && !name.endsWith("_test.go"),
  )) {
    hash.update(`${relative(GUEST_SOURCE, path)}\0`).update(readFileSync(path));
  }
  return hash.digest("hex");
}

/**
 * @param {string} folder
 * @returns {string[]}
 */
function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}
