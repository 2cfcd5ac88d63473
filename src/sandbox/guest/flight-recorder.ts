import { fact } from "./schemas.ts";
import type { GuestFact } from "./types.ts";

/** Facts from the lines PID 1 wrote to its stdout, oldest first; what is not a fact is passed over. */
export function parseFlightRecorder(lines: readonly string[]): GuestFact[] {
  return lines.flatMap((line) => {
    if (!line.startsWith("{")) return [];
    try {
      const parsed = fact.safeParse(JSON.parse(line));
      return parsed.success ? [parsed.data] : [];
    } catch {
      return [];
    }
  });
}
