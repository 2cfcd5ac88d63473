import { type ImageReference, splitDomain } from "../image-reference.ts";

/** Patterns over normalised image references: `*` within a part of the path or in a tag, `**` across them. */

export interface ImageRules {
  /** Normalised patterns of what may be run. */
  images: readonly string[];
  /** Normalised pattern → digests its images may have. */
  image_digests: Readonly<Record<string, readonly string[]>>;
  require_digest: boolean;
}

interface Pattern {
  name: string;
  tag: string | undefined;
  digest: string | undefined;
}

/** A pattern with registry and `library/` spelled out, as references are; undefined when no reference could ever fit it. */
export function normalPattern(text: string): string | undefined {
  if (!/^[A-Za-z0-9*[][A-Za-z0-9*[\]._:/@-]*$/.test(text) || /\*{3}|\/\/|\/$/.test(text)) return undefined;
  if (text === "*") return "**";
  const at = text.indexOf("@");
  const [name, digest] = at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at)];
  if (digest !== "" && !/^@[a-z0-9]+:[a-f0-9]+$/.test(digest)) return undefined;
  const first = name.split("/", 1)[0] ?? "";
  // A wildcard may stand for a registry as well; what begins with one is taken as it is.
  if (first.includes("*") && (name.includes("/") || first.startsWith("**"))) return name + digest;
  const [domain, rest] = splitDomain(name);
  return `${domain}/${rest}${digest}`;
}

function split(pattern: string): Pattern {
  const at = pattern.indexOf("@");
  const plain = at < 0 ? pattern : pattern.slice(0, at);
  // A colon before the last slash is a port's.
  const colon = plain.indexOf(":", plain.lastIndexOf("/") + 1);
  return {
    name: colon < 0 ? plain : plain.slice(0, colon),
    tag: colon < 0 ? undefined : plain.slice(colon + 1),
    digest: at < 0 ? undefined : pattern.slice(at + 1),
  };
}

/** Whether a text fits a pattern. In steps that grow with both lengths only: agents choose the text, and a regular expression could be made to hang. */
export function fits(pattern: string, text: string): boolean {
  const tokens = pattern.match(/\*\*|\*|[^*]/gs) ?? [];
  // reached[i]: the tokens before i can stand for what was read so far.
  let reached = passOver(tokens, new Set([0]));
  for (const character of text) {
    const next = new Set<number>();
    for (const i of reached) {
      const token = tokens[i];
      if (token === "**" || (token === "*" && character !== "/")) next.add(i);
      else if (token === character) next.add(i + 1);
    }
    reached = passOver(tokens, next);
    if (reached.size === 0) return false;
  }
  return reached.has(tokens.length);
}

/** A wildcard may stand for nothing. */
function passOver(tokens: readonly string[], reached: Set<number>): Set<number> {
  // A set hands out what is added while it is walked.
  for (const i of reached) if (tokens[i]?.startsWith("*")) reached.add(i + 1);
  return reached;
}

/** Digests the policy knows for what the reference's name and tag stand for; undefined: it says nothing of them. */
export function pinnedDigests(rules: ImageRules, reference: ImageReference): readonly string[] | undefined {
  const found = Object.entries(rules.image_digests).filter(([pattern]) => {
    const { name, tag } = split(pattern);
    return (
      fits(name, reference.repository) && (tag === undefined || reference.tag === undefined || fits(tag, reference.tag))
    );
  });
  return found.length === 0 ? undefined : found.flatMap(([, digests]) => digests);
}

/**
 * Whether a reference fits one of the patterns. With a digest, its tag says nothing of what is run: a pattern with a tag lets it
 * pass only where the policy knows that digest for that tag.
 */
export function imageAllowed(rules: ImageRules, reference: ImageReference): boolean {
  const { repository, tag, digest } = reference;
  return rules.images.some((text) => {
    const pattern = split(text);
    if (!fits(pattern.name, repository)) return false;
    if (pattern.digest !== undefined) return pattern.digest === digest;
    if (pattern.tag === undefined) return true;
    if (tag === undefined || !fits(pattern.tag, tag)) return false;
    return digest === undefined || (pinnedDigests(rules, reference)?.includes(digest) ?? false);
  });
}
