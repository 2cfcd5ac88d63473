import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { PassThrough } from "node:stream";
import { finished } from "node:stream/promises";
import { promisify } from "node:util";
import type Docker from "dockerode";
import { tar } from "../../src/sandbox/backends/docker/tar.ts";
import { engine } from "../support/engine.ts";
import { busybox, root, type TestServer } from "../support/server.ts";

/**
 * What an attack program said: `BREACH`, `REFUSED <errno>` in a line for each way it tried, or `UNTRIED`, which fails a
 * test whatever it expects.
 */
export interface Outcome {
  code: number | null;
  said: string;
}

/** Builds a Go program below `test/attacks` for the engine's host, without anything that is not in the toolchain. */
export async function buildProgram(folder: string): Promise<Buffer> {
  const cache = path.join(root, "node_modules/.cache/attacks");
  await mkdir(cache, { recursive: true });
  const out = await mkdtemp(path.join(cache, "build-"));
  try {
    const args = ["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path.join(out, "program"), "."];
    await promisify(execFile)("go", args, {
      cwd: path.join(import.meta.dirname, folder),
      env: { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOFLAGS: "" },
      timeout: 120_000,
    });
    return await readFile(path.join(out, "program"));
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}

/** What the tests of a file have made on the engine, so that a set-up that fails half way leaves nothing either. */
const made = new Set<AsyncDisposable>();

export async function removeAllMade(): Promise<void> {
  // Newest first: an image goes after the containers that were made from it.
  for (const one of [...made].reverse()) await one[Symbol.asyncDispose]();
}

/** An image as an attacker would make it: with the attack program, copies of it that hand out rights, and a secret of root's. */
export class AttackImage implements AsyncDisposable {
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
    made.add(this);
  }

  static async make(): Promise<AttackImage> {
    const program = await buildProgram("program");
    const [repo, tag] = ["chorus-sandbox/test", `attacks-${randomBytes(6).toString("hex")}`];
    await using container = await Unhardened.start(busybox, {}, program);
    const prepared = await container.run(["prepare"]);
    if (prepared.code !== 0) throw new Error(`the image could not be prepared: ${prepared.said}`);
    await container.commit(repo, tag);
    return new AttackImage(`${repo}:${tag}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (made.delete(this)) await engine().getImage(this.name).remove({ force: true });
  }
}

/** A container as `docker run` makes it, or with more of its walls left out: here an attack has to work. */
export class Unhardened implements AsyncDisposable {
  readonly #container: Docker.Container;

  private constructor(container: Docker.Container) {
    this.#container = container;
    made.add(this);
  }

  static async start(
    image: string,
    host: Docker.ContainerCreateOptions["HostConfig"] = {},
    program?: Buffer,
  ): Promise<Unhardened> {
    const container = await engine().createContainer({
      Image: image,
      Entrypoint: ["/attack", "idle"],
      Labels: { "dev.chorus.sandbox.test": "attacks" },
      // Bridges are not every engine's; what an attack needs of a network it is given.
      HostConfig: { NetworkMode: "none", Tmpfs: { "/tmp": "rw,exec" }, ...host },
    });
    try {
      if (program) await container.putArchive(tar([{ name: "attack", mode: 0o755, content: program }]), { path: "/" });
      await container.start();
      return new Unhardened(container);
    } catch (error) {
      await container.remove({ force: true });
      throw error;
    }
  }

  /** Runs an attack to its end, as root unless told otherwise. */
  async run(args: readonly string[], user = "0:0"): Promise<Outcome> {
    const { stream, code } = await this.begin(args, user);
    stream.resume();
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    await finished(stream);
    return { code: await code(), said: Buffer.concat(chunks).toString().trim() };
  }

  /** Starts an attack that goes on; what it says arrives in the stream. */
  async begin(args: readonly string[], user = "0:0") {
    const exec = await this.#container.exec({
      Cmd: ["/attack", ...args],
      User: user,
      AttachStdout: true,
      AttachStderr: true,
    });
    const raw = await exec.start({});
    const stream = new PassThrough();
    this.#container.modem.demuxStream(raw, stream, stream);
    raw.once("close", () => stream.end());
    raw.once("end", () => stream.end());
    return { stream, code: async () => (await exec.inspect()).ExitCode, pid: async () => (await exec.inspect()).Pid };
  }

  async commit(repo: string, tag: string): Promise<void> {
    await this.#container.commit({ repo, tag });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (made.delete(this)) await this.#container.remove({ force: true, v: true });
  }
}

/** Runs an attack in a sandbox to its end. */
export async function attackSandbox(
  server: TestServer,
  sandbox_id: string,
  args: readonly string[],
  more: Record<string, unknown> = {},
): Promise<Outcome> {
  const done = await server.ok("exec_run", {
    sandbox_id,
    argv: ["/attack", ...args],
    merge_stderr: true,
    wait_s: 40,
    ...more,
  });
  return {
    code: typeof done["exit_code"] === "number" ? done["exit_code"] : null,
    said: String(done["stdout"]).trim(),
  };
}
