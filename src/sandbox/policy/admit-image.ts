import { parseReference } from "../image-reference.ts";
import { operator, PolicyDenied } from "./denied.ts";
import { type ImageRules, imageAllowed, pinnedDigests } from "./images.ts";

const shownRules = 20;

/** The normal form of what will be run, under the policy's patterns and pins. */
export function admitImage(asked: string, policy: ImageRules & { source: string }): string {
  const reference = parseReference(asked);
  const denied = (rule: string, allowed: unknown, why: string, change: string) =>
    new PolicyDenied(
      rule,
      "image",
      reference.full,
      allowed,
      `The policy does not allow the image ${JSON.stringify(reference.full)}: ${why}.`,
      `Use an image that policy://effective allows, or ${operator(policy, change)}.`,
    );
  if (!imageAllowed(policy, reference)) {
    const shown = policy.images.slice(0, shownRules);
    throw denied(
      "images",
      shown,
      shown.length === 0
        ? "it allows none"
        : `it fits none of ${shown.slice(0, 5).join(", ")}${policy.images.length > 5 ? ", …" : ""}`,
      `add ${JSON.stringify(reference.exact)} to images`,
    );
  }
  const pinned = pinnedDigests(policy, reference);
  if (reference.digest !== undefined) {
    if (pinned === undefined || pinned.includes(reference.digest)) return reference.full;
    throw denied(
      "image_digests",
      pinned.slice(0, shownRules),
      "it is pinned to another digest",
      "change image_digests",
    );
  }
  if (pinned?.[0] !== undefined) return parseReference(`${reference.full}@${pinned[0]}`).full;
  if (!policy.require_digest) return reference.full;
  throw denied(
    "require_digest",
    true,
    "an image must be named by digest (name@sha256:…)",
    `give its digest in image_digests`,
  );
}
