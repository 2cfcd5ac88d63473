import { createHmac, randomFillSync } from "node:crypto";

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

/** Asking the system for a few bytes costs as much as for many. */
const entropy = Buffer.alloc(4096);
let used = entropy.length;

function randomBytes(count: number): Buffer {
  if (used + count > entropy.length) {
    randomFillSync(entropy);
    used = 0;
  }
  const bytes = Buffer.from(entropy.subarray(used, used + count));
  entropy.fill(0, used, used + count);
  used += count;
  return bytes;
}

/** 16 characters of Crockford base32: 80 random bits, safe in subjects, container names and URLs. */
function token(): string {
  return Array.from(randomBytes(16), (byte) => alphabet[byte & 31]).join("");
}

const randomLength = 10;
const markLength = 6;

export const newSandboxId = (): string => `sb_${token()}`;
export const isSandboxId = (text: string): boolean => /^sb_[0-9a-z]{16}$/.test(text);

/**
 * Ids of execs end in a mark that only servers of the install can make: whatever a captured guest tells of, what no server
 * started is known for it, without a record of what was. They begin with how many execs of their sandbox had been told of when
 * they were made: what is told again long after is known for that, too.
 */
export const newExecId = (install: string, toldBefore: number): string => markedExecId(install, newBody(toldBefore));
const newBody = (toldBefore: number): string => `${toldBefore.toString(36)}${token().slice(0, randomLength)}`;
/** Of an exec, or of a change. 0 for ids that an older version made. */
export const toldBefore = (id: string): number => Number.parseInt(id.slice(3, -(randomLength + markLength)), 36) || 0;
/**
 * Of its kind that may be told of between the making of an id and the telling of it: a guest keeps 1024 facts. The store remembers
 * more than these, so that an id it has forgotten is known by its age.
 */
export const mostToldBetween = 1_500;
export const markedExecId = (install: string, body: string): string => `ex_${body}${mark(install, body)}`;
export const isExecIdOf = (install: string, execId: string): boolean =>
  execId.startsWith("ex_") && execId.endsWith(mark(install, execId.slice(3, -markLength)));

/** Ids that go along with a change, of files or of a pause, say the same of it. No id of an exec is one of them. */
export function newChangeId(install: string, toldBefore: number): string {
  const id = `ch_${newBody(toldBefore)}`;
  return `${id}${mark(install, id)}`;
}
export const isChangeIdOf = (install: string, id: string): boolean =>
  id.startsWith("ch_") && id.endsWith(mark(install, id.slice(0, -markLength)));

/** An id is made once and met again in each fact of its exec. */
const recentMarks = new Map<string, string>();
const mostRecent = 256;

function mark(install: string, body: string): string {
  const id = `${install}/${body}`;
  const known = recentMarks.get(id);
  if (known !== undefined) return known;
  const bytes = createHmac("sha256", install).update(body).digest().subarray(0, markLength);
  const made = Array.from(bytes, (byte) => alphabet[byte & 31]).join("");
  if (recentMarks.size >= mostRecent) recentMarks.clear();
  recentMarks.set(id, made);
  return made;
}

/** Unix milliseconds of a UUIDv7. */
export const madeAt = (uuid: string): number => Number.parseInt(uuid.slice(0, 8) + uuid.slice(9, 13), 16);

/** UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, the rest random. */
export function uuidv7(now = Date.now()): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(now, 0, 6);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x70;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
