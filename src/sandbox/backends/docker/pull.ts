import { z } from "zod";
import { hasCode, quoted, SandboxError } from "../../../errors.ts";
import type { ImageReference } from "../../image-reference.ts";
import type { EngineClient } from "./client.ts";
import { jsonLines } from "./json-lines.ts";
import { orAborted } from "./limits.ts";
import type { RegistryAuth } from "./registry-auth.ts";

const pullLine = z.object({
  id: z.string().optional(),
  status: z.string().optional(),
  error: z.string().optional(),
  progressDetail: z.object({ current: z.number().optional(), total: z.number().optional() }).optional(),
});
type PullLine = z.infer<typeof pullLine>;

/** A registry that sends nothing for so long has given up. */
const stalledAfterMs = 120_000;
const progressEveryMs = 250;

export interface PullOptions {
  signal?: AbortSignal;
  onProgress?: (message: string) => void;
  auth?: RegistryAuth;
}

/** Pulls an image; tells how far it is in one line, at most four times a second. */
export async function pullImage(engine: EngineClient, reference: ImageReference, options: PullOptions): Promise<void> {
  const stop = new AbortController();
  const onAbort = () => stop.abort(options.signal?.reason);
  options.signal?.addEventListener("abort", onAbort, { once: true });
  if (options.signal?.aborted) onAbort();
  const stalled = setTimeout(() => stop.abort(new Error("stalled")), stalledAfterMs);
  try {
    const stream = await engine.stream({
      method: "POST",
      path: "/images/create",
      query: { fromImage: reference.repository, tag: reference.digest ?? reference.tag ?? "latest" },
      action: `pull ${reference.full}`,
      notFound: "IMAGE_NOT_FOUND",
      ...(options.auth && { headers: { "X-Registry-Auth": options.auth.header } }),
      limitMs: stalledAfterMs,
      signal: stop.signal,
    });
    const progress = new PullProgress(reference.full, options.onProgress);
    for await (const value of jsonLines(stream)) {
      stalled.refresh();
      const line = pullLine.safeParse(value).data;
      if (line?.error !== undefined) throw new Error(line.error);
      if (line !== undefined) progress.add(line);
    }
  } catch (error) {
    if (options.signal?.aborted) await orAborted(Promise.reject(error), options.signal);
    throw pullFailure(error, reference, stop.signal.aborted, options.auth);
  } finally {
    clearTimeout(stalled);
    options.signal?.removeEventListener("abort", onAbort);
    stop.abort();
  }
}

function pullFailure(
  error: unknown,
  reference: ImageReference,
  stalled: boolean,
  auth: RegistryAuth | undefined,
): SandboxError {
  if (stalled) {
    return new SandboxError(
      "IMAGE_PULL_FAILED",
      `Pulling ${reference.full} stalled: nothing came for ${stalledAfterMs / 1000} s.`,
      {
        cause: error,
      },
    );
  }
  if (hasCode(error, "BACKEND_UNAVAILABLE")) return error;
  const words = withoutSecrets(engineWords(error), auth?.secrets ?? []);
  const says = `the engine says ${quoted(words)}`;
  // The cause may have the words as they were.
  const cause = auth === undefined ? { cause: error } : {};
  const registry = reference.domain;
  if (/no basic auth credentials|unauthorized|authentication required|incorrect username or password/i.test(words)) {
    return new SandboxError(
      "IMAGE_PULL_FAILED",
      auth === undefined
        ? `The registry ${registry} wants a login to pull ${reference.full}: ${says}`
        : `The registry ${registry} refused this user's Docker credentials for ${reference.full}: ${says}`,
      {
        ...cause,
        next: `Run \`docker login ${registry}\` as the user the server runs as, then create the sandbox again.`,
        retryable: false,
      },
    );
  }
  if (
    /not found|manifest unknown|does not exist|no such image|repository name not known|name unknown|denied/i.test(words)
  ) {
    return new SandboxError("IMAGE_NOT_FOUND", `There is no image ${reference.full} to pull: ${says}`, {
      ...cause,
      next: `Check the image's name and tag; for a private image, run \`docker login ${registry}\` as the user the server runs as. Or leave \`image\` out to use the default image.`,
    });
  }
  return new SandboxError("IMAGE_PULL_FAILED", `Pulling ${reference.full} failed: ${says}`, cause);
}

function withoutSecrets(words: string, secrets: readonly string[]): string {
  return secrets.reduce((text, secret) => text.replaceAll(secret, "***"), words);
}

function engineWords(error: unknown): string {
  const cause = error instanceof SandboxError ? error.cause : error;
  if (cause instanceof Error) return "words" in cause && typeof cause.words === "string" ? cause.words : cause.message;
  return String(cause);
}

interface Layer {
  current: number;
  total: number;
  done: boolean;
}

/** Adds the lines of many layers up to one. */
export class PullProgress {
  readonly #name: string;
  readonly #tell: ((message: string) => void) | undefined;
  readonly #now: () => number;
  readonly #layers = new Map<string, Layer>();
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(
    name: string,
    tell: ((message: string) => void) | undefined,
    now: () => number = () => performance.now(),
  ) {
    this.#name = name;
    this.#tell = tell;
    this.#now = now;
  }

  add(line: PullLine): void {
    if (line.id === undefined || line.status === undefined || this.#tell === undefined) return;
    if (
      !/^(Pulling fs layer|Waiting|Downloading|Verifying|Download complete|Extracting|Pull complete|Already exists)/.test(
        line.status,
      )
    )
      return;
    if (this.#layers.size >= 1_000 && !this.#layers.has(line.id)) return;
    const layer = this.#layers.get(line.id) ?? { current: 0, total: 0, done: false };
    this.#layers.set(line.id, layer);
    if (line.status === "Downloading") {
      layer.current = line.progressDetail?.current ?? layer.current;
      layer.total = line.progressDetail?.total ?? layer.total;
    } else if (line.status === "Download complete") layer.current = layer.total;
    layer.done ||= line.status === "Pull complete" || line.status === "Already exists";
    if (this.#now() - this.#toldAt < progressEveryMs) return;
    this.#toldAt = this.#now();
    this.#tell(this.message());
  }

  message(): string {
    const layers = [...this.#layers.values()];
    const sum = (pick: (layer: Layer) => number) => layers.reduce((total, layer) => total + pick(layer), 0);
    const done = layers.filter((layer) => layer.done).length;
    const mib = (bytes: number) => (bytes / 1024 / 1024).toFixed(1);
    const total = sum((layer) => layer.total);
    const bytes = total > 0 ? `, ${mib(sum((layer) => layer.current))} of ${mib(total)} MiB` : "";
    return `Pulling ${this.#name}: ${done} of ${layers.length} layers${bytes}`;
  }
}
