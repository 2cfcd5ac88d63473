/** A refusal of the fake guest, as guest/API.md lists them. */
export class Fault extends Error {
  readonly code: string;
  readonly status: number;
  readonly details: Record<string, string>;

  constructor(code: keyof typeof statuses, message: string, details: Record<string, string> = {}) {
    super(message);
    this.code = code;
    this.status = statuses[code];
    this.details = details;
  }
}

const statuses = {
  INVALID_ARGUMENT: 400,
  FILE_NOT_FOUND: 404,
  EXEC_NOT_FOUND: 404,
  PERMISSION_DENIED: 403,
  FILE_CONFLICT: 409,
  FILE_INVALID: 422,
  EXEC_NOT_STARTED: 422,
  EXEC_ENDED: 409,
  LIMIT_EXCEEDED: 429,
  PAUSED: 409,
  CLAIMED: 409,
  ENDING: 409,
  INTERNAL: 500,
} as const;
