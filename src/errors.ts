/** Every way a call can fail, as CONTRACT names them. The first word an agent reads. */
export const errorCodes = [
  "INVALID_ARGUMENT",
  "SANDBOX_NOT_FOUND",
  "SANDBOX_ENDED",
  "SANDBOX_NOT_RUNNING",
  "EXEC_NOT_FOUND",
  "EXEC_NOT_STARTED",
  "EXEC_ENDED",
  "FILE_NOT_FOUND",
  "FILE_CONFLICT",
  "FILE_INVALID",
  "EDIT_NOT_APPLIED",
  "PERMISSION_DENIED",
  "POLICY_DENIED",
  "LIMIT_EXCEEDED",
  "IMAGE_NOT_FOUND",
  "IMAGE_PULL_FAILED",
  "CONFLICT",
  "BACKEND_UNAVAILABLE",
  "GUEST_UNAVAILABLE",
  "TIMEOUT",
  "ABORTED",
  "INTERNAL",
] as const;

export type ErrorCode = (typeof errorCodes)[number];

const retryableCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "BACKEND_UNAVAILABLE",
  "GUEST_UNAVAILABLE",
  "TIMEOUT",
  "IMAGE_PULL_FAILED",
]);

const defaultNext: Record<ErrorCode, string> = {
  INVALID_ARGUMENT: "Correct the argument and call again.",
  SANDBOX_NOT_FOUND: "Call sandbox_list to see your sandboxes, or sandbox_create for a new one.",
  SANDBOX_ENDED: "Create a new sandbox with sandbox_create.",
  SANDBOX_NOT_RUNNING: "Call sandbox_get to see its state.",
  EXEC_NOT_FOUND: "Call exec_list to see the execs of this sandbox.",
  EXEC_NOT_STARTED: "Check the program's name and that it is installed in the sandbox's image.",
  EXEC_ENDED: "Read its output with exec_output, or start a new one with exec_run.",
  FILE_NOT_FOUND: "Call file_list on the folder to see what is there.",
  FILE_CONFLICT: "Read the file again and repeat the change on its present content.",
  FILE_INVALID: "Call file_list to see what this path is.",
  EDIT_NOT_APPLIED: "Read the file again and use its exact text.",
  PERMISSION_DENIED: "Use a path below /workspace or /tmp.",
  POLICY_DENIED: "Ask the operator to change the policy, or stay within it (resource policy://effective).",
  LIMIT_EXCEEDED: "Free what is not needed or ask for less.",
  IMAGE_NOT_FOUND: "Check the image's name, or leave `image` out to use the default image.",
  IMAGE_PULL_FAILED: "Try again, or use an image the engine already has.",
  CONFLICT: "Use another request_id or name.",
  BACKEND_UNAVAILABLE: "Start the container engine (for Docker: `systemctl start docker`) and call again.",
  GUEST_UNAVAILABLE: "Call again; if it stays so, destroy the sandbox and create a new one.",
  TIMEOUT: "Call again; if it stays so, destroy the sandbox and create a new one.",
  ABORTED: "Nothing to do: the call was cancelled.",
  INTERNAL: "Call again; if it happens again, report it with the server's log.",
};

export interface SandboxErrorOptions {
  /** What the caller does next, one sentence. @default a sentence that fits the code */
  next?: string;
  /** Whether the same call may succeed later. @default by code */
  retryable?: boolean;
  cause?: unknown;
}

/** The one error class. `message` is ours; foreign words stand in it only through {@link quoted}. */
export class SandboxError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly next: string;

  constructor(code: ErrorCode, message: string, options: SandboxErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "SandboxError";
    this.code = code;
    this.retryable = options.retryable ?? retryableCodes.has(code);
    this.next = options.next ?? defaultNext[code];
  }

  /** Anything thrown, as a SandboxError: aborts become ABORTED or TIMEOUT, the unknown INTERNAL. */
  static from(error: unknown): SandboxError {
    if (error instanceof SandboxError) return error;
    if (error instanceof Error && (error.name === "AbortError" || isTimeout(error))) return givenUp(error);
    const words = error instanceof Error ? error.message : String(error);
    return new SandboxError("INTERNAL", `Unexpected failure: ${quoted(words)}`, { cause: error });
  }
}

const isTimeout = (reason: unknown): boolean => reason instanceof Error && reason.name === "TimeoutError";

/**
 * Why a wait ended without an answer, from what its signal was aborted with: TIMEOUT after a time limit of ours, else ABORTED.
 * @param silent who did not do what, as it reads before "in time"
 */
export function givenUp(reason: unknown, silent = "What was asked for did not come", next?: string): SandboxError {
  if (!isTimeout(reason)) return new SandboxError("ABORTED", "The call was cancelled.", { cause: reason });
  return new SandboxError("TIMEOUT", `${silent} in time.`, { cause: reason, ...(next !== undefined && { next }) });
}

/** Whether this is a failure of ours with one of `codes`. */
export const hasCode = <Code extends ErrorCode>(
  error: unknown,
  ...codes: Code[]
): error is SandboxError & { code: Code } => error instanceof SandboxError && codes.some((code) => code === error.code);

/** The code of a failed system call, such as `ENOENT`; "unknown" where there is none. */
export const systemCode = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : "unknown";

/** Words of an engine, guest or process: made printable, put in quotes, cut at `max` characters. */
export function quoted(words: string, max = 300): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being removed
  const printable = words.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g, " ").trim();
  const cut = printable.length > max ? `${printable.slice(0, max)}…` : printable;
  return JSON.stringify(cut);
}
