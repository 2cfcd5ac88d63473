import { setImmediate } from "node:timers/promises";
import { quoted, SandboxError } from "../errors.ts";
import { findSandbox } from "./access.ts";
import type { Call, EventsRequest } from "./api.ts";
import type { Core } from "./core.ts";
import { cutData } from "./cut.ts";
import { type JournalEntry, journaledEvents } from "./events.ts";
import { isExecIdOf } from "./ids.ts";
import type { EventsResult } from "./views.ts";

const newestByDefault = 20;
const mostEvents = 200;
const maxEventBytes = 52 * 1024;
const batchSize = 500;

/** Events from the journal: a page of them, or a wait for the next. */
export async function readEvents(core: Core, request: EventsRequest, call: Call): Promise<EventsResult> {
  const { journal } = core.store;
  const sandboxId = request.sandbox_id === undefined ? undefined : findSandbox(core, request.sandbox_id).sandbox_id;
  const types = checkedTypes(request.types);
  if (request.exec_id !== undefined && !isExecIdOf(core.store.installId, request.exec_id)) {
    throw new SandboxError("EXEC_NOT_FOUND", `There is no exec ${quoted(request.exec_id, 64)}.`, {
      next: "Call exec_list with the sandbox_id to see the execs of a sandbox.",
    });
  }
  const limit = Math.min(request.limit ?? newestByDefault, mostEvents);
  const wanted = (entry: JournalEntry): boolean =>
    entry.tenant === core.tenant &&
    (!types || types.has(entry.type)) &&
    (request.exec_id === undefined || entry.data["exec_id"] === request.exec_id);
  const render = request.format === "cloudevents" ? core.toCloudEvent : compactEvent;

  if (request.after === undefined) {
    // "What is new" has an answer at once; only waiting for what comes after a known point makes sense.
    const newest = journal.newest();
    const entries = newestMatching(core, sandboxId, wanted, limit);
    const events = newestFitting(entries, render);
    return { events, next_cursor: String(newest), ...gapOf(core.undelivered?.()) };
  }
  const asked = cursorOf(request.after, journal.newest());
  // A read may show less than the one that gave the cursor (`CommitOrder`), a transaction shows all.
  const newest = asked > journal.newest() ? await core.store.write(() => journal.newest()) : asked;
  const after = Math.min(asked, newest);
  const oldest = journal.oldest();
  const dropped =
    request.after !== "now" && request.after !== "start" && after + 1 < oldest
      ? `Events after ${after} up to ${oldest - 1} are no longer kept.`
      : asked > after
        ? `The journal ends at ${after}, before the cursor ${asked}: that one is of another journal. What is here comes with after: "start".`
        : undefined;
  const deadline = performance.now() + (request.wait_s ?? 0) * 1000;
  let position = after;
  for (;;) {
    // Subscribed before reading: what is appended in between wakes the wait.
    const appended = nextAppend(core, call.signal, deadline);
    try {
      const found: JournalEntry[] = [];
      for (;;) {
        const batch = journal.page(position, { limit: batchSize, ...(sandboxId && { sandboxId }) });
        for (const entry of batch.entries) {
          position = entry.cursor;
          if (wanted(entry)) found.push(entry);
          if (found.length === limit) break;
        }
        if (found.length >= limit) break;
        // What was skipped as another sandbox's is read as well.
        position = batch.upTo;
        if (batch.entries.length < batchSize) break;
        // A whole journal may hold nothing that is wanted: others get their turn, and the caller may give up.
        await setImmediate();
        if (call.signal.aborted) throw new SandboxError("ABORTED", "The call was cancelled.");
      }
      if (found.length > 0 || performance.now() >= deadline) {
        return { ...page(found, render, position), ...gapOf(dropped, core.undelivered?.()) };
      }
      await appended.wait();
    } finally {
      appended.cancel();
    }
  }
}

/** What is missing here, and what is missing to others. */
function gapOf(...gaps: (string | undefined)[]): { gap?: string } {
  const told = gaps.filter((gap) => gap !== undefined);
  return told.length > 0 ? { gap: told.join(" ") } : {};
}

