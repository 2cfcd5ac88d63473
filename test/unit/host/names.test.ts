import path from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { linkStays, safeSegments, toBytes, toText } from "../../../src/sandbox/host/names.ts";

const root = "/open/folder";
const below = (at: string): boolean => at === root || at.startsWith(`${root}/`);

/** Names as archives of an attacker have them: few different parts, so that the odd ones meet. */
const part = fc.constantFrom("a", "b", "..", ".", "", "...", " ..", "..\\", "\u00ff", "a\0b", "x".repeat(300));
const name = fc
  .tuple(fc.constantFrom("", "/", "./", "//"), fc.array(part, { maxLength: 12 }), fc.constantFrom("", "/"))
  .map(([start, parts, end]) => start + parts.join("/") + end);

describe("names of an archive", () => {
  it("land below the folder, or are refused", () => {
    fc.assert(
      fc.property(name, (given) => {
        const segments = safeSegments(given);
        if (!Array.isArray(segments)) return;
        expect(below(path.posix.resolve(root, ...segments))).toBe(true);
        expect(path.posix.join(root, ...segments)).toBe(path.posix.join(root, given).replace(/\/$/, ""));
        for (const segment of segments) expect(segment).not.toMatch(/^\.{0,2}$|[/\0]/);
      }),
      { numRuns: 2_000 },
    );
  });

  it("without anything odd are taken as they are", () => {
    const plain = fc.array(fc.stringMatching(/^[a-z]{1,8}$/), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(plain, (parts) => {
        expect(safeSegments(parts.join("/"))).toEqual(parts);
      }),
    );
  });
});

describe("links of an archive", () => {
  it("that may stay lead below the folder, wherever links behind names lead", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5 }), name, (depth, target) => {
        if (!linkStays(depth, target)) return;
        const from = path.posix.join(root, ...Array.from({ length: depth }, () => "d"));
        expect(below(path.posix.resolve(from, target))).toBe(true);
        // A name before `..` may itself be a link, and then the textual answer says nothing.
        expect(
          target
            .split("/")
            .filter((segment) => segment !== "." && segment !== "")
            .join("/"),
        ).toMatch(/^(\.\.\/)*(\.\.$|(?!(.*\/)?\.\.(\/|$)).*$)/s);
      }),
      { numRuns: 2_000 },
    );
  });
});

it("bytes of a name survive being text of one character a byte", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const held = Buffer.from(bytes).toString("latin1");
      expect([...Buffer.from(held, "latin1")]).toEqual([...bytes]);
    }),
  );
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (text) => {
      expect(toText(toBytes(text))).toBe(text);
    }),
  );
});
