import type { Clock } from "./clock.ts";
import { Notifier } from "./notifier.ts";

const kept = 1024;
const perAnswer = 256;
const bytesPerAnswer = 512 * 1024;

interface LoggedFact {
  seq: number;
  at: string;
  kind: string;
}

/** The numbered, bounded log of facts, and the flight recorder it is copied to. */
export class FactLog {
  readonly #changed = new Notifier();
  readonly #record: (line: string) => void;
  #facts: LoggedFact[] = [];
  #next = 1;

  constructor(record: (line: string) => void) {
    this.#record = record;
  }

  get oldest(): number {
    return this.#facts[0]?.seq ?? this.#next;
  }

  get next(): number {
    return this.#next;
  }

  add(kind: string, fields: Record<string, unknown> = {}): void {
    const fact = { seq: this.#next++, at: new Date().toISOString(), kind, ...fields };
    this.#facts = [...this.#facts, fact].slice(-kept);
    this.#record(JSON.stringify(fact));
    this.#changed.notify();
  }

  after(seq: number) {
    let bytes = 0;
    const facts = this.#facts
      .filter((fact) => fact.seq > seq)
      .slice(0, perAnswer)
      .filter((fact, i) => {
        bytes += JSON.stringify(fact).length;
        return i === 0 || bytes <= bytesPerAnswer;
      });
    return { facts, oldest: this.oldest, next: this.#next };
  }

  async wait(seq: number, ms: number, clock: Clock, signal: AbortSignal) {
    await this.#changed.until(() => this.#next > seq + 1, ms, clock, signal);
    return this.after(seq);
  }
}
