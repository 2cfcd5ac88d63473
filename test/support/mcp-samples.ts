import type { ExecResult, ExecRow, SandboxView, StatsView } from "../../src/sandbox/views.ts";

/** Answers of a service as it would give them, for tests to vary. */

export const sandboxView: SandboxView = {
  sandbox_id: "sb_0123456789abcdef",
  name: "alpha",
  state: "running",
  backend: "docker",
  runtime: "runc",
  image: "chorus-sandbox/base",
  image_digest: "sha256:1234",
  programs: { python3: "3.11.2", node: "20.1.0" },
  shell: "/bin/bash",
  profile: "strict",
  resources: { cpus: 1, memory_mb: 512, pids: 256, workspace_mb: 512 },
  network: { mode: "none" },
  workdir: "/workspace",
  env_keys: ["TOKEN"],
  labels: { job: "7" },
  origin: { client: "tester/1.0.0", folder: "/home/me" },
  warm: true,
  created_at: "2026-11-22T01:00:00.123Z",
  expires_in_s: 3540,
  idle_in_s: 900,
  last_used_at: "2026-11-22T01:00:10.000Z",
  last_command: "pytest -q",
  running_execs: 1,
  event_cursor: "42",
};

export const execResult: ExecResult = {
  exec_id: "ex_0123456789abcdef",
  status: "exited",
  exit_code: 0,
  ended_by: "self",
  oom_kills: 0,
  left_running: 0,
  cwd: "/workspace",
  started_at: "2026-11-22T01:00:00.000Z",
  duration_ms: 3210,
  stdout: "",
  stderr: "",
  stdout_bytes: 0,
  stderr_bytes: 0,
  stdout_next: 0,
  stderr_next: 0,
  event_cursor: "43",
};

/** An exec that printed this, all of it kept. */
export function printed(stdout: string, stderr = "", more: Partial<ExecResult> = {}): ExecResult {
  const [out, err] = [Buffer.byteLength(stdout), Buffer.byteLength(stderr)];
  return {
    ...execResult,
    stdout,
    stderr,
    stdout_bytes: out,
    stderr_bytes: err,
    stdout_next: out,
    stderr_next: err,
    ...more,
  };
}

export const execRow: ExecRow = {
  exec_id: "ex_0123456789abcdef",
  command: "pytest -q",
  status: "exited",
  exit_code: 1,
  started_at: "2026-11-22T01:00:00.000Z",
  duration_ms: 3210,
  stdout_bytes: 2048,
  stderr_bytes: 0,
};

export const statsView: StatsView = {
  sampled_at: "2026-11-22T01:00:00.000Z",
  uptime_ms: 61_000,
  cpu: { usage_ms: 1500, usage_pct: 12.345, throttled_ms: null, limit_cpus: 1 },
  memory: { used_bytes: 10 * 1024 * 1024, limit_bytes: 512 * 1024 * 1024, peak_bytes: 20 * 1024 * 1024, oom_kills: 0 },
  pids: { current: 3, limit: 256 },
  workspace: { used_bytes: 1536, limit_bytes: 512 * 1024 * 1024 },
  network: { rx_bytes: null, tx_bytes: null },
  io: { read_bytes: 0, write_bytes: 4096 },
  execs: { running: 1, total: 9 },
  notes: ["network: this runtime does not count it"],
};
