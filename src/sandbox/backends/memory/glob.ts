/** `*`, `?` and `[...]` within a segment, `**` across segments, `{a,b}` (not nested) one of several. */
export function globToRegExp(glob: string): RegExp {
  const source = glob.replace(/\*\*\/|\*\*|\*|\?|\[!?[^\]]+\]|\{[^{}]*\}|[.+^${}()|\\[\]]/g, (part) => {
    if (part.length > 1 && part.startsWith("{")) return `(?:${part.slice(1, -1).split(",").map(literal).join("|")})`;
    if (part === "**/") return "(?:.*/)?";
    if (part === "**") return ".*";
    if (part === "*") return "[^/]*";
    if (part === "?") return "[^/]";
    if (part.length > 1) return part.replace(/^\[!/, "[^").replace(/\\/g, "\\\\");
    return `\\${part}`;
  });
  return new RegExp(`^${source}$`);
}

const literal = (text: string): string => text.replace(/[.+^${}()|\\[\]*?]/g, "\\$&");
