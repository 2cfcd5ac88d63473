// @ts-check
/** Small tar archives made in memory: the same input always gives the same bytes, and no file has to exist or be root's. */

const BLOCK = 512;
const TYPES = { file: "0", symlink: "2", directory: "5" };

/**
 * @typedef {object} TarEntry
 * @property {string} path relative, without a leading slash
 * @property {Buffer | string} [content] a file
 * @property {string} [target] a symbolic link; neither: a directory
 * @property {number} [mode] default 0644 for files, 0755 for directories
 */

/**
 * @param {readonly TarEntry[]} entries
 * @returns {Buffer}
 */
export function tarOf(entries) {
  const blocks = entries.flatMap(({ path, content, target, mode }) => {
    const body = Buffer.from(content ?? "");
    const type = target !== undefined ? "symlink" : content !== undefined ? "file" : "directory";
    const header = headerOf({ path, type, size: body.length, target, mode: mode ?? (type === "file" ? 0o644 : 0o755) });
    return [header, body, Buffer.alloc((BLOCK - (body.length % BLOCK)) % BLOCK)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

/** @param {{ path: string, type: keyof typeof TYPES, size: number, target: string | undefined, mode: number }} entry */
function headerOf({ path, type, size, target = "", mode }) {
  const name = type === "directory" ? `${path}/` : path;
  if (Buffer.byteLength(name) > 100 || Buffer.byteLength(target) > 100) throw new Error(`too long for tar: ${path}`);
  const header = Buffer.alloc(BLOCK);
  const octal = (/** @type {number} */ value, /** @type {number} */ offset, /** @type {number} */ width) =>
    header.write(`${value.toString(8).padStart(width - 1, "0")}\0`, offset);
  header.write(name, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  header.write("        ", 148);
  header.write(TYPES[type], 156);
  header.write(target, 157);
  header.write("ustar\u000000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}
