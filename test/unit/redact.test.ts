import { describe, expect, it } from "vitest";
import { redactCommand } from "../../src/sandbox/redact.ts";

describe("redactCommand", () => {
  it.each([
    ["git clone https://me:s3cret@example.org/x.git", "git clone https://***@example.org/x.git"],
    [
      "curl -H 'Authorization: Bearer abc.def' http://127.0.0.1",
      "curl -H 'Authorization: Bearer ***' http://127.0.0.1",
    ],
    ["tool --token=abcd --password hunter2 -v", "tool --token=*** --password *** -v"],
    ["tool --api-key 'a b c' x", "tool --api-key *** x"],
    ["AWS_SECRET_ACCESS_KEY=abc run", "AWS_SECRET_ACCESS_KEY=*** run"],
    ["GITHUB_TOKEN=x ls", "GITHUB_TOKEN=*** ls"],
    [`echo ghp_${"a".repeat(36)}`, "echo ***"],
    [`echo sk-${"b".repeat(24)}`, "echo ***"],
  ])("%s", (command, shown) => {
    expect(redactCommand(command)).toBe(shown);
  });

  it.each(["echo hello", "python3 -m pytest -q", "ls --author", "grep -r token .", "cat secrets.txt", "make KEY=1"])(
    "leaves %s alone",
    (command) => {
      expect(redactCommand(command)).toBe(command);
    },
  );

  it("is at most 256 characters, whatever comes in, and fast", () => {
    expect(redactCommand("x".repeat(1_000_000)).length).toBe(256);
    const started = performance.now();
    redactCommand(`${"--token ".repeat(5_000)}${"a://b:".repeat(50_000)}`);
    expect(performance.now() - started).toBeLessThan(500);
  });
});
