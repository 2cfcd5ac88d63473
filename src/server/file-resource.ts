import type { ReadResourceResult } from "@modelcontextprotocol/server";
import { hasCode, SandboxError } from "../errors.ts";
import type { Call, Sandboxes } from "../sandbox/api.ts";

export const fileTemplate = {
  uriTemplate: "sandbox://{sandbox_id}/files/{+path}",
  name: "file",
  title: "File in a sandbox",
  description:
    "Content of a file up to 1 MiB, or what is in a folder. Relative to the workdir; absolute with a second slash.",
};

const maxBytes = 1024 * 1024;
const maxEntries = 1000;

interface FilePlace {
  sandbox: string;
  path: string;
}

/** What `sandbox://{sandbox_id}/files/{+path}` names; undefined for any other URI. */
export function fileOf(uri: string): FilePlace | undefined {
  const [, sandbox, path] = /^sandbox:\/\/([^/?#]{1,384})\/files\/([^?#]{1,12288})$/.exec(uri) ?? [];
  if (sandbox === undefined || path === undefined) return undefined;
  try {
    return { sandbox: decodeURIComponent(sandbox), path: decodeURIComponent(path) };
  } catch {
    return undefined;
  }
}

/** Text where it is UTF-8, else bytes; a folder as a list. */
export async function readFileResource(
  uri: string,
  { sandbox, path }: FilePlace,
  sandboxes: Sandboxes,
  call: Call,
): Promise<ReadResourceResult["contents"]> {
  let content: string;
  let whole: boolean;
  try {
    const file = await sandboxes.fileRead(sandbox, { path, encoding: "base64", max_bytes: maxBytes }, call);
    content = file.content;
    whole = file.next_offset === undefined;
  } catch (error) {
    if (!hasCode(error, "FILE_INVALID")) throw error;
    const list = await sandboxes.fileList(sandbox, { path, limit: maxEntries }, call);
    return [{ uri, mimeType: "application/json", text: JSON.stringify(list) }];
  }
  if (!whole) {
    throw new SandboxError("LIMIT_EXCEEDED", `The file has more than the ${maxBytes} bytes of a resource.`, {
      next: "Read it in parts with file_read and offset.",
    });
  }
  const text = asText(Buffer.from(content, "base64"));
  return [
    text === undefined
      ? { uri, mimeType: "application/octet-stream", blob: content }
      : { uri, mimeType: "text/plain", text },
  ];
}

function asText(bytes: Buffer): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
