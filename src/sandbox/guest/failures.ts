import { type ErrorCode, givenUp, quoted, SandboxError, type SandboxErrorOptions } from "../../errors.ts";
import { failure } from "./schemas.ts";

/** The guest cannot be reached or talks nonsense. */
export function unavailable(message: string, options: SandboxErrorOptions = {}): SandboxError {
  return new SandboxError("GUEST_UNAVAILABLE", message, options);
}

/** The signal aborted: whoever asked left, or had no time left for this question. */
export function unanswered(what: string, signal: AbortSignal | undefined): SandboxError {
  return givenUp(signal?.reason, `The sandbox's guest did not answer ${what}`);
}

interface Refusal {
  code: ErrorCode;
  ours: string;
  next?: string;
  /** For kinds that the guest tells. */
  nextByKind?: Record<string, string>;
}

/** What each code of the guest becomes. A code that is not here is not the guest's to give. */
const refusals: Record<string, Refusal> = {
  INVALID_ARGUMENT: { code: "INVALID_ARGUMENT", ours: "was refused" },
  FILE_NOT_FOUND: { code: "FILE_NOT_FOUND", ours: "found no such file or folder" },
  EXEC_NOT_FOUND: { code: "EXEC_NOT_FOUND", ours: "found no such exec; only the last 128 ended ones are remembered" },
  PERMISSION_DENIED: { code: "PERMISSION_DENIED", ours: "is not permitted to the sandbox's user" },
  FILE_CONFLICT: { code: "FILE_CONFLICT", ours: "met a file that is not as it was expected to be" },
  FILE_INVALID: {
    code: "FILE_INVALID",
    ours: "does not work on this kind of file",
    nextByKind: { needs_recursive: "Repeat it with `recursive: true`: for the folder and all that is in it." },
  },
  EXEC_NOT_STARTED: {
    code: "EXEC_NOT_STARTED",
    ours: "could not start the program",
    nextByKind: {
      cwd: "Make the folder with file_manage and op mkdir, or leave `cwd` out.",
      shell: "Give `argv` instead of `command`: a program and its arguments, which need no shell.",
    },
  },
  EXEC_ENDED: { code: "EXEC_ENDED", ours: "came too late: the exec or its stdin has ended" },
  LIMIT_EXCEEDED: {
    code: "LIMIT_EXCEEDED",
    ours: "met a limit of the sandbox",
    nextByKind: {
      workspace: "Delete files that are not needed, or create a sandbox with a larger workspace_mb.",
      execs: "Wait for running execs to end, or end some with exec_kill.",
      size: "Send or ask for less at once.",
    },
  },
  PAUSED: {
    code: "SANDBOX_NOT_RUNNING",
    ours: "cannot be done while the sandbox is paused",
    next: "Resume it with sandbox_update and `paused: false`.",
  },
  CLAIMED: { code: "CONFLICT", ours: "came too late: another claim holds it" },
  ENDING: { code: "SANDBOX_ENDED", ours: "came too late: the sandbox is ending" },
  INTERNAL: { code: "INTERNAL", ours: "failed inside the sandbox" },
};

/** The error for an answer with status ≥ 400. The guest's own words are quoted and cut. */
export function refusal(what: string, status: number, body: Buffer): SandboxError {
  const said = parse(body);
  const known = said && Object.hasOwn(refusals, said.code) ? refusals[said.code] : undefined;
  if (!said || !known) {
    return unavailable(`The sandbox's guest answered ${what} with status ${status} and no reason that is known.`);
  }
  const errno = said.details?.errno ?? said.errno;
  const kind = said.details?.kind ?? said.kind;
  const reason = errno === undefined ? "" : ` (${quoted(errno, 32)})`;
  const { nextByKind = {} } = known;
  const next = kind !== undefined && Object.hasOwn(nextByKind, kind) ? nextByKind[kind] : known.next;
  return new SandboxError(
    known.code,
    `${capital(what)} ${known.ours}${reason}: ${quoted(said.message)}`,
    next === undefined ? {} : { next },
  );
}

function parse(body: Buffer) {
  try {
    return failure.safeParse(JSON.parse(body.toString())).data;
  } catch {
    return undefined;
  }
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
