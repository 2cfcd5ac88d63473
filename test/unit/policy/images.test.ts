import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SandboxError } from "../../../src/errors.ts";
import { parseReference } from "../../../src/sandbox/image-reference.ts";
import { fits, imageAllowed, normalPattern, pinnedDigests } from "../../../src/sandbox/policy/images.ts";

const a = `sha256:${"a".repeat(64)}`;
const b = `sha256:${"b".repeat(64)}`;
const rules = (images: string[], image_digests: Record<string, string[]> = {}) => ({
  images: images.map((pattern) => normalPattern(pattern) ?? "?"),
  image_digests: Object.fromEntries(
    Object.entries(image_digests).map(([key, value]) => [normalPattern(key) ?? "?", value]),
  ),
  require_digest: false,
});

describe("a reference", () => {
  const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  const component = fc
    .tuple(word, fc.array(fc.tuple(fc.constantFrom(".", "_", "__", "-", "---"), word), { maxLength: 2 }))
    .map(([first, rest]) => first + rest.flat().join(""));
  const domain = fc.constantFrom(
    "",
    "docker.io/",
    "localhost/",
    "localhost:5000/",
    "ghcr.io/",
    "[::1]:443/",
    "10.0.0.1:80/",
  );
  const tag = fc.oneof(fc.constant(""), fc.stringMatching(/^:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/));
  const digest = fc.constantFrom("", `@${a}`, `@sha512:${"c".repeat(128)}`);
  const reference = fc
    .tuple(domain, fc.array(component, { minLength: 1, maxLength: 3 }), tag, digest)
    // Without a registry, a first part with a dot would be one.
    .filter(([host, path]) => host !== "" || !path[0]?.includes("."))
    .map(([host, path, label, hash]) => host + path.join("/") + label + hash);

  it("has one normal form, which is its own", () => {
    fc.assert(
      fc.property(reference, (text) => {
        const parsed = parseReference(text);
        expect(parseReference(parsed.full)).toEqual(parsed);
        expect(parsed.full.startsWith(`${parsed.domain}/${parsed.path}`)).toBe(true);
        expect(parsed.tag ?? parsed.digest).toBeDefined();
      }),
    );
  });

  it("of any text is refused or normal, and never throws anything else", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ maxLength: 700 }), fc.string({ unit: fc.constantFrom(..."aA0.:/@[]_-*\n ") })),
        (text) => {
          try {
            expect(parseReference(text).full.length).toBeLessThanOrEqual(512);
          } catch (error) {
            expect(error).toBeInstanceOf(SandboxError);
            expect(error).toMatchObject({ code: "INVALID_ARGUMENT" });
          }
        },
      ),
    );
  });

  it("has no two spellings of which a pattern knows only one", () => {
    const spellings = [
      "alpine",
      "alpine:latest",
      "library/alpine",
      "docker.io/alpine",
      "index.docker.io/library/alpine:latest",
    ];
    for (const pattern of spellings) {
      for (const text of spellings) {
        expect(imageAllowed(rules([pattern]), parseReference(text)), `${pattern} for ${text}`).toBe(true);
        expect(imageAllowed(rules(["ghcr.io/**", "debian"]), parseReference(text))).toBe(false);
      }
    }
  });

  it("is allowed by the pattern of its own normal form, and of its repository", () => {
    fc.assert(
      fc.property(reference, (text) => {
        const parsed = parseReference(text);
        expect(imageAllowed(rules([parsed.exact]), parsed)).toBe(true);
        expect(imageAllowed(rules([parsed.repository]), parsed)).toBe(true);
        expect(imageAllowed(rules([`x${parsed.repository}`]), parsed)).toBe(false);
      }),
    );
  });
});

