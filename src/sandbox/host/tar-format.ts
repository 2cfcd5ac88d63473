/** Blocks of a tar archive, as both its reader and its writer know them. Names are byte strings. */

export const blockBytes = 512;

export const padding = (size: number): number => (blockBytes - (size % blockBytes)) % blockBytes;

export interface TarHead {
  name: string;
  type: "file" | "dir" | "symlink";
  mode: number;
  size: number;
  mtimeS: number;
  target?: string;
}

const flags = { file: "0", dir: "5", symlink: "2" } as const;
const longest = 100;

/** Two empty blocks. */
export const archiveEnd = Buffer.alloc(2 * blockBytes);

/** Header of an entry: ustar, with GNU's long names, which may be of any bytes, and its large numbers. */
export function tarHeader({ name, type, mode, size, mtimeS, target = "" }: TarHead): Buffer {
  const full = type === "dir" ? `${name}/` : name;
  const blocks: Buffer[] = [];
  if (full.length > longest) blocks.push(...long("L", full));
  if (target.length > longest) blocks.push(...long("K", target));
  blocks.push(block(full, flags[type], mode, size, mtimeS, target));
  return blocks.length === 1 && blocks[0] ? blocks[0] : Buffer.concat(blocks);
}

function long(flag: "L" | "K", text: string): Buffer[] {
  const body = Buffer.alloc(text.length + 1 + padding(text.length + 1));
  body.write(text, "latin1");
  return [block("././@LongLink", flag, 0, text.length + 1, 0, ""), body];
}

function block(name: string, flag: string, mode: number, size: number, mtimeS: number, target: string): Buffer {
  const head = Buffer.alloc(blockBytes);
  head.write(name.slice(0, longest), 0, "latin1");
  head.write(`${octal(mode & 0o7777, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100, "latin1");
  putNumber(head, 124, size);
  putNumber(head, 136, Math.max(0, Math.floor(mtimeS)));
  head.write(`        ${flag}`, 148, "latin1");
  head.write(target.slice(0, longest), 157, "latin1");
  head.write("ustar\x0000", 257, "latin1");
  head.write(`${octal(checksum(head), 6)}\0 `, 148, "latin1");
  return head;
}

const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, "0");

/** Twelve bytes: octal, or big-endian with the first bit set when that is too short. */
function putNumber(head: Buffer, at: number, value: number): void {
  if (value < 8 ** 11) {
    head.write(`${octal(value, 11)}\0`, at, "latin1");
    return;
  }
  head[at] = 0x80;
  head.writeBigUInt64BE(BigInt(value), at + 4);
}

/** Sum of a header's bytes with its own field taken for blanks. */
export function checksum(head: Buffer): number {
  let sum = 8 * 0x20;
  for (let i = 0; i < blockBytes; i++) if (i < 148 || i >= 156) sum += head[i] ?? 0;
  return sum;
}
