import type { Logger } from "../../../logger.ts";
import type { EngineSettings } from "./discover.ts";
import type { GuestArch } from "./image-guard.ts";
import type { DefaultImage } from "./images.ts";

export interface DockerBackendOptions {
  /** Whose sandboxes these are; others are neither seen nor touched. */
  installId: string;
  engine: EngineSettings & {
    /** @default the home folder of this user */
    home?: string;
  };
  /** Whether the user's Docker credentials are used to pull. @default true */
  registryCredentials?: boolean;
  /** Whether guests on this host are reached past the engine where that is possible. @default true */
  direct?: boolean;
  /** Path of the guest binary for an architecture. */
  guestBinary: (arch: GuestArch) => string;
  /** What is made instead of pulled when the engine lacks it. */
  defaultImage?: DefaultImage;
  logger: Logger;
}
