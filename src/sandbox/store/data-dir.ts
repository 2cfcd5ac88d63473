import type { Stats } from "node:fs";
import { mkdir, stat, statfs } from "node:fs/promises";
import { quoted, SandboxError, systemCode } from "../../errors.ts";

/** statfs(2) magic numbers of file systems whose locks or memory maps do not hold between hosts. */
const networkTypes: ReadonlyMap<number, string> = new Map([
  [0x6969, "nfs"],
  [0x517b, "smb"],
  [0xff534d42, "cifs"],
  [0xfe534d42, "smb2"],
  [0x01021997, "9p"],
  [0x65735546, "fuse"],
  [0x00c36400, "ceph"],
  [0x5346414f, "afs"],
  [0x0bd00bd0, "lustre"],
  [0x01161970, "gfs2"],
  [0x7461636f, "ocfs2"],
]);

/** Name of the network file system that `type` of statfs stands for. */
export const networkFileSystem = (type: number): string | undefined => networkTypes.get(type >>> 0);

const refuse = (dataDir: string, why: string, next: string, cause?: unknown): SandboxError =>
  new SandboxError("INVALID_ARGUMENT", `CHORUS_SANDBOX_DATA_DIR ${quoted(dataDir)} ${why}.`, { next, cause });

/** Makes the data dir, or makes sure that the one which is there is ours alone and local. */
export async function prepareDataDir(dataDir: string): Promise<void> {
  const elsewhere = "Set CHORUS_SANDBOX_DATA_DIR to a folder of your own on a local disk.";
  let found: Stats;
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    found = await stat(dataDir);
  } catch (error) {
    const code = systemCode(error);
    if (code === "EEXIST" || code === "ENOTDIR") throw refuse(dataDir, "is not a folder", elsewhere, error);
    throw refuse(dataDir, `cannot be created or read (${code})`, elsewhere, error);
  }
  const uid = process.getuid?.();
  if (uid !== undefined && found.uid !== uid) {
    throw refuse(dataDir, `belongs to uid ${found.uid}, and this process runs as uid ${uid}`, elsewhere);
  }
  if (process.platform !== "win32" && (found.mode & 0o077) !== 0) {
    const mode = (found.mode & 0o777).toString(8).padStart(4, "0");
    throw refuse(dataDir, `is open to other users (mode ${mode})`, `Run: chmod 700 ${JSON.stringify(dataDir)}`);
  }
  const network = process.platform === "linux" ? networkFileSystem((await statfs(dataDir)).type) : undefined;
  if (network !== undefined) throw refuse(dataDir, `is on a network file system (${network})`, elsewhere);
}
