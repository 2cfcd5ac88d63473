import type { ExecResult, ExecRow } from "../../sandbox/views.ts";
import { bytes, duration, fenced, known, lines, name, notes, table, time, toolCall, visible } from "./text.ts";

type Stream = "stdout" | "stderr";

/** `exit 1 · 3.2 s · ex_…`, the output verbatim (the service marks gaps in it), then what a reader would miss. */
export function execText(exec: ExecResult, sandboxId: string, { searched = false } = {}): string {
  const both = exec.stdout !== "" && exec.stderr !== "";
  return lines(
    headline(exec),
    block(exec.stdout, both ? "stdout:" : undefined),
    block(exec.stderr, "stderr:"),
    ...(exec.omitted ?? []).map((gap) => gapLine(exec, gap, sandboxId)),
    ...(searched ? [] : (["stdout", "stderr"] as const).map((stream) => moreLine(exec, stream, sandboxId))),
    exec.status === "running" && runningLine(exec, sandboxId),
    notes(exec.notes),
  );
}

function headline(exec: ExecResult): string {
  const quiet = exec.stdout === "" && exec.stderr === "";
  return [
    outcome(exec),
    duration(exec.duration_ms),
    exec.exec_id,
    exec.left_running > 0 && `${exec.left_running} of its processes still alive`,
    exec.oom_kills > 0 && `${exec.oom_kills} killed for memory`,
    quiet && (exec.stdout_bytes + exec.stderr_bytes > 0 ? "no new output" : "no output"),
  ]
    .filter((part) => part !== false)
    .join(" · ");
}

function outcome(exec: ExecResult): string {
  const signal = exec.signal === undefined ? "" : ` (${visible(exec.signal, 16)})`;
  switch (exec.status) {
    case "exited":
      return `exit ${exec.exit_code ?? "?"}${signal}`;
    case "timed_out":
      return `timed out${signal}`;
    case "killed":
      return `killed${signal}${exec.ended_by === "cancel" ? ", call cancelled" : ""}`;
    case "oom_killed":
      return "killed, out of memory";
    case "lost":
      return "lost, its outcome ended with the sandbox";
    case "running":
      return "running";
  }
}

function block(text: string, label: string | undefined): string | undefined {
  return text === "" ? undefined : lines(label, fenced(text));
}

function gapLine(
  exec: ExecResult,
  gap: { stream: Stream; from: number; to: number; recoverable: boolean },
  sandboxId: string,
): string {
  const what = `${gap.stream}: bytes ${gap.from}–${gap.to} (${bytes(gap.to - gap.from)}) left out`;
  if (!gap.recoverable) return `${what}, no longer kept`;
  return `${what}; ${toolCall("exec_output", { sandbox_id: sandboxId, exec_id: exec.exec_id, [`${gap.stream}_offset`]: gap.from })} reads on from there`;
}

function moreLine(exec: ExecResult, stream: Stream, sandboxId: string): string | undefined {
  const more = exec[`${stream}_bytes`] - exec[`${stream}_next`];
  if (more <= 0) return undefined;
  const rest = { sandbox_id: sandboxId, exec_id: exec.exec_id, [`${stream}_offset`]: exec[`${stream}_next`] };
  return `${stream}: ${bytes(more)} more; ${toolCall("exec_output", rest)} reads on`;
}

function runningLine(exec: ExecResult, sandboxId: string): string {
  const { exec_id, stdout_next, stderr_next } = exec;
  const rest = { sandbox_id: sandboxId, exec_id, stdout_offset: stdout_next, stderr_offset: stderr_next, wait_s: 30 };
  return `Still running. ${toolCall("exec_output", rest)} waits for the end and reads what is new; exec_kill ends it.`;
}

export function inputText(
  { accepted_bytes }: { accepted_bytes: number },
  { exec_id, data, data_base64, eof, tty_rows, tty_cols }: InputArgs,
): string {
  const given = data !== undefined ? Buffer.byteLength(data) : Buffer.byteLength(data_base64 ?? "", "base64");
  const rest =
    accepted_bytes < given &&
    `${visible(exec_id, 64)} did not read the other ${bytes(given - accepted_bytes)} within 10 s${eof ? ", and stdin was not ended" : ""}: send them again once it reads`;
  const said = [
    (given > 0 || (!eof && tty_rows === undefined)) && `${bytes(accepted_bytes)} taken`,
    eof && !rest && "stdin ended",
    tty_rows !== undefined && `terminal is ${tty_rows} × ${tty_cols}`,
  ];
  return lines(said.filter((part) => part !== false).join(" · "), rest);
}

interface InputArgs {
  exec_id: string;
  data?: string | undefined;
  data_base64?: string | undefined;
  eof: boolean;
  tty_rows?: number | undefined;
  tty_cols?: number | undefined;
}

export function execRowsText(execs: readonly ExecRow[]): string {
  if (execs.length === 0) return "no execs";
  const rows = execs.map((row) => [
    row.exec_id,
    row.status === "exited" ? `exit ${row.exit_code ?? "?"}` : row.status,
    time(row.started_at),
    known(row.duration_ms, duration),
    known(row.stdout_bytes, (count) => `out ${bytes(count)}`),
    known(row.stderr_bytes, (count) => `err ${bytes(count)}`),
    name(row.command, 256),
  ]);
  return table(rows);
}
