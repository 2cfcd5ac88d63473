import type { Call } from "./api.ts";
import { askedBy, tellOf } from "./asked.ts";
import type { Core } from "./core.ts";
import type { FileTell, GuestFact } from "./guest/types.ts";
import { earliest, latest } from "./lifecycle.ts";
import type { SandboxRecord, Tx } from "./store/types.ts";

/** Facts of changed files gather for so long, and become one event. */
const gatherMs = 1000;
/** Paths in one event: so many, and so many bytes of them. */
const mostChanges = 200;
const mostPathBytes = 32 * 1024;

export type ChangesFact = Extract<GuestFact, { kind: "files" }>;
type Change = ChangesFact["changes"][number];

/** What goes along with a change of files: who asked for it, and, where it is to be told at once, the question for the facts. */
export function changeTell(core: Core, record: SandboxRecord, call: Call): FileTell {
  return {
    ...tellOf(core, record, call),
    ...(gatheringMs(record) === 0 && { facts_after: record.fact_cursor }),
  };
}

/** How long facts of changed files may still gather. 0: the next one is told at once. */
export function gatheringMs({ changes }: Pick<SandboxRecord, "changes">): number {
  const since = changes?.at ? Date.now() - Date.parse(changes.at) : gatherMs;
  return since >= 0 && since < gatherMs ? gatherMs - since : 0;
}

/** Whether these facts only tell of changed files, less than a second after others were told. */
export const mayGather = (record: SandboxRecord | undefined, facts: readonly GuestFact[]): boolean =>
  record !== undefined &&
  gatheringMs(record) > 0 &&
  facts.every(({ kind, seq }) => kind === "files" || seq <= record.fact_cursor);

/** Tells of all of them in one event, with the first one's caller and trace. Returns the record after it. */
export function tellChanges(tx: Tx, record: SandboxRecord, facts: readonly ChangesFact[]): SandboxRecord {
  const [first] = facts;
  const last = facts.at(-1);
  if (!first || !last) return record;
  const all = new Map<string, Change>();
  for (const change of facts.flatMap(({ changes }) => changes))
    all.set(change.path, merged(all.get(change.path), change));
  const changes = fitting([...all.values()]);
  const omitted = all.size - changes.length + facts.reduce((sum, fact) => sum + fact.omitted, 0);
  tx.emit(record.sandbox_id, {
    type: "file.changed",
    data: { changes, ...(omitted > 0 && { omitted }) },
    at: last.at,
    ...askedBy(first.meta),
  });
  const now = new Date().toISOString();
  return {
    ...record,
    changes: { told: (record.changes?.told ?? 0) + facts.length, at: now },
    last_used_at: latest(record.last_used_at, earliest(last.at, now)),
  };
}

/** A file that came to be and was written again came to be. */
const merged = (before: Change | undefined, now: Change): Change =>
  before?.op === "create" && (now.op === "write" || now.op === "edit") ? { ...now, op: "create" } : now;

function fitting(changes: Change[]): Change[] {
  let bytes = 0;
  return changes.slice(0, mostChanges).filter(({ path }) => {
    bytes += Buffer.byteLength(JSON.stringify(path));
    return bytes <= mostPathBytes;
  });
}
