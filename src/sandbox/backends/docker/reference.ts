import { SandboxError } from "../../../errors.ts";

export interface ImageReference {
  /** Registry and repository: `docker.io/library/alpine`. */
  repository: string;
  tag?: string;
  /** `sha256:…` */
  digest?: string;
  /** All of it, normalised: `docker.io/library/alpine:latest`. */
  full: string;
}

const component = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const domain = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;

/** The normal form Docker gives a reference: registry, `library/` and `:latest` spelled out. */
export function parseReference(text: string): ImageReference {
  const match = /^([^@]+?)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$/.exec(text);
  const name = match?.[1];
  if (name === undefined || text.length > 512) throw invalid(text);
  const slash = name.indexOf("/");
  const first = slash < 0 ? "" : name.slice(0, slash);
  const isDomain = first !== "" && (/[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase());
  const registry = isDomain ? first : "docker.io";
  const rest = isDomain ? name.slice(slash + 1) : name;
  const path = registry === "docker.io" && !rest.includes("/") ? `library/${rest}` : rest;
  if (!domain.test(registry) || path.length > 255 || !path.split("/").every((part) => component.test(part)))
    throw invalid(text);
  const repository = `${registry}/${path}`;
  const digest = match?.[3];
  const tag = match?.[2] ?? (digest === undefined ? "latest" : undefined);
  return {
    repository,
    full: repository + (tag === undefined ? "" : `:${tag}`) + (digest === undefined ? "" : `@${digest}`),
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

function invalid(text: string): SandboxError {
  return new SandboxError("INVALID_ARGUMENT", `${JSON.stringify(text.slice(0, 200))} is not an image reference.`, {
    next: "Give a name like `python:3.12`, `ghcr.io/owner/name:tag` or `name@sha256:…`.",
  });
}
