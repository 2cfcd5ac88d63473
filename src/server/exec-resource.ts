import type { Call, Sandboxes } from "../sandbox/api.ts";

export const execTemplate = {
  uriTemplate: "sandbox://{sandbox_id}/execs/{exec_id}/{stream}",
  name: "exec-output",
  title: "Output of a command",
  description: "stdout or stderr of a command as it is kept: all of it up to 1 MiB, else its beginning and end.",
  mimeType: "text/plain",
};

/** Most a resource holds of a stream: what the guest gives at once. */
const maxBytes = 1024 * 1024;

interface ExecStream {
  sandbox: string;
  execId: string;
  stream: "stdout" | "stderr";
}

/** What `sandbox://{sandbox_id}/execs/{exec_id}/{stream}` names; undefined for any other URI. */
export function execStreamOf(uri: string): ExecStream | undefined {
  const [, sandbox, execId, stream] =
    /^sandbox:\/\/([^/?#]{1,384})\/execs\/([A-Za-z0-9_-]{1,64})\/(stdout|stderr)$/.exec(uri) ?? [];
  if (sandbox === undefined || execId === undefined || (stream !== "stdout" && stream !== "stderr")) return undefined;
  try {
    return { sandbox: decodeURIComponent(sandbox), execId, stream };
  } catch {
    return undefined;
  }
}

/** The stream as text; what is left out is named where it was. */
export async function readExecStream(
  { sandbox, execId, stream }: ExecStream,
  sandboxes: Sandboxes,
  call: Call,
): Promise<string> {
  const other = stream === "stdout" ? "stderr_offset" : "stdout_offset";
  const request = { [other]: Number.MAX_SAFE_INTEGER, max_output_bytes: maxBytes, wait_s: 0 };
  return (await sandboxes.execOutput(sandbox, execId, request, call))[stream];
}
