import { isSandboxId } from "../../ids.ts";

/** Labels are immutable on the engine, and say whose a container is and what it was made from. */
export const label = {
  install: "dev.chorus.sandbox.install",
  id: "dev.chorus.sandbox.id",
  spec: "dev.chorus.sandbox.spec",
  contract: "dev.chorus.sandbox.contract",
  /** On what is not a sandbox but serves them: `guest-fill` containers, `guest` volumes. */
  helper: "dev.chorus.sandbox.helper",
} as const;

/** Version of what a container made by this code promises to a later server: mounts, labels, guest path. */
export const contractVersion = "1";

/**
 * The sandbox id a container carries, when it is a sandbox of this install. Labels alone do not tell: an image committed
 * from a sandbox hands them on to every container made from it. Nothing hands on the name.
 */
export function sandboxIdOf(container: {
  name: string | undefined;
  labels: Record<string, string> | null | undefined;
  installId: string;
}): string | undefined {
  const id = container.labels?.[label.id];
  if (id === undefined || !isSandboxId(id)) return undefined;
  if (container.labels?.[label.install] !== container.installId) return undefined;
  return container.name?.replace(/^\//, "") === id ? id : undefined;
}
