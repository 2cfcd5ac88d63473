import { z } from "zod";

/** Highest values an agent may ask for. */
const maximaSchema = z.strictObject({
  ttl_s: z
    .int()
    .min(1)
    .max(30 * 86_400)
    .optional(),
  idle_s: z
    .int()
    .min(1)
    .max(30 * 86_400)
    .optional(),
  cpus: z.number().min(0.05).max(1024).optional(),
  memory_mb: z
    .int()
    .min(16)
    .max(1 << 20)
    .optional(),
  pids: z.int().min(64).max(32_768).optional(),
  workspace_mb: z
    .int()
    .min(1)
    .max(1 << 20)
    .optional(),
  /** Live sandboxes of all server processes of the install together. */
  sandboxes: z.int().min(0).max(10_000).optional(),
  /** Share of the host's memory that all their memory budgets together may take. */
  memory_total_pct: z.number().min(1).max(100).optional(),
});

/** The operator's policy file. What it does not say stays at the built-in value. */
export const policyFileSchema = z.strictObject({
  maxima: maximaSchema.optional(),
  /** Patterns over normalised references; `*` stands for any characters. */
  images: z.array(z.string().min(1).max(512)).max(200).optional(),
});

export interface Policy {
  /** `built-in`, or the path of the operator's file. */
  source: string;
  images: string[];
  profiles: ("strict" | "dev")[];
  networks: ("none" | "allowlist" | "open")[];
  defaults: { ttl_s: number; idle_s: number; cpus: number; memory_mb: number; pids: number; workspace_mb: number };
  maxima: {
    ttl_s: number;
    idle_s: number;
    cpus: number;
    memory_mb: number;
    pids: number;
    workspace_mb: number;
    sandboxes: number;
    memory_total_pct: number;
  };
}

/** Smallest values that still make a working sandbox. */
export const minima = { ttl_s: 1, idle_s: 1, cpus: 0.05, memory_mb: 16, pids: 64, workspace_mb: 1 } as const;

/** CONTRACT section 2, under the operator's file. `hostCpus` bounds cpus. */
export function effectivePolicy(file: z.infer<typeof policyFileSchema>, source: string, hostCpus: number): Policy {
  const asked = file.maxima ?? {};
  const maxima = {
    ttl_s: asked.ttl_s ?? 86_400,
    idle_s: asked.idle_s ?? 86_400,
    cpus: asked.cpus ?? hostCpus,
    memory_mb: asked.memory_mb ?? 4096,
    pids: asked.pids ?? 4096,
    workspace_mb: asked.workspace_mb ?? 4096,
    sandboxes: asked.sandboxes ?? 50,
    memory_total_pct: asked.memory_total_pct ?? 75,
  };
  return {
    source,
    images: file.images ?? ["*"],
    profiles: ["strict"],
    networks: ["none"],
    // A default above the operator's ceiling would refuse every plain create.
    defaults: {
      ttl_s: Math.min(3600, maxima.ttl_s),
      idle_s: Math.min(900, maxima.idle_s),
      cpus: Math.min(1, maxima.cpus),
      memory_mb: Math.min(512, maxima.memory_mb),
      pids: Math.min(256, maxima.pids),
      workspace_mb: Math.min(512, maxima.workspace_mb),
    },
    maxima,
  };
}

/** Whether a normalised reference fits one of the patterns (`*` only). */
export function imageAllowed(policy: Policy, reference: string): boolean {
  return policy.images.some((pattern) => {
    const parts = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`^${parts.join(".*")}$`).test(reference);
  });
}
