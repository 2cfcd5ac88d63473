import { nonsense, unframe } from "./framing.ts";
import { viewHeader } from "./schemas.ts";
import type { ExecSnapshot, ExecView, GuestFacts } from "./types.ts";

/** An exec's state and output out of a framed answer. What was asked is held against what was answered. */
export function parseSnapshot(
  what: string,
  answer: Buffer,
  asked: { execId: string; view: ExecView; maxBytes: number },
): ExecSnapshot {
  const { header, bytes } = unframe(what, viewHeader, answer);
  const { view } = asked;
  if (header.exec.exec_id !== asked.execId) throw nonsense(what, "it tells of another exec");
  // Head and tail of two streams; only a search finds more places.
  if (view.match === undefined && header.segments.length > 4) throw nonsense(what, "it has too many segments");
  if (bytes.length > asked.maxBytes) throw nonsense(what, "it has more output than was asked for");
  const next = { stdout: view.stdout_offset ?? 0, stderr: view.stderr_offset ?? 0 };
  let at = 0;
  const segments = header.segments.map(({ stream, from, len }) => {
    if (from < next[stream]) throw nonsense(what, `its ${stream} goes back`);
    next[stream] = from + len;
    const segment = { stream, from, bytes: bytes.subarray(at, at + len) };
    at += len;
    return segment;
  });
  if (at !== bytes.length) throw nonsense(what, "the lengths it tells are not those of the output");
  const snapshot: ExecSnapshot = { exec: header.exec, segments };
  if (header.matched) snapshot.matched = header.matched;
  if (typeof header.match_total === "number") {
    const { match_total: total, match_partial, match_more } = header;
    snapshot.found = { total, partial: match_partial === true, more: match_more === true };
  }
  if (header.facts) {
    checkFacts(what, view.facts_after ?? 0, header.facts);
    snapshot.facts = header.facts;
  }
  return snapshot;
}

/** Facts are counted by their sequence, so it must rise from what was asked for. */
export function checkFacts(what: string, after: number, { facts, next }: GuestFacts): void {
  let last = after;
  for (const { seq } of facts) {
    if (seq <= last || seq >= next) throw nonsense(what, "its facts are out of order");
    last = seq;
  }
}
