// @ts-check
import { readFileSync } from "node:fs";

/** Counts taken from what the test runners themselves report. */

/** @typedef {{ passed: number, failed: number, skipped: number }} Counts */

/**
 * @param {readonly Counts[]} all
 * @returns {Counts}
 */
export function sum(all) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const { passed, failed, skipped } of all) {
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
  }
  return total;
}

/** @param {Counts} counts */
export function countsLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/**
 * @param {string} file the report of vitest's JSON reporter
 * @param {boolean} succeeded as vitest's exit code says
 * @returns {Counts}
 */
export function vitestCounts(file, succeeded) {
  const report = readReport(file);
  const counts = {
    passed: report?.numPassedTests ?? 0,
    // A file that cannot even be loaded has no tests to fail.
    failed: (report?.numFailedTests ?? 0) + (report?.testResults ?? []).filter(failedAsAWhole).length,
    skipped: (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0),
  };
  return withExitCode(counts, succeeded);
}

/**
 * Follows `go test -json` as it comes; top-level tests count, a package that does not build counts as one failure.
 *
 * @param {(text: string) => void} show gets what a person wants to read: results per package, the output of failures
 */
export function goTestReader(show) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  /** @type {Map<string, { output: string, failures: number }>} */
  const packages = new Map();
  /** @param {string} line */
  const read = (line) => {
    const event = parse(line);
    // The compiler's complaints are not events in every version of Go.
    if (!event) return line.trim() === "" ? undefined : show(line);
    if (event.Action === "build-output") return show(event.Output.trimEnd());
    if (!event.Package) return;
    const entry = packages.get(event.Package) ?? { output: "", failures: 0 };
    packages.set(event.Package, entry);
    if (event.Action === "output") entry.output += event.Output;
    else if (event.Test) {
      if (event.Test.includes("/")) return;
      if (event.Action === "pass") counts.passed += 1;
      else if (event.Action === "skip") counts.skipped += 1;
      else if (event.Action === "fail") {
        counts.failed += 1;
        entry.failures += 1;
      }
    } else if (event.Action === "pass" || event.Action === "fail") {
      if (event.Action === "fail" && entry.failures === 0) counts.failed += 1;
      show(event.Action === "fail" ? entry.output.trimEnd() : `ok    ${event.Package}  ${event.Elapsed ?? 0} s`);
      entry.output = "";
    }
  };
  return { read, counts: (/** @type {boolean} */ succeeded) => withExitCode(counts, succeeded) };
}

/**
 * A runner that says it failed has failed, whatever it counted.
 *
 * @param {Counts} counts
 * @param {boolean} succeeded
 * @returns {Counts}
 */
function withExitCode(counts, succeeded) {
  return succeeded || counts.failed > 0 ? counts : { ...counts, failed: 1 };
}

/** @param {{ status: string, assertionResults: Array<{ status: string }> }} file */
function failedAsAWhole({ status, assertionResults }) {
  return status === "failed" && !assertionResults.some((test) => test.status === "failed");
}

/** @param {string} file */
function readReport(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

/** @param {string} line */
function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
