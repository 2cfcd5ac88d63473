import { createHash } from "node:crypto";
import { z } from "zod";
import { hasCode, SandboxError } from "../../../errors.ts";
import type { BackendSpec } from "../../backend.ts";
import type { EngineClient } from "./client.ts";
import { checkWarnings, EngineAnswer } from "./errors.ts";
import type { GuestVolumes } from "./guest-volume.ts";
import type { ImageFacts } from "./image-guard.ts";
import type { Images } from "./images.ts";
import { guestPath } from "./layout.ts";
import { orAborted, throwIfAborted } from "./limits.ts";
import { containerOptions, type GuestMounts } from "./options.ts";

const created = z.object({ Id: z.string(), Warnings: z.array(z.string()).nullish() });
const limitMs = 60_000;
/** Stands for the uid where it does not matter. */
const anyUid = 20_000;

export interface CreatorOptions {
  engine: EngineClient;
  images: Images;
  guests: GuestVolumes;
  installId: string;
}

/** Creates and starts the containers of sandboxes, and leaves nothing of those that do not come up. */
export class ContainerCreator {
  readonly #options: CreatorOptions;

  constructor(options: CreatorOptions) {
    this.#options = options;
  }

  /** @returns the container's id */
  async create(spec: BackendSpec, signal: AbortSignal | undefined): Promise<string> {
    const { images, guests } = this.#options;
    const image = await images.facts(spec.image_id, signal);
    // Twice over: an engine may have lost the guest's volume since it was last seen, and may refuse the account files.
    for (let refilled = false; ; ) {
      const mounts = await orAborted(guests.mounts(image, spec.uid), signal);
      try {
        return await this.#attempt(spec, image, mounts, signal);
      } catch (error) {
        if (!refilled && guestIsMissing(error)) {
          refilled = true;
          await guests.distrust(image.arch);
        } else if (mounts.accounts !== undefined && accountsAreRefused(error)) guests.withoutAccounts();
        else {
          if (hasCode(error, "IMAGE_NOT_FOUND")) images.forget(spec.image_id);
          throw error;
        }
      }
    }
  }

  /** Equal for specs whose containers differ in nothing but name and uid. */
  async recipe(spec: BackendSpec, signal: AbortSignal | undefined): Promise<string> {
    const { images, guests, installId } = this.#options;
    const image = await images.facts(spec.image_id, signal);
    const guest = await orAborted(guests.mounts(image, anyUid), signal);
    const plan = { spec: { ...spec, sandbox_id: "", uid: anyUid }, image, guest, installId };
    return createHash("sha256")
      .update(JSON.stringify(containerOptions(plan)))
      .digest("hex");
  }

  async #attempt(
    spec: BackendSpec,
    image: ImageFacts,
    guest: GuestMounts,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const { engine, installId } = this.#options;
    const plan = { spec, image, guest, installId };
    // Without the signal: an engine that goes on creating after the call was dropped would leave what nobody removes.
    throwIfAborted(signal);
    const { Id, Warnings } = await engine.json(created, {
      method: "POST",
      path: "/containers/create",
      query: { name: spec.sandbox_id },
      body: containerOptions(plan),
      action: "create the sandbox",
      notFound: "IMAGE_NOT_FOUND",
      limitMs,
    });
    try {
      checkWarnings(Warnings ?? []);
      throwIfAborted(signal);
      await engine.run({
        method: "POST",
        path: `/containers/${Id}/start`,
        action: "start the sandbox",
        limitMs,
        signal,
      });
      throwIfAborted(signal);
      return Id;
    } catch (error) {
      await engine.run(removal(Id)).catch(() => {});
      throw error;
    }
  }
}

/** The request that removes a container with all that was made for it. */
export function removal(containerId: string) {
  return {
    method: "DELETE" as const,
    path: `/containers/${containerId}`,
    query: { force: "true", v: "true" },
    action: "remove the sandbox",
  };
}

function wordsOf(error: unknown): string {
  return error instanceof SandboxError && error.cause instanceof EngineAnswer ? error.cause.words : "";
}

function guestIsMissing(error: unknown): boolean {
  const words = wordsOf(error);
  return (
    (words.includes(guestPath) && /no such file|not found/i.test(words)) ||
    /bind source path does not exist/i.test(words)
  );
}

function accountsAreRefused(error: unknown): boolean {
  return /bind source path does not exist|mounts denied|is not shared|bind mounts are not allowed/i.test(
    wordsOf(error),
  );
}
