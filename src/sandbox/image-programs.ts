import type { Core } from "./core.ts";
import type { Guest } from "./guest/types.ts";
import { within } from "./wait.ts";

const askMs = 4_000;
/** Newest sandboxes looked at for one that knows an image's programs already. */
const lookedAt = 200;

/** Programs of an image are looked up once: they cannot change, the root is read-only. */
export class ImagePrograms {
  readonly #core: Core;
  readonly #byImage = new Map<string, Record<string, string>>();

  constructor(core: Core) {
    this.#core = core;
  }

  known(imageId: string): Record<string, string> | undefined {
    const { store, tenant } = this.#core;
    const known = this.#byImage.get(imageId);
    if (known) return known;
    let seen = 0;
    for (const other of store.sandboxes({ tenant, includeEnded: true })) {
      if (++seen > lookedAt) break;
      if (other.programs && other.image_id === imageId) {
        this.#byImage.set(imageId, other.programs);
        return other.programs;
      }
    }
    return undefined;
  }

  /** Asks a guest of the image, for a while; undefined when it does not tell. */
  async ask(imageId: string, guest: Guest): Promise<Record<string, string> | undefined> {
    const programs = await within(
      guest.programs().catch(() => undefined),
      askMs,
    );
    if (programs) this.#byImage.set(imageId, programs);
    return programs;
  }
}
