import { expect, it } from "vitest";
import { escapeToken, eventSubject, streamSubjects, unescapeToken } from "../../../src/events/subject.ts";

it.each([
  ["sb_0123abc", "sb_0123abc"],
  ["_host", "_host"],
  ["build-7", "build-7"],
  ["build.example", "build-X2Eexample"],
  ["a*>b c", "a-X2A-X3Eb-X20c"],
  ["é", "-XC3-XA9"],
  ["", "-X"],
  ["-X", "-X2DX"],
  ["-X2E", "-X2DX2E"],
])("%j becomes the token %s", (text, token) => {
  expect(escapeToken(text)).toBe(token);
});

it("makes one valid token of any text, different for different texts, and gives it back", () => {
  const alphabet = ["-", "X", "2", "E", "D", ".", "_", "x", "é", "😀", "\u0000", " "];
  const texts = [
    "",
    ...alphabet,
    ...alphabet.flatMap((a) => alphabet.flatMap((b) => alphabet.flatMap((c) => [a + b + c, `-X${a}${b}${c}`]))),
  ];
  const tokens = new Map(texts.map((text) => [escapeToken(text), text]));
  expect(tokens.size).toBe(new Set(texts).size);
  for (const [token, text] of tokens) {
    expect(token).toMatch(/^[A-Za-z0-9_-]+$/);
    expect(unescapeToken(token)).toBe(text);
  }
});

it("builds subjects of eight tokens, and stream subjects that take what is journaled only", () => {
  const of = { host: "h.x", tenant: "", sandbox_id: "sb_1" };
  expect(eventSubject(of, "exec.started")).toBe("chorus.sandbox.v1.h-X2Ex.-X.sb_1.exec.started");
  expect(streamSubjects()).toEqual(
    ["lifecycle", "exec", "file", "limit", "policy", "journal"].map((domain) => `chorus.sandbox.v1.*.*.*.${domain}.*`),
  );
});
