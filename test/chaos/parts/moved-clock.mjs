// Loaded into a server before its own code: moves the wall clock that it sees by as many milliseconds as the file says.
import { readFileSync } from "node:fs";

const file = process.env["CHAOS_CLOCK_FILE"] ?? "";
const RealDate = Date;
let moved = 0;

/** Looked up often enough for a jump to come in the middle of things, and without a timer that the server would notice. */
let looked = 0;
function offset() {
  if (performance.now() - looked > 20) {
    looked = performance.now();
    try {
      moved = Number(readFileSync(file, "utf8")) || 0;
    } catch {
      moved = 0;
    }
  }
  return moved;
}

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args) => Reflect.construct(target, args.length === 0 ? [RealDate.now() + offset()] : args),
  apply: () => new RealDate(RealDate.now() + offset()).toString(),
  get: (target, key) => (key === "now" ? () => RealDate.now() + offset() : Reflect.get(target, key)),
});
