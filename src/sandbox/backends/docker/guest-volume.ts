import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { hasCode, SandboxError } from "../../../errors.ts";
import { accountEntries, accountFiles } from "./accounts.ts";
import type { EngineClient } from "./client.ts";
import { removeGuestLeftovers } from "./guest-leftovers.ts";
import { type GuestArch, guestArchs, type ImageFacts } from "./image-guard.ts";
import { label } from "./labels.ts";
import { guestMount, guestVolumeName, markerOf, paths } from "./layout.ts";
import { fillerOptions, type GuestMounts } from "./options.ts";
import { firstFile, tar } from "./tar.ts";

/** Changes whenever the same binary would be laid out differently, or with other accounts. */
const layout = "1";
/** A filler works for less than a second; one this old belongs to a server that died. */
const abandonedAfterMs = 10_000;
/** The file that says so inside the volume. */
const mark = "complete";

const volumeAnswer = z.object({ Mountpoint: z.string() });
const created = z.object({ Id: z.string() });
const inspected = z.object({ Created: z.string(), Id: z.string() });
const systemTime = z.object({ SystemTime: z.string().optional() });

interface GuestIdentity {
  /** Of the volume. */
  name: string;
  hash: string;
}

interface ReadyVolume {
  name: string;
  mountpoint: string;
}

/**
 * The guest reaches a sandbox in a named volume, one per content and architecture, shared by all servers of the engine. A
 * volume that exists may be empty or half filled by a server that died, so a second, empty volume is made after the filling:
 * where it exists, the first is complete. Filling is exclusive, because the container it needs has a fixed name.
 */
export class GuestVolumes {
  readonly #engine: EngineClient;
  readonly #guestBinary: (arch: GuestArch) => string;
  readonly #installId: string;
  readonly #identities = new Map<GuestArch, Promise<GuestIdentity>>();
  readonly #ready = new Map<GuestArch, Promise<ReadyVolume>>();
  /** Whether this engine lets a file of a volume be mounted by its path. */
  #accounts = true;

  constructor(engine: EngineClient, guestBinary: (arch: GuestArch) => string, installId: string) {
    this.#engine = engine;
    this.#guestBinary = guestBinary;
    this.#installId = installId;
  }

  /** What to mount into a sandbox of this image; makes it first if need be. */
  async mounts(image: ImageFacts, uid: number): Promise<GuestMounts> {
    let ready = this.#ready.get(image.arch);
    if (ready === undefined) {
      ready = this.#prepare(image);
      this.#ready.set(image.arch, ready);
      ready.catch(() => this.#ready.delete(image.arch));
    }
    const { name, mountpoint } = await ready;
    const files = this.#accounts ? accountFiles(uid) : undefined;
    if (files === undefined) return { volume: name };
    return {
      volume: name,
      accounts: { passwd: `${mountpoint}/${files.passwd}`, group: `${mountpoint}/${files.group}` },
    };
  }

  /** The engine refused the account files: sandboxes of this process go without names from now on. */
  withoutAccounts(): void {
    this.#accounts = false;
  }

  /** The engine did not find the guest in a volume said to be complete: somebody removed it. The next use looks again. */
  async distrust(arch: GuestArch): Promise<void> {
    this.#ready.delete(arch);
    const { name } = await this.identity(arch);
    await this.#engine
      .run({ method: "DELETE", path: `/volumes/${markerOf(name)}`, action: "forget the guest's volume" })
      .catch(() => {});
  }

  /** Removes what older versions and dead servers of this install left of all this; resolves with how much. */
  async tidy(signal?: AbortSignal): Promise<number> {
    const current = await Promise.allSettled(guestArchs.map((arch) => this.identity(arch)));
    return removeGuestLeftovers(this.#engine, {
      installId: this.#installId,
      current: current.flatMap((found) => (found.status === "fulfilled" ? [found.value.name] : [])),
      signal,
    });
  }

  async #prepare(image: ImageFacts): Promise<ReadyVolume> {
    const { name } = await this.identity(image.arch);
    const [volume, complete] = await Promise.all([this.#volume(name), this.#volume(markerOf(name))]);
    if (volume !== undefined && complete !== undefined) return { name, mountpoint: volume.Mountpoint };
    return this.#fill(image);
  }

  async #fill(image: ImageFacts): Promise<ReadyVolume> {
    const { name } = await this.identity(image.arch);
    const volume = await this.#createVolume(name);
    const ready = { name, mountpoint: volume.Mountpoint };
    for (let attempts = 3; ; attempts--) {
      const filler = await this.#takeFiller(image, name);
      if (filler === undefined) return ready;
      try {
        await this.#fillThrough(filler, image.arch);
        return ready;
      } catch (error) {
        // Another server took this one for dead.
        if (attempts === 1) throw error;
        orMissing(error);
      } finally {
        await this.#removeFiller(filler);
      }
    }
  }

