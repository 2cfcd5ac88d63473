import { describe, expect, it } from "vitest";
import type { SandboxState } from "../../../src/sandbox/events.ts";
import type { ExecRecord, SandboxRecord, Tx } from "../../../src/sandbox/store/types.ts";
import { completed, execRecord, execStarted, newStore, sandboxRecord } from "../../support/store.ts";

/** The store as one would write it with a few maps. */
interface Model {
  sandboxes: Map<string, SandboxRecord>;
  execs: Map<string, ExecRecord>;
  entries: { sandbox: string; sequence: number; state: SandboxState }[];
}

const live = (record: SandboxRecord) => record.state !== "ended" && record.state !== "failed";

/** mulberry32: a failing run can be run again. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const ids = ["sb_a", "sb_b", "sb_c", "sb_d"];
const names = [undefined, "web", "db"];
const states: SandboxState[] = ["creating", "running", "paused", "ended", "failed"];

/** What both sides answer to every question there is. */
function compare(tx: Pick<Tx, "sandbox" | "sandboxByName" | "liveSandboxes" | "openExecs">, model: Model): void {
  const expected = [...model.sandboxes.values()];
  for (const id of ids) {
    expect(tx.sandbox(id)).toEqual(model.sandboxes.get(id));
    const open = [...model.execs.values()].filter((record) => record.sandbox_id === id && !record.completed);
    expect(tx.openExecs(id).map((record) => record.exec_id)).toEqual(open.map((record) => record.exec_id).sort());
  }
  const alive = expected.filter(live).map((record) => record.sandbox_id);
  expect(tx.liveSandboxes().map((record) => record.sandbox_id)).toEqual(alive.sort());
  for (const name of ["web", "db"]) {
    const holder = expected.find((record) => live(record) && record.name === name);
    expect(tx.sandboxByName("acme", name)?.sandbox_id).toBe(holder?.sandbox_id);
  }
}

function step(tx: Tx, model: Model, pick: (below: number) => number): void {
  const id = ids[pick(ids.length)] ?? "sb_a";
  const present = model.sandboxes.get(id);
  const action = pick(4);
  if (action === 0 || present === undefined) {
    const name = names[pick(names.length)];
    const record = sandboxRecord(id, { state: states[pick(5)] ?? "running", ...(name !== undefined && { name }) });
    const taken = [...model.sandboxes.values()].some(
      (other) => other.sandbox_id !== id && live(other) && live(record) && name !== undefined && other.name === name,
    );
    if (taken) {
      expect(() => tx.putSandbox(record)).toThrow("name");
      return;
    }
    tx.putSandbox({ ...record, sequence: present ? pick(50) : 0 });
    model.sandboxes.set(id, { ...record, sequence: present?.sequence ?? 0 });
  } else if (action === 1) {
    const record = execRecord(id, `ex_${pick(4)}`, pick(2) === 0 ? { completed } : {});
    tx.putExec(record);
    model.execs.set(`${id}/${record.exec_id}`, record);
  } else {
    const sequence = present.sequence + 1;
    const entry = tx.emit(id, execStarted("ex_1"));
    expect(entry).toMatchObject({ cursor: model.entries.length + 1, sequence });
    model.sandboxes.set(id, { ...present, sequence });
    model.entries.push({ sandbox: id, sequence, state: present.state });
  }
}

describe("the store against a model", () => {
  it.each([1, 2, 3])("agrees inside and after every plan, whether it commits or throws (seed %i)", async (seed) => {
    const store = await newStore();
    const pick = random(seed);
    let model: Model = { sandboxes: new Map(), execs: new Map(), entries: [] };
    for (let round = 0; round < 60; round++) {
      const plans = Array.from({ length: 1 + pick(3) }, () =>
        store.write((tx) => {
          const trial = structuredClone(model);
          for (let i = pick(8); i >= 0; i--) {
            step(tx, trial, pick);
            compare(tx, trial);
          }
          if (pick(3) === 0) throw new Error("planned");
          model = trial;
        }),
      );
      for (const outcome of await Promise.allSettled(plans)) {
        if (outcome.status === "rejected") expect(outcome.reason).toEqual(new Error("planned"));
      }
      compare(store, model);
      const entries = store.journal.after(0, { limit: 10_000 });
      expect(
        entries.map((entry) => ({ sandbox: entry.sandbox_id, sequence: entry.sequence, state: entry.data["state"] })),
      ).toEqual(model.entries);
    }
    expect(model.entries.length).toBeGreaterThan(50);
  });
});
