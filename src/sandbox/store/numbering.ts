import { SandboxError } from "../../errors.ts";
import type { JournalEntry, SandboxEvent } from "../events.ts";
import { uuidv7 } from "../ids.ts";
import { digits, part } from "./keys.ts";
import type { Records } from "./records.ts";
import type { Tables } from "./tables.ts";

/** Facts about the host itself are told under this id and have no record. */
export const hostSandbox = "_host";

/** A message of NATS is 1 MiB by default, envelope included. */
const mostBytes = 1_000_000;

export interface Numbering {
  records: Records;
  tables: Tables;
  host: string;
  tenant: string;
  clock: () => number;
  nextId: () => string;
}

/** Ids that sort in the order they were made by this process: UUIDv7 with a counter behind the milliseconds. */
export function monotonicIds(clock: () => number): () => string {
  let last = 0;
  let count = 0;
  return () => {
    const now = clock();
    if (now > last) [last, count] = [now, 0];
    else if (count < 0xfff) count += 1;
    else [last, count] = [last + 1, 0];
    const id = uuidv7(last);
    return `${id.slice(0, 15)}${count.toString(16).padStart(3, "0")}${id.slice(18)}`;
  };
}

/** Guests and engines are believed as far as it makes sense. */
function happened(at: string | undefined, born: string | undefined, now: number): string {
  const told = at === undefined ? now : Date.parse(at);
  const earliest = born === undefined ? 0 : Date.parse(born);
  return new Date(Number.isFinite(told) ? Math.min(now, Math.max(told, earliest)) : now).toISOString();
}

/** Numbers a fact, completes it from the record as it stands in this transaction, and appends it to the journal. */
export function appendEvent(numbering: Numbering, sandboxId: string, event: SandboxEvent): JournalEntry {
  const { records, tables, host, clock, nextId } = numbering;
  const record = records.sandbox(sandboxId);
  if (!record && sandboxId !== hostSandbox) {
    throw new SandboxError("INTERNAL", `An event of a sandbox the store does not know: ${sandboxId.slice(0, 64)}.`);
  }
  const tenant = record?.tenant ?? numbering.tenant;
  const sequence = 1 + (record?.sequence ?? tables.sequences.get(sandboxId) ?? 0);
  const totals = tables.totals.get("journal") ?? { newest: 0, bytes: 0 };
  const cursor = totals.newest + 1;
  const entry: JournalEntry = {
    cursor,
    id: nextId(),
    sandbox_id: sandboxId,
    tenant,
    host,
    type: event.type,
    sequence,
    time: happened(event.at, record?.created_at, clock()),
    ...(event.traceparent !== undefined && { traceparent: event.traceparent }),
    data: {
      ...event.data,
      sandbox_id: sandboxId,
      host,
      tenant,
      labels: record?.labels ?? {},
      actor: event.actor,
      state: record?.state ?? "running",
      ...(event.request_id !== undefined && { request_id: event.request_id }),
      ...(event.cause !== undefined && { cause: event.cause }),
    },
  };
  const position = digits(cursor);
  const bytes = tables.journal.append(position, entry);
  if (bytes > mostBytes) {
    throw new SandboxError("INTERNAL", `An event of type ${event.type} has ${bytes} bytes, more than ${mostBytes}.`);
  }
  tables.journalBySandbox.put(`${part(sandboxId)}/${position}`, cursor);
  if (event.type.startsWith("file.")) tables.journalFiles.put(position, cursor);
  tables.totals.put("journal", { newest: cursor, bytes: totals.bytes + bytes });
  if (record) records.setSequence(record, sequence);
  else tables.sequences.put(sandboxId, sequence);
  return entry;
}
