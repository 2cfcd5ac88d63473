import type { EventsResult } from "../../sandbox/views.ts";
import { lines, name, visible } from "./text.ts";

/** Fields a reader of one line needs no second time, or never. */
const hidden = new Set([
  "specversion",
  "id",
  "source",
  "type",
  "subject",
  "time",
  "datacontenttype",
  "dataschema",
  "partitionkey",
]);
const common = new Set([
  "sandbox_id",
  "host",
  "tenant",
  "labels",
  "actor",
  "cursor",
  "sequence",
  "traceparent",
  "request_id",
  "cause",
]);

/** One event a line: time, type, sandbox, its own fields. */
export function eventsText(result: EventsResult): string {
  return lines(
    result.gap === undefined ? undefined : `gap: ${visible(result.gap, 300)}`,
    result.events.length === 0 ? "no events" : result.events.map(eventLine).join("\n"),
    `next_cursor ${visible(result.next_cursor, 512)}`,
  );
}

function eventLine(event: Record<string, unknown>): string {
  const { data: nested } = event;
  const data = isRecord(nested) ? nested : {};
  const fields = { ...event, ...data };
  const { type = "?", time = "-", sandbox_id, subject = "-" } = fields;
  const short = String(type).replace(/^dev\.chorus\.sandbox\.(.+)\.v\d+$/, "$1");
  const own = Object.entries(fields).filter(
    ([key, value]) => key !== "data" && !hidden.has(key) && !common.has(key) && value !== null && value !== undefined,
  );
  const head = [time, short, sandbox_id ?? subject].map((part) => visible(String(part), 80));
  return visible(`${head.join("  ")}  ${own.map(([key, value]) => `${key}=${plain(value)}`).join(" ")}`.trimEnd(), 600);
}

const plain = (value: unknown): string =>
  typeof value === "string" ? name(value, 200) : visible(JSON.stringify(value) ?? "", 200);

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
