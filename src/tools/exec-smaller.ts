import type { ExecOutputRequest } from "../sandbox/api.ts";
import type { ExecResult } from "../sandbox/views.ts";
import type { ToolContext } from "./define-tool.ts";

const defaultOutputBytes = 16_384;

/** The same exec with less output, and with what the notes said that only the first call could know. */
export async function smallerExec(
  sandboxId: string,
  first: ExecResult,
  { max_output_bytes = defaultOutputBytes, ...request }: ExecOutputRequest,
  share: number,
  { sandboxes, call }: ToolContext,
): Promise<ExecResult> {
  const less = { ...request, max_output_bytes: Math.max(256, Math.floor(max_output_bytes * share)), wait_s: 0 };
  const exec = await sandboxes.execOutput(sandboxId, first.exec_id, less, call);
  // What was true of a command that ran then may not be of one that has ended now.
  if (exec.status !== first.status) return exec;
  const notes = [...new Set([...(first.notes ?? []), ...(exec.notes ?? [])])];
  return { ...exec, ...(notes.length > 0 && { notes }) };
}
