import type { JournalEntry } from "./events.ts";
import type { Journal } from "./store/types.ts";

const batchSize = 500;

/** Gives the listener each entry that is appended from now on once, in order. Returns what ends it. */
export function tail(journal: Journal, listener: (entries: JournalEntry[]) => void): () => void {
  const stop = journal.onAppend(() => {
    for (;;) {
      const { entries } = journal.page(position, { limit: batchSize });
      const last = entries.at(-1);
      if (!last) return;
      position = last.cursor;
      listener(entries);
    }
  });
  let position = journal.newest();
  return stop;
}
