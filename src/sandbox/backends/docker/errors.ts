import { type ErrorCode, givenUp, quoted, SandboxError } from "../../../errors.ts";

/** What a failed engine call was about, for the message and the code. */
export interface CallContext {
  /** What was being done, as it reads after "could not": `start the sandbox`. */
  action: string;
  /** Where the engine is: `unix:///var/run/docker.sock`. */
  endpoint: string;
  /** What a 404 means here. */
  notFound?: ErrorCode;
}

/** The engine answered with an error status. */
export class EngineAnswer extends Error {
  readonly status: number;
  /** The engine's own words. */
  readonly words: string;

  constructor(status: number, words: string, options?: ErrorOptions) {
    super(`HTTP ${status}: ${words}`, options);
    this.name = "EngineAnswer";
    this.status = status;
    this.words = words;
  }
}

/** The call took longer than its own limit; not the caller's cancelling. */
export class EngineTimeout extends Error {
  readonly limitMs: number;

  constructor(limitMs: number) {
    super(`no answer within ${limitMs} ms`);
    this.name = "EngineTimeout";
    this.limitMs = limitMs;
  }
}

/** What to do about an engine that takes too long. */
export const busyEngine = "Check the load of the engine's host (`docker info` must answer), then call again.";

/** Every way an engine call fails, in the words of CONTRACT. */
export function toSandboxError(error: unknown, context: CallContext): SandboxError {
  if (error instanceof SandboxError) return error;
  if (error instanceof EngineAnswer) return fromAnswer(error, context);
  if (error instanceof EngineTimeout) {
    return new SandboxError(
      "BACKEND_UNAVAILABLE",
      `The engine at ${context.endpoint} did not ${context.action} within ${error.limitMs / 1000} s.`,
      { cause: error, next: busyEngine },
    );
  }
  const code = errno(error);
  if (code !== undefined) return unreachable(code, context.endpoint, error);
  if (error instanceof Error && error.name === "AbortError") return givenUp(error);
  const words = error instanceof Error ? error.message : String(error);
  return new SandboxError("INTERNAL", `Could not ${context.action}: ${quoted(words)}`, { cause: error });
}

function fromAnswer(answer: EngineAnswer, context: CallContext): SandboxError {
  const says = `the engine says ${quoted(answer.words)}`;
  const make = (code: ErrorCode, next?: string) =>
    new SandboxError(code, `Could not ${context.action}: ${says}`, {
      cause: answer,
      ...(next === undefined ? {} : { next }),
    });
  if (/apparmor|seccomp|selinux|unknown or invalid runtime name|unknown runtime/i.test(answer.words)) {
    return make(
      "BACKEND_UNAVAILABLE",
      "The operator can check security and runtimes of the policy against this engine.",
    );
  }
  // An exec that meets a container just dying gets this as a failure of the engine's own.
  if ((answer.status === 409 || answer.status >= 500) && /is not running|is paused|not running/i.test(answer.words)) {
    return make("SANDBOX_NOT_RUNNING");
  }
  switch (answer.status) {
    case 400:
      return make("INVALID_ARGUMENT");
    case 401:
    case 403:
      return make("PERMISSION_DENIED", "Give this user access to the engine, or log in to the registry.");
    case 404:
      if (/no such image/i.test(answer.words)) return make("IMAGE_NOT_FOUND");
      return make(context.notFound ?? "SANDBOX_NOT_FOUND");
    case 409:
      return make("CONFLICT");
    case 503:
      return make("BACKEND_UNAVAILABLE");
    default:
      if (/no space left on device/i.test(answer.words)) {
        return make("LIMIT_EXCEEDED", "Free disk space on the engine's host (`docker system df` tells what uses it).");
      }
      if (/context canceled|context deadline exceeded/i.test(answer.words)) return make("BACKEND_UNAVAILABLE");
      return make("INTERNAL");
  }
}

