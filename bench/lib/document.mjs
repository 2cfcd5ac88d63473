// @ts-check
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { plot } from "./plot.mjs";
import { markdown } from "./show.mjs";

const ROOT = join(import.meta.dirname, "../..");
const DOCUMENT = join(ROOT, "docs/performance.md");
const PLOTS = join(ROOT, "docs/performance");
const BEGIN = "<!-- npm run bench -- --write: begin -->";
const END = "<!-- npm run bench -- --write: end -->";

/** @param {string} text @param {string} generated */
export function replaceGenerated(text, generated) {
  const [from, to] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (from < 0 || to < from) throw new Error(`docs/performance.md lacks the lines ${BEGIN} and ${END}`);
  return `${text.slice(0, from)}${BEGIN}\n\n${generated}\n\n${text.slice(to)}`;
}

/** Brings docs/performance.md and its plots up to this run. @param {import("./show.mjs").Report} report */
export function writeDocument(report) {
  writeFileSync(DOCUMENT, replaceGenerated(readFileSync(DOCUMENT, "utf8"), markdown(report)));
  mkdirSync(PLOTS, { recursive: true });
  for (const curve of report.curves) writeFileSync(join(PLOTS, `${curve.id}.svg`), plot(curve));
}
