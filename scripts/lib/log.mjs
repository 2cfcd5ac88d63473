// @ts-check
/**
 * Progress for people: one line per step with how long it took. Everything goes to stderr, so that stdout stays free
 * for what a script was asked to print.
 */

const { NO_COLOR } = process.env;
const colour = process.stderr.isTTY && !NO_COLOR;
const paint = (/** @type {number} */ code, /** @type {string} */ text) =>
  colour ? `\u001b[${code}m${text}\u001b[0m` : text;

const START_ANNOUNCED_AFTER_MS = 2_000;

/** @param {string} text */
export function say(text) {
  process.stderr.write(`${text}\n`);
}

/** @param {string} text */
export function note(text) {
  say(`  ${paint(2, text)}`);
}

/** @param {string} title */
export function heading(title) {
  say(`\n${paint(1, title)}`);
}

/** @param {number} ms */
export function duration(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`;
}

/**
 * Runs one step and reports it in one line: what it was, what came out of it, how long it took. A slow step is also
 * announced, so that nobody stares at a silent terminal.
 *
 * @template T
 * @param {string} title
 * @param {(result: (text: string) => void) => Promise<T>} work calls `result` with what to show beside the title
 * @returns {Promise<T>}
 */
export async function step(title, work) {
  const started = performance.now();
  let outcome = "";
  const announce = setTimeout(() => note(`… ${title}`), START_ANNOUNCED_AFTER_MS);
  try {
    const value = await work((text) => {
      outcome = text;
    });
    line(paint(32, "✓"), title, outcome, performance.now() - started);
    return value;
  } catch (error) {
    line(paint(31, "✗"), title, "failed", performance.now() - started);
    throw error;
  } finally {
    clearTimeout(announce);
  }
}

/**
 * @param {string} mark
 * @param {string} title
 * @param {string} outcome
 * @param {number} ms
 */
function line(mark, title, outcome, ms) {
  say(`${mark} ${title.padEnd(16)} ${outcome.padEnd(58)} ${paint(2, duration(ms).padStart(9))}`);
}
