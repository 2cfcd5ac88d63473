// @ts-check
/** A set-up problem a person can act on: shown as text and a next step, without a stack. */
export class SetupError extends Error {
  /**
   * @param {string} message what is wrong
   * @param {{ next?: string, cause?: unknown }} [more] `next`: what to do about it
   */
  constructor(message, { next, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "SetupError";
    this.next = next;
  }
}

/**
 * @param {unknown} error
 * @returns {string}
 */
export function explain(error) {
  if (error instanceof SetupError) return error.next ? `${error.message}\nNext: ${error.next}` : error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
