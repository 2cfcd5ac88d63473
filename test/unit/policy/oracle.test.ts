import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseReference } from "../../../src/sandbox/image-reference.ts";
import { parseDuration, parseSize } from "../../../src/sandbox/policy/units.ts";

/**
 * What github.com/distribution/reference v0.6.0 (ParseNormalizedNamed, TagNameOnly), github.com/docker/go-units v0.5.0
 * (RAMInBytes) and Go's time.ParseDuration (nanoseconds) made of some texts; empty where they refused.
 */
const golden = (name: string): [text: string, result: string][] =>
  Object.entries(
    JSON.parse(readFileSync(new URL(`../../testdata/go/${name}.json`, import.meta.url), "utf8")) as Record<
      string,
      string
    >, // written by Go
  );

const orEmpty = (read: () => string): string => {
  try {
    return read();
  } catch {
    return "";
  }
};

/** Where ours differs from Go's, as [text, Go's, ours]. */
function differences(name: string, ours: (text: string) => string): [string, string, string][] {
  return golden(name)
    .map(([text, result]): [string, string, string] => [text, result, ours(text)])
    .filter(([, result, own]) => result !== own);
}

describe("as Go reads it", () => {
  it("has enough to compare, accepted and refused", () => {
    for (const name of ["references", "sizes", "durations"]) {
      const results = golden(name).map(([, result]) => result !== "");
      expect(results.filter(Boolean).length, name).toBeGreaterThan(60);
      expect(results.filter((accepted) => !accepted).length, name).toBeGreaterThan(60);
    }
  });

  it("reads references, but for registries no DNS could name, which Go takes for a path without registry", () => {
    const differing = differences("references", (text) => orEmpty(() => parseReference(text).full));
    expect(differing.filter(([text, , own]) => own !== "" || !text.startsWith("a_b.com/"))).toEqual([]);
  });

  it("reads sizes, but for spellings of numbers nobody means, and what no double holds", () => {
    const differing = differences("sizes", (text) => parseSize(text)?.toString() ?? "");
    expect(differing.map(([text, , own]) => [text, own]).sort()).toEqual(
      ["+5m", "1024p", "12.p", "1_000", "1e3", "99999p", "9p"].map((text) => [text, ""]),
    );
  });

  it("reads durations, but for negative ones", () => {
    const differing = differences("durations", (text) => {
      const ms = parseDuration(text);
      return ms === undefined ? "" : String(Math.round(ms * 1e6));
    });
    expect(differing.map(([text]) => text)).toEqual(["-5s"]);
  });
});