describe("patterns", () => {
  it.each([
    ["**", "**"],
    ["*", "**"],
    ["**/x", "**/x"],
    ["alpine", "docker.io/library/alpine"],
    ["alp*", "docker.io/library/alp*"],
    ["python:3.*", "docker.io/library/python:3.*"],
    ["acme/*", "docker.io/acme/*"],
    ["acme/**", "docker.io/acme/**"],
    ["ghcr.io/acme/**:v*", "ghcr.io/acme/**:v*"],
    ["*.example/x", "*.example/x"],
    ["localhost:5000/x", "localhost:5000/x"],
    [`alpine@${a}`, `docker.io/library/alpine@${a}`],
  ])("%s means %s", (pattern, normal) => {
    expect(normalPattern(pattern)).toBe(normal);
    expect(normalPattern(normal)).toBe(normal);
  });

  it.each(["", "a b", "a***", "a//b", "a/", "x@sha256:*", "../x", "a\n"])("%j is none", (pattern) => {
    expect(normalPattern(pattern)).toBeUndefined();
  });

  it.each([
    ["acme/*", "acme/x", true],
    ["acme/*", "acme/x/y", false],
    ["acme/**", "acme/x/y", true],
    ["acme/*", "acme/x:9", true],
    ["python:3.*", "python:3.12", true],
    ["python:3.*", "python:2.7", false],
    ["python:3.*", "python", false],
    ["python", "python:2.7", true],
    ["localhost:5000/x", "localhost:5000/x:t", true],
    ["localhost:5000/x", "localhost:6000/x", false],
    ["ghcr.io/acme/x", "evil.io/ghcr.io/acme/x", false],
    ["acme/*", "evil.io/acme/x", false],
    ["library/alpine", "localhost/library/alpine", false],
  ])("%s for %s: %s", (pattern, reference, allowed) => {
    expect(imageAllowed(rules([pattern]), parseReference(reference))).toBe(allowed);
  });

  it("with a tag do not let a digest pass under that tag's name", () => {
    const tagged = rules(["python:3.12"]);
    expect(imageAllowed(tagged, parseReference(`python:3.12@${a}`))).toBe(false);
    expect(imageAllowed(tagged, parseReference(`python@${a}`))).toBe(false);
    expect(imageAllowed(rules(["python"]), parseReference(`python:3.12@${a}`))).toBe(true);
    const pinned = rules(["python:3.12"], { "python:3.12": [a] });
    expect(imageAllowed(pinned, parseReference(`python:3.12@${a}`))).toBe(true);
    expect(imageAllowed(pinned, parseReference(`python:3.12@${b}`))).toBe(false);
    expect(imageAllowed(rules([`python@${a}`]), parseReference(`python:9@${a}`))).toBe(true);
    expect(imageAllowed(rules([`python@${a}`]), parseReference("python:3.12"))).toBe(false);
  });

  it("pin by name and tag, and a digest without a tag to any of the repository's", () => {
    const pins = rules([], { "python:3.12": [a], "python:3.13": [b], debian: [b] });
    expect(pinnedDigests(pins, parseReference("python:3.12"))).toEqual([a]);
    expect(pinnedDigests(pins, parseReference("python:3.11"))).toBeUndefined();
    expect(pinnedDigests(pins, parseReference(`python@${a}`))).toEqual([a, b]);
    expect(pinnedDigests(pins, parseReference("debian:12"))).toEqual([b]);
  });

  it("fit as the regular expression they stand for", () => {
    const pattern = fc
      .array(fc.constantFrom("a", "b", "/", ".", "*", "**"), { maxLength: 8 })
      .map((parts) => parts.join(""));
    const text = fc.string({ unit: fc.constantFrom("a", "b", "/", "."), maxLength: 10 });
    fc.assert(
      fc.property(pattern, text, (glob, name) => {
        const source = (glob.match(/\*\*|\*|[^*]/g) ?? [])
          .map((token) => (token === "**" ? ".*" : token === "*" ? "[^/]*" : token.replace(".", "\\.")))
          .join("");
        expect(fits(glob, name)).toBe(new RegExp(`^${source}$`).test(name));
      }),
      { numRuns: 2_000 },
    );
  });

  it("cannot be made to hang by what an agent asks for", () => {
    const started = performance.now();
    expect(fits(`${"*a".repeat(200)}b`, "a".repeat(500))).toBe(false);
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});