function newestMatching(
  core: Core,
  sandboxId: string | undefined,
  wanted: (e: JournalEntry) => boolean,
  limit: number,
): JournalEntry[] {
  // Filters may skip most entries: look further back in growing steps, up to a bound.
  for (let window = limit; ; window *= 8) {
    const entries = core.store.journal.latest({ limit: window, ...(sandboxId && { sandboxId }) });
    const matching = entries.filter(wanted);
    if (matching.length >= limit || entries.length < window || window > 50_000) return matching.slice(-limit);
  }
}

function page(
  entries: JournalEntry[],
  render: (entry: JournalEntry) => Record<string, unknown>,
  position: number,
): EventsResult {
  const events: Record<string, unknown>[] = [];
  let bytes = 0;
  let next = position;
  for (const [i, entry] of entries.entries()) {
    const event = fitting(entry, render);
    bytes += sizeOf(event);
    if (bytes > maxEventBytes && i > 0) {
      next = entries[i - 1]?.cursor ?? position;
      break;
    }
    events.push(event);
  }
  return { events, next_cursor: String(next) };
}

/** The newest of them that an answer holds, in order. */
function newestFitting(
  entries: JournalEntry[],
  render: (entry: JournalEntry) => Record<string, unknown>,
): Record<string, unknown>[] {
  const events: Record<string, unknown>[] = [];
  let bytes = 0;
  for (const entry of entries.toReversed()) {
    const event = fitting(entry, render);
    bytes += sizeOf(event);
    if (bytes > maxEventBytes && events.length > 0) break;
    events.unshift(event);
  }
  return events;
}

/** An event that is too large for any answer is cut: a reader could not get past it otherwise. */
function fitting(entry: JournalEntry, render: (entry: JournalEntry) => Record<string, unknown>) {
  const event = render(entry);
  const excess = sizeOf(event) - maxEventBytes;
  return excess > 0 ? render({ ...entry, data: cutData(entry.data, excess) }) : event;
}

const sizeOf = (event: Record<string, unknown>): number => Buffer.byteLength(JSON.stringify(event));

function nextAppend(
  core: Core,
  signal: AbortSignal,
  deadline: number,
): { wait: () => Promise<void>; cancel: () => void } {
  let wake: () => void = () => {};
  const appended = new Promise<void>((resolve) => {
    wake = resolve;
  });
  const unsubscribe = core.store.journal.onAppend(() => wake());
  return {
    async wait() {
      const timer = setTimeout(() => wake(), Math.max(0, deadline - performance.now())).unref();
      const onAbort = () => wake();
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        if (!signal.aborted) await appended;
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
      }
      if (signal.aborted) throw new SandboxError("ABORTED", "The call was cancelled.");
    },
    cancel: unsubscribe,
  };
}

function cursorOf(after: string, newest: number): number {
  if (after === "start") return 0;
  if (after === "now") return newest;
  if (!/^\d{1,15}$/.test(after)) {
    throw new SandboxError(
      "INVALID_ARGUMENT",
      `after: ${quoted(after, 60)} is no cursor; give "start", "now" or a cursor from an earlier answer.`,
    );
  }
  return Number(after);
}

function checkedTypes(types: string[] | undefined): Set<string> | undefined {
  if (!types || types.length === 0) return undefined;
  const known = Object.keys(journaledEvents);
  // A domain alone means all of its events.
  const chosen = types.flatMap((type) => known.filter((name) => name === type || name.startsWith(`${type}.`)));
  const unknown = types.filter((type) => !known.some((name) => name === type || name.startsWith(`${type}.`)));
  if (unknown.length > 0) {
    throw new SandboxError(
      "INVALID_ARGUMENT",
      `types: unknown ${unknown.map((t) => quoted(t, 60)).join(", ")}; known are ${known.join(", ")}.`,
    );
  }
  return new Set(chosen);
}

const commonKeys = new Set(["sandbox_id", "host", "tenant", "labels", "actor"]);

/** An event without what repeats in every one. */
export function compactEvent(entry: JournalEntry): Record<string, unknown> {
  const data = Object.fromEntries(Object.entries(entry.data).filter(([key]) => !commonKeys.has(key)));
  return {
    cursor: String(entry.cursor),
    id: entry.id,
    time: entry.time,
    type: entry.type,
    sandbox_id: entry.sandbox_id,
    sequence: entry.sequence,
    ...data,
  };
}
