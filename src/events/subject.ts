import { type EventType, journaledEvents, transientEvents } from "../sandbox/events.ts";

export const subjectRoot = "chorus.sandbox.v1";

/** Stands for the sandbox in facts about the host itself. */
export const hostSandbox = "_host";

/**
 * One subject token of `[A-Za-z0-9_-]` from any text, reversibly: every other UTF-8 byte becomes `-X` and two upper-case hex
 * digits; a `-` that stands before an `X` becomes `-X2D`, so that `-X` never means itself; nothing at all becomes `-X`.
 * Ids, ordinary host names and tenants stay readable: `build.example` is `build-X2Eexample`.
 */
export function escapeToken(text: string): string {
  if (text === "") return "-X";
  return text.replace(/-(?=X)|[^A-Za-z0-9_-]/gu, (character) =>
    Array.from(utf8.encode(character), (byte) => `-X${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""),
  );
}

/** What {@link escapeToken} made the token from. */
export function unescapeToken(token: string): string {
  if (token === "-X") return "";
  return token.replace(/(?:-X[0-9A-F]{2})+/g, (run) => Buffer.from(run.replaceAll("-X", ""), "hex").toString("utf8"));
}

const utf8 = new TextEncoder();

export interface SubjectOf {
  host: string;
  tenant: string;
  sandbox_id: string;
}

/** `chorus.sandbox.v1.<host>.<tenant>.<sandbox_id>`: every event of the sandbox lies below it. */
export function sandboxSubject({ host, tenant, sandbox_id }: SubjectOf): string {
  return `${subjectRoot}.${escapeToken(host)}.${escapeToken(tenant)}.${escapeToken(sandbox_id)}`;
}

/** `type` is `domain.action`, which is already two tokens. */
export function eventSubject(of: SubjectOf, type: EventType): string {
  return `${sandboxSubject(of)}.${type}`;
}

/** Subjects of the stream: one for each domain that is journaled, so that stats and host facts stay out of it. */
export const streamSubjects = (): string[] => domainSubjects(journaledEvents);

/** Subjects of what is told at its moment and kept nowhere. */
export const liveSubjects = (): string[] => domainSubjects(transientEvents);

function domainSubjects(events: Readonly<Record<string, unknown>>): string[] {
  const domains = new Set(Object.keys(events).map((type) => type.slice(0, type.indexOf("."))));
  return [...domains].map((domain) => `${subjectRoot}.*.*.*.${domain}.*`);
}
