// @ts-check
import { ensureProgram } from "./apt.mjs";
import { SetupError } from "./errors.mjs";
import { run } from "./run.mjs";

/** What set-up takes as given, and the oldest version that will do. */
const REQUIRED = [
  {
    name: "Node.js",
    command: ["node", "--version"],
    least: [20, 19],
    next: "install Node.js 20.19 or newer: https://nodejs.org",
  },
  {
    name: "npm",
    command: ["npm", "--version"],
    least: [9, 0],
    next: "install npm, it comes with Node.js: https://nodejs.org",
  },
  {
    name: "git",
    command: ["git", "--version"],
    least: [2, 20],
    next: "install git, on Debian: sudo apt-get install -y git",
  },
  {
    name: "Go",
    command: ["go", "env", "GOVERSION"],
    least: [1, 24],
    next: "install Go 1.24 or newer: https://go.dev/doc/install",
  },
];

/** What only tests use, and the Debian package that brings it. */
const OF_TESTS = /** @type {const} */ ([
  ["python3", "python3"],
  ["ps", "procps"],
  ["pkill", "procps"],
  ["openssl", "openssl"],
  ["docker-registry", "docker-registry"],
]);

/**
 * Installed where that is possible, as engine and nats-server are.
 *
 * @returns {Promise<string>} which they are
 */
export async function ensureTestPrograms() {
  for (const [program, bringer] of OF_TESTS) await ensureProgram(program, [bringer]);
  return OF_TESTS.map(([program]) => program).join(" · ");
}

/**
 * Names everything that is missing or too old at once.
 *
 * @returns {Promise<string>} the versions found
 */
export async function checkPrograms() {
  const found = await Promise.all(REQUIRED.map(check));
  const problems = found.filter(({ problem }) => problem !== undefined);
  if (problems.length > 0) {
    throw new SetupError(problems.map(({ problem }) => problem).join("\n"), {
      next: problems.map(({ next }) => next).join("; "),
    });
  }
  return found.map(({ name, version }) => `${name} ${version}`).join(" · ");
}

/** @param {(typeof REQUIRED)[number]} requirement */
async function check({ name, command: [program = "", ...args], least, next }) {
  const env = { ...process.env, GOTOOLCHAIN: "local" };
  const said = await run(program, args, { timeoutMs: 20_000, env }).catch(() => undefined);
  const version = /\d+\.\d+(\.\d+)?/.exec(said?.stdout ?? "")?.[0];
  if (!version) return { name, version, next, problem: `${name} is missing` };
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [leastMajor = 0, leastMinor = 0] = least;
  const isEnough = major > leastMajor || (major === leastMajor && minor >= leastMinor);
  return { name, version, next, problem: isEnough ? undefined : `${name} ${version} is older than ${least.join(".")}` };
}
