import { z } from "zod";
import { hasCode, SandboxError } from "../../../errors.ts";
import type { ImageInfo, ResolveImageOptions } from "../../backend.ts";
import { type ImageReference, parseReference } from "../../image-reference.ts";
import type { EngineClient } from "./client.ts";
import type { GuestArch, ImageFacts } from "./image-guard.ts";
import { commandEnv } from "./image-guard.ts";
import { orAborted } from "./limits.ts";
import { pullImage } from "./pull.ts";
import type { RegistryAuth } from "./registry-auth.ts";

export interface DefaultImage {
  /** Reference of the image that is built when the engine has none: `chorus-sandbox/base`. */
  name: string;
  /** Builds and tags it on the engine. */
  build(onProgress: (message: string) => void, signal: AbortSignal): Promise<void>;
}

const imageAnswer = z.object({
  Id: z.string(),
  RepoDigests: z.array(z.string()).nullish(),
  Architecture: z.string(),
  Os: z.string(),
  Config: z
    .object({
      Env: z.array(z.string()).nullish(),
      Volumes: z.record(z.string(), z.unknown()).nullish(),
    })
    .nullish(),
});
type ImageAnswer = z.infer<typeof imageAnswer>;

/** Facts of an image id never change; so many are remembered. */
const rememberedImages = 256;

type AuthFor = (domain: string, signal: AbortSignal | undefined) => Promise<RegistryAuth | undefined>;

export interface ImagesOptions {
  defaultImage?: DefaultImage | undefined;
  /** Credentials for a registry. */
  authFor: AuthFor;
}

export class Images {
  readonly #engine: EngineClient;
  readonly #default: (DefaultImage & { reference: ImageReference }) | undefined;
  readonly #facts = new Map<string, ImageFacts>();
  readonly #authFor: AuthFor;
  #build: SharedBuild | undefined;

  constructor(engine: EngineClient, { defaultImage, authFor }: ImagesOptions) {
    this.#engine = engine;
    this.#authFor = authFor;
    this.#default = defaultImage && {
      name: defaultImage.name,
      build: (onProgress, signal) => defaultImage.build(onProgress, signal),
      reference: parseReference(defaultImage.name),
    };
  }

  /** Finds the image on the engine, or builds or pulls it. */
  async resolve(text: string, options: ResolveImageOptions = {}): Promise<ImageInfo> {
    const reference = parseReference(text);
    const present = await this.#find(reference, options.signal);
    if (present !== undefined) return this.#info(reference, present);
    if (options.local) throw new SandboxError("IMAGE_NOT_FOUND", `The engine has no image ${reference.full}.`);
    if (reference.full === this.#default?.reference.full) await this.#buildDefault(options);
    else await this.#pull(reference, options);
    const arrived = await this.#find(reference, options.signal);
    if (arrived !== undefined) return this.#info(reference, arrived);
    throw new SandboxError("IMAGE_NOT_FOUND", `The engine has no image ${reference.full} although it was just made.`);
  }

  /** What a container of this image would inherit. */
  async facts(imageId: string, signal?: AbortSignal): Promise<ImageFacts> {
    const known = this.#facts.get(imageId);
    if (known !== undefined) return known;
    const image = await this.#inspect(imageId, signal);
    if (image !== undefined) return this.#remember(image);
    throw new SandboxError("IMAGE_NOT_FOUND", `The engine no longer has the image ${imageId}.`, {
      next: "Create the sandbox again, so that the image is fetched again.",
    });
  }

  /** The image is gone from the engine: its facts may come back with other layers. */
  forget(imageId: string): void {
    this.#facts.delete(imageId);
  }

  async #pull(reference: ImageReference, options: ResolveImageOptions): Promise<void> {
    const auth = await this.#authFor(reference.domain, options.signal);
    await pullImage(this.#engine, reference, { ...options, ...(auth && { auth }) });
  }

  /** The image the engine has under a reference. By digest, where there is one: then the tag names nothing. */
  #find(reference: ImageReference, signal: AbortSignal | undefined): Promise<ImageAnswer | undefined> {
    return this.#inspect(reference.exact, signal);
  }

  async #inspect(name: string, signal: AbortSignal | undefined): Promise<ImageAnswer | undefined> {
    try {
      return await this.#engine.json(imageAnswer, {
        path: `/images/${name}/json`,
        action: "look for the image",
        notFound: "IMAGE_NOT_FOUND",
        signal,
      });
    } catch (error) {
      if (hasCode(error, "IMAGE_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  #info(reference: ImageReference, image: ImageAnswer): ImageInfo {
    this.#remember(image);
    const digest = repoDigest(reference, image.RepoDigests ?? []);
    const env = commandEnv(image.Config?.Env ?? []);
    return {
      image: reference.full,
      image_id: image.Id,
      ...(digest === undefined ? {} : { image_digest: digest }),
      ...(Object.keys(env).length > 0 && { env }),
    };
  }

  #remember(image: ImageAnswer): ImageFacts {
    const facts: ImageFacts = {
      image_id: image.Id,
      arch: guestArch(image),
      env: image.Config?.Env ?? [],
      volumes: Object.keys(image.Config?.Volumes ?? {}),
    };
    const oldest = this.#facts.keys().next().value;
    if (this.#facts.size >= rememberedImages && oldest !== undefined) this.#facts.delete(oldest);
    this.#facts.set(image.Id, facts);
    return facts;
  }

  /** One build at a time however many ask; it is cancelled when the last of them gives up. */
  async #buildDefault({ signal, onProgress }: ResolveImageOptions): Promise<void> {
    const recipe = this.#default;
    if (recipe === undefined) return;
    this.#build ??= new SharedBuild(recipe, () => {
      this.#build = undefined;
    });
    await this.#build.join(onProgress, signal);
  }
}

