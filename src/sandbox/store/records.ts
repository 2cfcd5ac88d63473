import { SandboxError } from "../../errors.ts";
import type { SandboxState } from "../events.ts";
import { digits, endOf, key, listKey, part, timeKey } from "./keys.ts";
import type { Tables } from "./tables.ts";
import type { ExecRecord, PoolMember, SandboxRecord } from "./types.ts";

const liveStates: ReadonlySet<SandboxState> = new Set<SandboxState>(["creating", "running", "paused"]);
const pageSize = 100;
const lookedAtToForget = 64;

const placeOf = (record: SandboxRecord): string => `${part(record.tenant)}/${listKey(record)}`;
const endedKey = (record: SandboxRecord): string => timeKey(record.ended?.at ?? record.last_used_at, record.sandbox_id);
/** Equal for records that stand in the same indexes at the same places. */
const indexedAs = (record: SandboxRecord): string =>
  [
    placeOf(record),
    liveStates.has(record.state) ? "live" : endedKey(record),
    record.name ?? "",
    record.request_id ?? "",
  ].join("\n");
/** Behind those of an older version, which stand by their times. */
const execPlace = ({ sandbox_id, ordinal, started_at, exec_id }: ExecRecord): string =>
  `${part(sandbox_id)}/${timeKey(ordinal === undefined ? started_at : `n${digits(ordinal)}`, exec_id)}`;

/** Sandboxes and execs with their indexes. Reads work anywhere, writes inside a transaction. */
export class Records {
  readonly #tables: Tables;
  readonly #keptExecs: number;

  /** @param keptExecs ended execs that stay known of a sandbox */
  constructor(tables: Tables, keptExecs: number) {
    this.#tables = tables;
    this.#keptExecs = keptExecs;
  }

  sandbox(sandboxId: string): SandboxRecord | undefined {
    return this.#tables.sandboxes.get(part(sandboxId));
  }

  sandboxByName(tenant: string, name: string): SandboxRecord | undefined {
    return this.#follow(this.#tables.byName.get(key(tenant, name)));
  }

  sandboxByRequest(tenant: string, requestId: string): SandboxRecord | undefined {
    return this.#follow(this.#tables.byRequest.get(key(tenant, requestId)));
  }

  liveSandboxes(): SandboxRecord[] {
    return this.#tables.live.values({}).flatMap((id) => this.sandbox(id) ?? []);
  }

  /** Newest first, read page by page, so that a reader who stops half-way holds nothing. */
  *sandboxes(options: { tenant: string; includeEnded: boolean; beforeKey?: string }): Generator<SandboxRecord> {
    const tenant = part(options.tenant);
    let end = endOf(tenant);
    if (options.beforeKey !== undefined) {
      const before = this.sandbox(options.beforeKey);
      if (before === undefined || before.tenant !== options.tenant) {
        throw new SandboxError("INVALID_ARGUMENT", "The cursor is not one of this list, or it is too old.", {
          next: "List again without cursor.",
        });
      }
      end = placeOf(before);
    }
    if (!options.includeEnded) {
      const live = this.liveSandboxes().filter((record) => record.tenant === options.tenant && placeOf(record) < end);
      yield* live.sort((a, b) => (placeOf(a) < placeOf(b) ? 1 : -1));
      return;
    }
    for (;;) {
      const page = this.#tables.byTime.keys({ start: `${tenant}/`, end, reverse: true, limit: pageSize });
      for (const place of page) {
        const record = this.#follow(this.#tables.byTime.get(place));
        if (record) yield record;
      }
      const last = page.at(-1);
      if (last === undefined || page.length < pageSize) return;
      end = last;
    }
  }

  /** Keeps the indexes in step. The sequence belongs to the journal: the one that is stored stays. */
  putSandbox(record: SandboxRecord): void {
    const { sandboxes, byTime, byName, byRequest, live, ended } = this.#tables;
    const id = part(record.sandbox_id);
    const previous = sandboxes.get(id);
    const isLive = liveStates.has(record.state);
    const store = () => sandboxes.put(id, { ...record, sequence: previous?.sequence ?? record.sequence });
    // Most puts follow an exec and change nothing the indexes are made of.
    if (previous && indexedAs(previous) === indexedAs(record)) {
      store();
      return;
    }
    if (isLive && record.name !== undefined) {
      const holder = byName.get(key(record.tenant, record.name));
      if (holder !== undefined && holder !== record.sandbox_id) {
        throw new SandboxError("CONFLICT", `A running sandbox of yours has the name ${JSON.stringify(record.name)}.`, {
          next: "Use that sandbox, choose another name, or destroy it first.",
        });
      }
    }
    if (previous) this.#unindex(previous);
    store();
    byTime.put(placeOf(record), record.sandbox_id);
    if (isLive) live.put(id, record.sandbox_id);
    else ended.put(endedKey(record), record.sandbox_id);
    if (isLive && record.name !== undefined) byName.put(key(record.tenant, record.name), record.sandbox_id);
    // Only the put that brings the request claims it: a later put of an older record must not take it back.
    if (record.request_id !== undefined && previous?.request_id !== record.request_id) {
      byRequest.put(key(record.tenant, record.request_id), record.sandbox_id);
    }
  }

