// @ts-check
/** What the demo looks like: steps, answers, and events as they come in between. */

const colour = process.stdout.isTTY && !process.env["NO_COLOR"];
const paint = (/** @type {number} */ code) => (/** @type {string} */ text) =>
  colour ? `\u001b[${code}m${text}\u001b[0m` : text;
const bold = paint(1);
const dim = paint(2);
const cyan = paint(36);
const green = paint(32);
const yellow = paint(33);

const MOST_LINES = 14;

const print = (/** @type {string} */ text) => process.stdout.write(`${text}\n`);

/** @param {string} text */
export function title(text) {
  print(`\n${bold(text)}`);
}

/** @param {string} text */
export function say(text) {
  print(text);
}

/** @param {string} tool @param {Record<string, unknown>} args */
export function asked(tool, args) {
  const shown = JSON.stringify(args, (key, value) =>
    key === "content" && typeof value === "string" && value.length > 40 ? `${value.slice(0, 37)}…` : value,
  );
  print(`${cyan("▶")} ${bold(tool)} ${dim(shown.length > 150 ? `${shown.slice(0, 149)}…` : shown)}`);
}

/** @param {string} text @param {number} ms @param {boolean} isError */
export function answered(text, ms, isError) {
  const lines = text.trimEnd().split("\n");
  for (const line of lines.slice(0, MOST_LINES)) print(`  ${dim("│")} ${line}`);
  if (lines.length > MOST_LINES) print(`  ${dim(`│ … ${lines.length - MOST_LINES} more lines`)}`);
  print(`  ${isError ? yellow("✗") : green("✓")} ${dim(`${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`)}`);
}

/** @param {{ type: string, subject: string, sequence?: string, data: Record<string, unknown> }} event @param {number} ms since it happened */
export function heard(event, ms) {
  const type = event.type.replace(/^dev\.chorus\.sandbox\.(.*)\.v1$/, "$1");
  const number = event.sequence ? `#${Number(event.sequence)}` : "";
  print(
    `      ${yellow("NATS ◀")} ${number.padStart(3)} ${type.padEnd(20)} ${dim(`${brief(type, event.data)} · ${ms} ms after the fact`)}`,
  );
}

/** @param {string} type @param {Record<string, unknown>} data */
function brief(type, data) {
  const field = (/** @type {string} */ key) => data[key];
  switch (type) {
    case "lifecycle.created":
      return `${field("image")}, ${field("profile")}`;
    case "lifecycle.ready":
      return `in ${field("duration_ms")} ms`;
    case "exec.started":
      return `${String(field("command")).split("\n")[0]?.slice(0, 60)}`;
    case "exec.completed":
      return `${field("status")}, exit ${field("exit_code")}, ended by ${field("ended_by")}`;
    case "file.changed": {
      const changes = /** @type {{ path: string }[]} */ (field("changes"));
      return changes.map((change) => change.path).join(", ");
    }
    case "lifecycle.destroyed":
      return `reason ${field("reason")}`;
    default:
      return `state ${field("state")}`;
  }
}