class SharedBuild {
  readonly #stop = new AbortController();
  readonly #listeners = new Set<(message: string) => void>();
  readonly #done: Promise<void>;
  readonly #forget: () => void;
  #waiting = 0;

  constructor(recipe: DefaultImage, forget: () => void) {
    this.#forget = forget;
    const tell = (message: string) => {
      for (const listener of this.#listeners) listener(message);
    };
    // A turn later, so that who asked for it hears the first message.
    this.#done = Promise.resolve()
      .then(() => recipe.build(tell, this.#stop.signal))
      .catch((error: unknown) => {
        throw error instanceof SandboxError ? error : buildFailure(recipe.name, error);
      })
      .finally(forget);
    this.#done.catch(() => {});
  }

  async join(onProgress: ((message: string) => void) | undefined, signal: AbortSignal | undefined): Promise<void> {
    const listener = (message: string) => onProgress?.(message);
    this.#listeners.add(listener);
    this.#waiting++;
    try {
      await orAborted(this.#done, signal);
    } finally {
      this.#listeners.delete(listener);
      if (--this.#waiting === 0) {
        this.#forget();
        this.#stop.abort();
      }
    }
  }
}

function buildFailure(name: string, cause: unknown): SandboxError {
  return new SandboxError("IMAGE_PULL_FAILED", `The default image ${name} could not be built.`, {
    cause,
    next: "Look at the server's log for the build's output, or name an image the engine already has.",
  });
}

/** The digest under which the registry that was asked knows the image. */
export function repoDigest(reference: ImageReference, repoDigests: readonly string[]): string | undefined {
  if (reference.digest !== undefined) return reference.digest;
  for (const entry of repoDigests) {
    const at = entry.lastIndexOf("@");
    if (at > 0 && repositoryOf(entry.slice(0, at)) === reference.repository) return entry.slice(at + 1);
  }
  return undefined;
}

/** Normalised; as it is when an engine names it in a way no reference is written (`<none>`). */
function repositoryOf(name: string): string {
  try {
    return parseReference(name).repository;
  } catch {
    return name;
  }
}

export function guestArch(image: { Architecture: string; Os: string }): GuestArch {
  if (image.Os === "linux") {
    if (image.Architecture === "amd64" || image.Architecture === "x86_64") return "amd64";
    if (image.Architecture === "arm64" || image.Architecture === "aarch64") return "arm64";
  }
  throw new SandboxError(
    "INVALID_ARGUMENT",
    `The image is for ${image.Os}/${image.Architecture}; sandboxes run linux/amd64 and linux/arm64.`,
    {
      next: "Use an image built for linux/amd64 or linux/arm64.",
    },
  );
}
