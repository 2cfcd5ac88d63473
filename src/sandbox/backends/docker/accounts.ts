import type { TarEntry } from "./tar.ts";

/**
 * Commands run as a uid of their sandbox's own, which must have a name. /etc/passwd of a read-only root cannot be written,
 * and a file per uid would be forty thousand; so the uids share files of {@link perFile} entries, of which a sandbox gets the
 * one with its uid mounted. Lookups stay as fast as in an image's own file.
 */
const firstUid = 20_000;
const lastUid = 59_999;
const perFile = 250;

/** The accounts programs look for by name; all of them are out of reach of a command. */
const wellKnown: readonly [name: string, uid: number, gid: number, home: string][] = [
  ["root", 0, 0, "/root"],
  ["daemon", 1, 1, "/usr/sbin"],
  ["bin", 2, 2, "/bin"],
  ["sys", 3, 3, "/dev"],
  ["man", 6, 12, "/var/cache/man"],
  ["mail", 8, 8, "/var/mail"],
  ["www-data", 33, 33, "/var/www"],
  ["nobody", 65534, 65534, "/nonexistent"],
];
const wellKnownGroups: readonly [name: string, gid: number][] = [
  ["root", 0],
  ["daemon", 1],
  ["bin", 2],
  ["sys", 3],
  ["adm", 4],
  ["tty", 5],
  ["disk", 6],
  ["mail", 8],
  ["man", 12],
  ["www-data", 33],
  ["staff", 50],
  ["users", 100],
  ["nogroup", 65534],
];

/** Name of the user and the group a sandbox's commands run as. */
export const accountName = (uid: number): string => `sandbox-${uid}`;

/** Where the files with this uid are, relative to the volume; undefined when the uid is not a sandbox's. */
export function accountFiles(uid: number): { passwd: string; group: string } | undefined {
  if (!Number.isInteger(uid) || uid < firstUid || uid > lastUid) return undefined;
  const file = Math.floor((uid - firstUid) / perFile);
  return { passwd: `accounts/passwd-${file}`, group: `accounts/group-${file}` };
}

/** All account files, for the guest's volume. */
export function accountEntries(home: string): TarEntry[] {
  const passwdHead = wellKnown
    .map(([name, uid, gid, at]) => `${name}:x:${uid}:${gid}:${name}:${at}:/usr/sbin/nologin\n`)
    .join("");
  const groupHead = wellKnownGroups.map(([name, gid]) => `${name}:x:${gid}:\n`).join("");
  const entries: TarEntry[] = [{ name: "accounts/", mode: 0o755 }];
  for (let uid = firstUid; uid <= lastUid; uid += perFile) {
    const files = accountFiles(uid);
    if (files === undefined) continue;
    const uids = Array.from({ length: perFile }, (_, index) => uid + index);
    const passwd = uids.map((id) => `${accountName(id)}:x:${id}:${id}::${home}:/bin/sh\n`).join("");
    const group = uids.map((id) => `${accountName(id)}:x:${id}:\n`).join("");
    entries.push({ name: files.passwd, mode: 0o444, content: Buffer.from(passwdHead + passwd) });
    entries.push({ name: files.group, mode: 0o444, content: Buffer.from(groupHead + group) });
  }
  return entries;
}
