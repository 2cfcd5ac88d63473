import type { Policy } from "../sandbox/policy.ts";
import { visible } from "../tools/render/text.ts";

/** What the operator decided, as `policy://effective` and the instructions tell it. */
export interface PolicyView extends Policy {
  /** Image when sandbox_create names none. */
  image: string;
  workdir: string;
  host_dirs: readonly { path: string; mode: "ro" | "rw" }[];
}

const maxBytes = 2048;

/** The few things a model must know before its first call; at most 2 KB. */
export function buildInstructions(policy: PolicyView): string {
  const { defaults, networks } = policy;
  const network = networks.some((mode) => mode !== "none")
    ? `none by default, ${networks.join(", ")} on request`
    : "none: only 127.0.0.1 inside, no downloads";
  const text = [
    "Isolated Linux sandboxes for running code and commands.",
    `A new sandbox has the image ${visible(policy.image, 200)}, ${defaults.cpus} cpu, ${defaults.memory_mb} MiB memory, the workdir ${policy.workdir}, network ${network}.`,
    `It ends by itself ${defaults.ttl_s} s after its creation or after ${defaults.idle_s} s without use; sandbox_update prolongs it.`,
    "Each exec_run starts afresh in the workdir: cd and exports do not carry over, files and background processes do.",
    "exec_run with wait_s: 0 runs in the background; exec_output follows it, sandbox_events waits for its end. A command not done at wait_s goes on all the same.",
    'sandbox_list {"here": true} finds the sandboxes made from this client and folder earlier; they and their commands outlive this connection.',
    hostDirs(policy.host_dirs),
    "Failures read `CODE: message` with a line `Next:` saying what helps. Exit codes, time-outs and cut output are results, not failures.",
  ].join("\n");
  return cutBytes(text, maxBytes);
}

function hostDirs(dirs: PolicyView["host_dirs"]): string {
  if (dirs.length === 0) return "No host folder is open to sandboxes.";
  const shown = dirs.slice(0, 8).map((dir) => `${visible(dir.path, 80)} (${dir.mode})`);
  const more = dirs.length > shown.length ? ` and ${dirs.length - shown.length} more (policy://effective)` : "";
  return `Open host folders: ${shown.join(", ")}${more}.`;
}

function cutBytes(text: string, most: number): string {
  const buffer = Buffer.from(text);
  if (buffer.length <= most) return text;
  let end = most - 3;
  while (((buffer[end] ?? 0) & 0xc0) === 0x80) end--;
  return `${buffer.subarray(0, end).toString()}…`;
}
