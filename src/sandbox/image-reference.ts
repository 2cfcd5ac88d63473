import { quoted, SandboxError } from "../errors.ts";

/**
 * Image references as github.com/distribution/reference v0.6.0 reads them (`ParseNormalizedNamed`, `TagNameOnly`, and the digest
 * rules of opencontainers/go-digest): what an engine understands, and in which normal form.
 */
export interface ImageReference {
  /** Registry: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  domain: string;
  /** Path at the registry: `library/alpine`. */
  path: string;
  /** Registry and path: `docker.io/library/alpine`. */
  repository: string;
  tag?: string;
  /** `sha256:…` */
  digest?: string;
  /** All of it, normalised: `docker.io/library/alpine:latest`. */
  full: string;
  /** What decides which image it is: the digest where there is one, for then no engine looks at the tag. */
  exact: string;
}

const alphanumeric = "[a-z0-9]+";
const pathComponent = `${alphanumeric}(?:(?:[._]|__|-+)${alphanumeric})*`;
const domainComponent = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const host = `(?:${domainComponent}(?:\\.${domainComponent})*|\\[[a-fA-F0-9:]+\\])`;
const named = new RegExp(`^(${host}(?::[0-9]+)?)/(${pathComponent}(?:/${pathComponent})*)$`);
const tagged = /^(.+?)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?$/;
const digestLengths: Record<string, number> = { sha256: 64, sha384: 96, sha512: 128 };
const mostNameLength = 255;
/** As events and records have room for; hardly any registry has names of half that. */
const mostLength = 512;

const defaultDomain = "docker.io";
const officialPrefix = "library/";

/** The normal form of a reference: registry, `library/` and `:latest` spelled out. INVALID_ARGUMENT when it is none. */
export function parseReference(text: string): ImageReference {
  if (text.length > mostLength || /^[a-f0-9]{64}$/.test(text)) throw invalid(text);
  const at = text.indexOf("@");
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest)) throw invalid(text);
  const [domain, remainder] = splitDomain(at < 0 ? text : text.slice(0, at));
  const [, path, askedTag] = tagged.exec(remainder) ?? [];
  if (path === undefined || path.length > mostNameLength || !named.test(`${domain}/${path}`)) throw invalid(text);
  const repository = `${domain}/${path}`;
  const tag = askedTag ?? (digest === undefined ? "latest" : undefined);
  const full = repository + (tag === undefined ? "" : `:${tag}`) + (digest === undefined ? "" : `@${digest}`);
  if (full.length > mostLength) throw invalid(text);
  return {
    domain,
    path,
    repository,
    full,
    exact: digest === undefined ? `${repository}:${tag}` : `${repository}@${digest}`,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** Registry and rest of a name, as Docker tells them apart; the rest may still carry a tag. */
export function splitDomain(name: string): [domain: string, remainder: string] {
  const slash = name.indexOf("/");
  if (slash < 0) return [defaultDomain, officialPrefix + name];
  const first = name.slice(0, slash);
  const rest = name.slice(slash + 1);
  const isDomain = first === "localhost" || /[.:]/.test(first) || first.toLowerCase() !== first;
  // The old name of Docker Hub.
  const domain = !isDomain || first === "index.docker.io" ? defaultDomain : first;
  const remainder = isDomain ? rest : name;
  return [domain, domain === defaultDomain && !remainder.includes("/") ? officialPrefix + remainder : remainder];
}

/** A digest of an algorithm engines know, in the length that belongs to it. */
export function isDigest(text: string): boolean {
  const [, algorithm = "", encoded = ""] = /^([a-z0-9]+):([a-f0-9]+)$/.exec(text) ?? [];
  return Object.hasOwn(digestLengths, algorithm) && digestLengths[algorithm] === encoded.length;
}

function invalid(text: string): SandboxError {
  return new SandboxError("INVALID_ARGUMENT", `${quoted(text, 200)} is not an image reference.`, {
    next: "Give a name like `python:3.12`, `ghcr.io/owner/name:tag` or `name@sha256:…`, lower case.",
  });
}
