import type { SandboxBackend } from "../../backend.ts";
import { DockerBackend } from "./docker-backend.ts";
import type { DockerBackendOptions } from "./settings.ts";

export type { EngineSettings } from "./discover.ts";
export type { GuestArch } from "./image-guard.ts";
export type { DefaultImage } from "./images.ts";
export type { DockerBackendOptions } from "./settings.ts";

/** Sandboxes as containers of Docker, or of what speaks its API. Contacts no engine before the first call. */
export function createDockerBackend(options: DockerBackendOptions): SandboxBackend {
  return new DockerBackend(options);
}
