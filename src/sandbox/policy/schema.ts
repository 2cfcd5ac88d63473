import { z } from "zod";
import { isDigest } from "../image-reference.ts";
import { absolutePath, countOrSize, line, megabytes, seconds } from "./fields.ts";
import { normalPattern } from "./images.ts";

/** The operator's policy file, as written. What it does not say stays at the built-in value. */

const day = 86_400;

/** Capabilities that `dev` may be given: what engines give any container, and tracing for debuggers. Nothing that reaches the host. */
export const grantable = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "MKNOD",
  "NET_BIND_SERVICE",
  "NET_RAW",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
  "SYS_PTRACE",
] as const;
export type Capability = (typeof grantable)[number];

/** What an agent may ask for, beside what it gets when it does not ask. */
const perSandbox = {
  ttl_s: seconds({ min: 1, max: 30 * day }).optional(),
  idle_s: seconds({ min: 1, max: 30 * day }).optional(),
  cpus: z.number().min(0.05).max(1024).optional(),
  memory_mb: megabytes({ min: 16, max: 2 ** 20 }).optional(),
  pids: z.int().min(64).max(32_768).optional(),
  workspace_mb: megabytes({ min: 1, max: 2 ** 20 }).optional(),
};

const maxima = z.strictObject({
  ...perSandbox,
  sandboxes: z.int().min(0).max(10_000).optional(),
  /** Share of the host's memory; above 100 the sandboxes may not all use theirs at once. */
  memory_total_pct: z.number().min(1).max(1_000).optional(),
  memory_total_mb: megabytes({ min: 16, max: 2 ** 30 }).optional(),
  pool: z.int().min(0).max(50).optional(),
});

const sizes = z.strictObject({
  tmp_mb: megabytes({ min: 1, max: 2 ** 20 }).optional(),
  shm_mb: megabytes({ min: 1, max: 2 ** 20 }).optional(),
  workspace_inodes: z
    .int()
    .min(64)
    .max(2 ** 30)
    .optional(),
});

const limit = (min: number, max = Number.MAX_SAFE_INTEGER) => countOrSize({ min, max });

/** Limits of the kernel per process; each low enough to bind and high enough for the guest to live under. */
const ulimits = z.strictObject({
  nofile: limit(256, 2 ** 20).optional(),
  core: limit(0).optional(),
  fsize: limit(64 * 2 ** 20).optional(),
  memlock: limit(0).optional(),
  msgqueue: limit(0).optional(),
  sigpending: limit(64).optional(),
  stack: limit(2 ** 20).optional(),
});
export type Ulimits = { [name in keyof z.output<typeof ulimits>]?: number };

/** Nothing a sandbox lives from may be taken away by them. */
const hidden = absolutePath.refine(
  (path) => /^\/(?:proc|sys)\/./.test(path) && !/^\/proc\/(?:\d+|self|thread-self)(?:\/|$)/.test(path),
  { error: () => "must be a path below /proc or /sys, and none of a process" },
);

const security = z.strictObject({
  seccomp: line(4096).optional().describe("Path of a seccomp profile (JSON); relative to the policy file."),
  apparmor: z
    .string()
    .regex(/^[A-Za-z0-9_.\-/]{1,255}$/)
    .refine((name) => name !== "unconfined", {
      error: () => "must be the name of a loaded profile; `unconfined` is none",
    })
    .optional(),
  selinux: z
    .array(
      z.string().regex(/^(?:user|role|type|level):[A-Za-z0-9_.:,-]{1,200}$/, {
        error: () => "must be like `type:container_t` or `level:s0:c100,c200`",
      }),
    )
    .max(4)
    .optional(),
  masked_paths: z.array(hidden).max(100).optional(),
  readonly_paths: z.array(hidden).max(100).optional(),
});

const dns = z.strictObject({
  servers: z
    .array(z.union([z.ipv4(), z.ipv6()], { error: () => "must be an IP address" }))
    .max(3)
    .optional(),
  search: z.array(line(253).regex(/^\S+$/)).max(6).optional(),
  options: z.array(line(64).regex(/^\S+$/)).max(10).optional(),
});

const proxyUrl = line(1024).refine(
  (text) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    return (
      url !== undefined && /^(?:https?|socks5h?):$/.test(url.protocol) && url.username === "" && url.password === ""
    );
  },
  { error: () => "must be like http://proxy.example:3128, without a password: every command could read it" },
);

const proxy = z.strictObject({
  http: proxyUrl.optional(),
  https: proxyUrl.optional(),
  all: proxyUrl.optional(),
  none: z
    .array(line(255).regex(/^[^\s,]+$/))
    .max(100)
    .optional(),
});

const uid = z.int().min(20_000).max(59_999);
const users = z.strictObject({ first: uid, last: uid }).refine(({ first, last }) => first <= last, {
  error: () => "must be a range: first ≤ last",
});

const pattern = line(512).refine((text) => normalPattern(text) !== undefined, {
  error: () => "must be a pattern over image references, like `python:3.*`, `ghcr.io/acme/**` or `**`",
});
const digest = z.string().refine(isDigest, { error: () => "must be a digest like sha256:<64 hex digits>" });

export const policyFileSchema = z
  .strictObject({
    $schema: z.string().optional(),
    images: z.array(pattern).max(200).optional().describe("What may be run. Patterns over normalised references."),
    image_digests: z
      .record(
        pattern,
        z.union([digest, z.array(digest).min(1).max(20)], { error: () => "must be a digest or a list of them" }),
      )
      .optional()
      .describe("What content images may have: pattern → digest or digests."),
    require_digest: z.boolean().optional(),
    registry_credentials: z.boolean().optional(),
    runtimes: z
      .array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/))
      .min(1)
      .max(20)
      .optional(),
    profiles: z
      .array(z.enum(["strict", "dev"]))
      .min(1)
      .max(2)
      .optional(),
    networks: z
      .array(z.enum(["none", "allowlist", "open"]))
      .min(1)
      .max(3)
      .optional(),
    network_hosts: z.array(line(255).regex(/^\S+$/)).max(200).optional(),
    host_dirs: z
      .array(
        z.string().regex(/^\/.*:(?:ro|rw)$/, { error: () => "must be an absolute folder like /data:ro or /out:rw" }),
      )
      .max(200)
      .optional(),
    capabilities: z.array(z.enum(grantable)).max(grantable.length).optional(),
    security: security.optional(),
    dns: dns.optional(),
    proxy: proxy.optional(),
    ulimits: ulimits.optional(),
    users: users.optional(),
    sizes: sizes.optional(),
    defaults: z.strictObject(perSandbox).optional(),
    maxima: maxima.optional(),
  })
  .meta({ title: "Policy of chorus-sandbox", description: "The operator's ceiling over what agents may ask for." });

export type PolicyFile = z.output<typeof policyFileSchema>;