/** What it means when limits of a running sandbox cannot be changed. */
export function limitFailure(error: unknown, { memory_mb }: { memory_mb?: number }): unknown {
  if (!(error instanceof SandboxError) || !(error.cause instanceof EngineAnswer)) return error;
  const { status, words } = error.cause;
  const used = /unable to set memory limit|memory\.(?:limit_in_bytes|max)|device or resource busy/i.test(words);
  if (memory_mb !== undefined && used && status >= 500) {
    return new SandboxError(
      "LIMIT_EXCEEDED",
      `memory_mb ${memory_mb} is less than the sandbox uses now; its limits are as they were.`,
      {
        cause: error.cause,
        next: "Free memory first (end commands, delete files in the workspace and /tmp: they are memory), or ask for more; sandbox_stats tells what is used.",
      },
    );
  }
  // Podman has no such call, gVisor no such command.
  if ((status === 404 && /page not found|^not found$/i.test(words)) || /exit status 128: Usage/i.test(words)) {
    return new SandboxError(
      "BACKEND_UNAVAILABLE",
      "This engine or runtime cannot change the limits of a running sandbox.",
      {
        cause: error.cause,
        next: "Create a new sandbox with the limits that are needed.",
        retryable: false,
      },
    );
  }
  return error;
}

/**
 * An engine that cannot do what it was asked says so in a warning and goes on without. Only swap is passed over: kernels that do
 * not account it are common, and the limit of the memory itself holds there.
 */
export function checkWarnings(warnings: readonly string[]): void {
  const less = warnings.find(
    (words) => /discarded|not supported|does not support|ignored/i.test(words) && !/swap/i.test(words),
  );
  if (less === undefined) return;
  throw new SandboxError(
    "BACKEND_UNAVAILABLE",
    `The engine would leave out a part of the sandbox: it says ${quoted(less)}`,
    {
      next: "The operator can give the engine's host what is missing, or take it out of the policy.",
      retryable: false,
    },
  );
}

/** The errno of a socket failure, also inside an AggregateError of happy eyeballs. */
function errno(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (
    "code" in error &&
    typeof error.code === "string" &&
    /^(E[A-Z]+|CERT_|ERR_TLS|ERR_SSL|DEPTH_|SELF_|UNABLE_)/.test(error.code)
  ) {
    return error.code;
  }
  // A modem that destroyed its request, or an engine that hung up before it answered.
  if (/socket hang up|aborted|premature close/i.test(error.message) && error.name !== "AbortError") return "ECONNRESET";
  return undefined;
}

/** An engine nobody can talk to, with the step that changes that. */
export function unreachable(code: string, endpoint: string, cause?: unknown): SandboxError {
  const [why, next] = unreachableWords(code, endpoint);
  return new SandboxError("BACKEND_UNAVAILABLE", `The container engine at ${endpoint} ${why} (${code}).`, {
    cause,
    next,
  });
}

function unreachableWords(code: string, endpoint: string): [why: string, next: string] {
  const local = endpoint.startsWith("unix://");
  switch (code) {
    case "EACCES":
    case "EPERM":
      return [
        "does not let this user in",
        "Add the user to the engine's group (`sudo usermod -aG docker $USER`, then log in again), or use a rootless engine.",
      ];
    case "ENOENT":
      return [
        "is not there",
        "Start the engine (for Docker: `systemctl start docker`), or point DOCKER_HOST at a running one.",
      ];
    case "ECONNREFUSED":
      return [
        "does not answer",
        local
          ? "Start the engine (for Docker: `systemctl start docker`) and call again."
          : "Check DOCKER_HOST and that the engine listens there, then call again.",
      ];
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ETIMEDOUT":
      return ["cannot be reached", "Check the host name in DOCKER_HOST and the network, then call again."];
    case "ECONNRESET":
    case "EPIPE":
      return [
        "broke the connection off",
        "Call again; if it stays so, look at the engine's log (`journalctl -u docker`).",
      ];
    default:
      if (/^(CERT_|ERR_TLS|ERR_SSL|DEPTH_|SELF_|UNABLE_|EPROTO)/.test(code)) {
        return ["failed the TLS handshake", "Check DOCKER_TLS_VERIFY and the certificates in DOCKER_CERT_PATH."];
      }
      return ["cannot be used", "Check DOCKER_HOST and the engine's log, then call again."];
  }
}