  pool(): PoolMember[] {
    return this.#tables.pool.values({}).sort((a, b) => a.created_at.localeCompare(b.created_at));
  }

  poolMember(sandboxId: string): PoolMember | undefined {
    return this.#tables.pool.get(part(sandboxId));
  }

  putPoolMember(member: PoolMember): void {
    this.#tables.pool.put(part(member.sandbox_id), member);
  }

  removePoolMember(sandboxId: string): void {
    this.#tables.pool.remove(part(sandboxId));
  }

  setSequence(record: SandboxRecord, sequence: number): void {
    this.#tables.sandboxes.put(part(record.sandbox_id), { ...record, sequence });
  }

  exec(sandboxId: string, execId: string): ExecRecord | undefined {
    return this.#tables.execs.get(key(sandboxId, execId));
  }

  execs(sandboxId: string, limit: number): ExecRecord[] {
    const prefix = part(sandboxId);
    const range = { start: `${prefix}/`, end: endOf(prefix), reverse: true, limit };
    return this.#tables.execsByTime.values(range).flatMap((id) => this.exec(sandboxId, id) ?? []);
  }

  openExecs(sandboxId: string): ExecRecord[] {
    const prefix = part(sandboxId);
    const open = this.#tables.openExecs.values({ start: `${prefix}/`, end: endOf(prefix) });
    return open.flatMap((id) => this.exec(sandboxId, id) ?? []);
  }

  putExec(record: ExecRecord): void {
    const { execs, execsByTime, openExecs } = this.#tables;
    const id = key(record.sandbox_id, record.exec_id);
    const previous = execs.get(id);
    execs.put(id, record);
    const place = execPlace(record);
    const before = previous && execPlace(previous);
    if (before !== place) {
      if (before !== undefined) execsByTime.remove(before);
      execsByTime.put(place, record.exec_id);
    }
    if (record.completed) openExecs.remove(id);
    else openExecs.put(id, record.exec_id);
    if (previous === undefined) this.#forgetOldest(record.sandbox_id);
  }

  /** For each exec beyond the bound the oldest that has ended goes; the journal has told of it. */
  #forgetOldest(sandboxId: string): void {
    if ((this.sandbox(sandboxId)?.execs_total ?? 0) < this.#keptExecs) return;
    // Those that were started first and still run are passed over; mostly there are none.
    const oldest = this.#oldestEnded(sandboxId, 1) ?? this.#oldestEnded(sandboxId, lookedAtToForget);
    if (oldest === undefined) return;
    this.#tables.execs.remove(key(sandboxId, oldest.execId));
    this.#tables.execsByTime.remove(oldest.place);
  }

  /** Among the first `limit` that were started. */
  #oldestEnded(sandboxId: string, limit: number): { place: string; execId: string } | undefined {
    const { execsByTime, openExecs } = this.#tables;
    const prefix = part(sandboxId);
    for (const place of execsByTime.keys({ start: `${prefix}/`, end: endOf(prefix), limit })) {
      const execId = execsByTime.get(place);
      if (execId !== undefined && openExecs.get(key(sandboxId, execId)) === undefined) return { place, execId };
    }
    return undefined;
  }

  noteChange(sandboxId: string, changeId: string, base: number, forgetBelow: number): boolean {
    const { changes } = this.#tables;
    const prefix = part(sandboxId);
    const place = (told: number) => `${prefix}/${digits(Math.max(0, told))}`;
    const at = `${place(base)}/${changeId}`;
    if (changes.get(at) !== undefined) return false;
    changes.put(at, changeId);
    for (const old of changes.keys({ start: `${prefix}/`, end: place(forgetBelow), limit: 2 })) changes.remove(old);
    return true;
  }

  /** Up to `limit` ids of sandboxes that ended before a time, the oldest first. */
  endedBefore(time: string, limit: number): string[] {
    return this.#tables.ended.values({ end: timeKey(time, digits(0)), limit });
  }

  removeSandbox(sandboxId: string): void {
    const { sandboxes, byRequest, execs, execsByTime, openExecs, changes } = this.#tables;
    const record = this.sandbox(sandboxId);
    if (!record) return;
    this.#unindex(record);
    if (record.request_id !== undefined) {
      const request = key(record.tenant, record.request_id);
      if (byRequest.get(request) === sandboxId) byRequest.remove(request);
    }
    const prefix = part(sandboxId);
    for (const table of [execs, execsByTime, openExecs, changes]) {
      for (const place of table.keys({ start: `${prefix}/`, end: endOf(prefix) })) table.remove(place);
    }
    sandboxes.remove(prefix);
  }

  /** Takes a record out of every index but that of requests. */
  #unindex(record: SandboxRecord): void {
    const { byTime, byName, live, ended } = this.#tables;
    byTime.remove(placeOf(record));
    if (!liveStates.has(record.state)) {
      ended.remove(endedKey(record));
      return;
    }
    live.remove(part(record.sandbox_id));
    if (record.name !== undefined) byName.remove(key(record.tenant, record.name));
  }

  #follow(sandboxId: string | undefined): SandboxRecord | undefined {
    return sandboxId === undefined ? undefined : this.sandbox(sandboxId);
  }
}
