import type { JournalEntry } from "../events.ts";
import { madeAt } from "../ids.ts";
import { digits, part } from "./keys.ts";
import { appendEvent, hostSandbox, type Numbering } from "./numbering.ts";

/** Entries dropped in one transaction: some tens of milliseconds of the lock. */
const batch = 4000;
/** How far below the bound dropping goes on, so that it happens now and then and not with every entry. */
const slack = 1 / 32;
const ageSlackMs = 3_600_000;

interface Gap {
  from: number;
  to: number;
  count: number;
}

/**
 * One step towards the bound in bytes, in a transaction: entries of file.* go first, then the oldest. True while another
 * step would help.
 */
export function dropOverflow(numbering: Numbering, mostBytes: number): boolean {
  const { tables } = numbering;
  const bytes = () => tables.totals.get("journal")?.bytes ?? 0;
  const before = bytes();
  if (before <= mostBytes) return false;
  const excess = before - mostBytes * (1 - slack);
  const files = tables.journalFiles.keys({ limit: batch });
  const oldest = tables.journal.keys({ limit: batch });
  drop(
    numbering,
    new Set([...files, ...oldest]),
    "the journal is full",
    ({ freed, dropped }) => freed >= excess || dropped >= batch,
  );
  const after = bytes();
  return after > mostBytes && after < before;
}

/** One step of dropping entries older than a time, in a transaction. True while there may be more. */
export function dropAged(numbering: Numbering, olderThanMs: number): boolean {
  const { tables } = numbering;
  const oldest = tables.journal.keys({ limit: batch });
  const first = oldest[0] === undefined ? undefined : tables.journal.get(oldest[0]);
  // What happened long ago and was told only now is as new as any other.
  if (first === undefined || madeAt(first.id) >= olderThanMs - ageSlackMs) return false;
  const why = "older than the journal keeps";
  const { dropped } = drop(numbering, oldest, why, ({ entry }) => madeAt(entry.id) >= olderThanMs);
  return dropped === batch;
}

/**
 * Forgets relays that nobody has spoken for since a time, in a transaction: their target is no longer configured. The last one stays,
 * since a host that slept for long has not changed its target.
 */
export function forgetRelays({ tables }: Numbering, olderThanMs: number): void {
  const relays = tables.relays.keys({}).map((target) => ({ target, at: tables.relays.get(target)?.at ?? "" }));
  const [, ...others] = relays.sort((a, b) => (a.at < b.at ? 1 : -1));
  const limit = new Date(olderThanMs).toISOString();
  for (const { target, at } of others) if (at < limit) tables.relays.remove(target);
}

/** Drops entries in this order until `enough`, then tells each sandbox what some relay had not delivered yet. */
function drop(
  numbering: Numbering,
  positions: Iterable<string>,
  why: string,
  enough: (state: { entry: JournalEntry; freed: number; dropped: number }) => boolean,
): { dropped: number } {
  const { tables, records } = numbering;
  const relays = tables.relays.values({});
  const delivered = relays.length === 0 ? 0 : Math.min(...relays.map((relay) => relay.cursor));
  const gaps = new Map<string, Gap>();
  let freed = 0;
  let dropped = 0;
  for (const position of positions) {
    const found = tables.journal.sized(position);
    if (!found) continue;
    const entry = found.value;
    if (enough({ entry, freed, dropped })) break;
    tables.journal.remove(position);
    tables.journalBySandbox.remove(`${part(entry.sandbox_id)}/${digits(entry.cursor)}`);
    if (entry.type.startsWith("file.")) tables.journalFiles.remove(position);
    freed += found.bytes;
    dropped += 1;
    if (entry.cursor > delivered) gaps.set(entry.sandbox_id, widened(gaps.get(entry.sandbox_id), entry));
  }
  const totals = tables.totals.get("journal");
  if (totals) tables.totals.put("journal", { ...totals, bytes: Math.max(0, totals.bytes - freed) });
  for (const [sandboxId, gap] of gaps) {
    // A sandbox whose record is gone ended days ago; nobody is left to be told.
    if (sandboxId !== hostSandbox && !records.sandbox(sandboxId)) continue;
    appendEvent(numbering, sandboxId, {
      type: "journal.dropped",
      data: { from_sequence: gap.from, to_sequence: gap.to, count: gap.count, why },
      actor: { kind: "system" },
    });
  }
  return { dropped };
}

/** A gap with one more entry; an entry that itself told of a gap hands that on. */
function widened(gap: Gap | undefined, entry: JournalEntry): Gap {
  const { from_sequence, count } = entry.type === "journal.dropped" ? entry.data : {};
  const from = typeof from_sequence === "number" ? Math.min(from_sequence, entry.sequence) : entry.sequence;
  const inherited = typeof count === "number" ? count : 0;
  return {
    from: Math.min(gap?.from ?? from, from),
    to: Math.max(gap?.to ?? entry.sequence, entry.sequence),
    count: (gap?.count ?? 0) + 1 + inherited,
  };
}
