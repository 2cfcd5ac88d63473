import { expect, it } from "vitest";
import { bytesOfBase64 } from "../../src/sandbox/base64.ts";

it.each([
  ["", ""],
  ["aGk=", "hi"],
  ["aGk", "hi"],
  ["aGVs\r\nbG8=\n", "hello"],
])("%j is base64 of %j", (text, bytes) => {
  expect(bytesOfBase64(text)?.toString()).toBe(bytes);
});

it.each(["AAAAA", "A", "aGk==", "a=Gk", "====", "aGk*", "-_-_", `${" ".repeat(4_000_000)}*`])(
  "%.20j is not",
  (text) => {
    expect(bytesOfBase64(text)).toBeUndefined();
  },
);