  async #fillThrough(filler: string, arch: GuestArch): Promise<void> {
    const { name, hash } = await this.identity(arch);
    if ((await this.#marked(filler)) !== hash) {
      await this.#engine.run({
        method: "PUT",
        path: `/containers/${filler}/archive`,
        query: { path: guestMount },
        archive: await this.#archive(arch, hash),
        action: "copy the guest to the engine",
        limitMs: 120_000,
      });
    }
    await this.#createVolume(markerOf(name));
  }

  /** Id of a filler of our own; undefined when another server has finished filling meanwhile. */
  async #takeFiller(image: ImageFacts, volume: string): Promise<string | undefined> {
    const fillerName = `${volume}-fill`;
    const deadline = performance.now() + 2 * abandonedAfterMs;
    for (;;) {
      try {
        const answer = await this.#engine.json(created, {
          method: "POST",
          path: "/containers/create",
          query: { name: fillerName },
          body: fillerOptions(image, volume, this.#installId),
          action: "prepare the guest's volume",
          notFound: "IMAGE_NOT_FOUND",
        });
        return answer.Id;
      } catch (error) {
        if (!hasCode(error, "CONFLICT") || performance.now() > deadline) throw error;
      }
      // Another server fills. The engine has no event to wait for a removal of something never started on all versions.
      await sleep(50);
      if ((await this.#volume(markerOf(volume))) !== undefined) return undefined;
      await this.#removeAbandoned(fillerName);
    }
  }

  /** Removing waits for a copy under way, so taking over from a server that is merely slow does no harm. */
  async #removeAbandoned(name: string): Promise<void> {
    const found = await this.#engine
      .json(inspected, { path: `/containers/${name}/json`, action: "look at the guest's volume" })
      .catch(orMissing);
    if (found === undefined) return;
    const { SystemTime } = await this.#engine.json(systemTime, { path: "/info", action: "tell its time" });
    const now = SystemTime === undefined ? Date.now() : Date.parse(SystemTime);
    if (now - Date.parse(found.Created) > abandonedAfterMs) await this.#removeFiller(found.Id);
  }

  async #removeFiller(id: string): Promise<void> {
    await this.#engine
      .run({
        method: "DELETE",
        path: `/containers/${id}`,
        query: { force: "true", v: "true" },
        action: "remove the container that filled the guest's volume",
      })
      .catch((error: unknown) => {
        // Somebody else is removing it.
        if (!hasCode(error, "CONFLICT")) orMissing(error);
      });
  }

  /** The hash a completed filling left in the volume. */
  async #marked(filler: string): Promise<string | undefined> {
    const archive = await this.#engine
      .bytes({
        path: `/containers/${filler}/archive`,
        query: { path: `${guestMount}/${mark}` },
        action: "read the guest's volume",
      })
      .catch(orMissing);
    return archive && firstFile(archive)?.toString("latin1");
  }

  #createVolume(name: string): Promise<z.infer<typeof volumeAnswer>> {
    return this.#engine.json(volumeAnswer, {
      method: "POST",
      path: "/volumes/create",
      body: { Name: name, Labels: { [label.helper]: "guest", [label.install]: this.#installId } },
      action: "make the guest's volume",
    });
  }

  #volume(name: string): Promise<z.infer<typeof volumeAnswer> | undefined> {
    return this.#engine
      .json(volumeAnswer, { path: `/volumes/${name}`, action: "look for the guest's volume" })
      .catch(orMissing);
  }

  /** Which volume holds the guest. */
  identity(arch: GuestArch): Promise<GuestIdentity> {
    let identity = this.#identities.get(arch);
    if (identity === undefined) {
      identity = this.#binary(arch).then((binary) => {
        const hash = createHash("sha256").update(`${layout}\n`).update(binary).digest("hex");
        return { name: guestVolumeName(hash, arch), hash };
      });
      this.#identities.set(arch, identity);
      identity.catch(() => this.#identities.delete(arch));
    }
    return identity;
  }

  async #archive(arch: GuestArch, hash: string): Promise<Buffer> {
    return tar([
      { name: "guest", mode: 0o555, content: await this.#binary(arch) },
      ...accountEntries(paths.workdir),
      // Last, so that an archive that was cut short leaves none.
      { name: mark, mode: 0o444, content: Buffer.from(hash) },
    ]);
  }

  #binary(arch: GuestArch): Promise<Buffer> {
    const path = this.#guestBinary(arch);
    return readFile(path).catch((cause: unknown) => {
      throw new SandboxError("INTERNAL", `The guest for ${arch} is missing from this installation: ${path}.`, {
        cause,
        next: "Build it with `npm run build`, or install the package again.",
      });
    });
  }
}

function orMissing(error: unknown): undefined {
  if (hasCode(error, "SANDBOX_NOT_FOUND")) return undefined;
  throw error;
}
