import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, it } from "vitest";
import { pathRules } from "../../../src/sandbox/host/ignore.ts";

it.each<[patterns: string[], path: string, isDir: boolean, says: boolean | undefined]>([
  [["*.log"], "a/b.log", false, true],
  [["*.log", "!keep.log"], "a/keep.log", false, false],
  [["!keep.log", "*.log"], "keep.log", false, true],
  [["/top"], "top", false, true],
  [["/top"], "a/top", false, undefined],
  [["a/b"], "a/b", true, true],
  [["a/b"], "x/a/b", true, undefined],
  [["dir/"], "dir", true, true],
  [["dir/"], "dir", false, undefined],
  [["**/x"], "a/b/x", false, true],
  [["a/**/x"], "a/x", false, true],
  [["a/**/x"], "a/b/c/x", false, true],
  [["a/**"], "a", true, undefined],
  [["a/**"], "a/b", false, true],
  [["?.c"], "é.c", false, true],
  [["[a-c]x", "[!0-9]y"], "bx", false, true],
  [["[!0-9]y"], "3y", false, undefined],
  [["\\!x", "\\#y"], "!x", false, true],
  [["# comment", ""], "# comment", false, undefined],
  [["x   "], "x", false, true],
  [["x\\ "], "x ", false, true],
  [["[unclosed"], "[unclosed", false, true],
])("%j says of %s (dir %s): %s", (patterns, name, isDir, says) => {
  expect(pathRules(patterns).says(name.split("/"), isDir)).toBe(says);
});

it("takes no longer for patterns made to be slow", () => {
  const started = performance.now();
  const rules = pathRules([`${"*a".repeat(200)}b`, `${"**/a/".repeat(50)}b`]);
  for (let i = 0; i < 100; i++) rules.says(["a".repeat(255), ...Array.from({ length: 100 }, () => "a")], false);
  expect(performance.now() - started).toBeLessThan(2_000);
});

it("says what git says", () => {
  const root = mkdtempSync(path.join(tmpdir(), "chorus-ignore-"));
  try {
    const names = ["a", "b", "ab", "a.log", "x1", "[z"];
    const patterns = [
      "a",
      "/b",
      "a/b",
      "**/ab",
      "a/**/b",
      "*.log",
      "!a.log",
      "x[0-9]",
      "a/",
      "?b",
      "b/*",
      "!b/a",
      "\\[z",
      "a/**",
    ];
    const paths: string[] = [];
    for (const one of names) {
      mkdirSync(path.join(root, "d", one, "b"), { recursive: true });
      writeFileSync(path.join(root, one), "");
      for (const two of names) {
        if (two !== "b") writeFileSync(path.join(root, "d", one, two), "");
        paths.push(`d/${one}/${two}`);
      }
      paths.push(one);
    }
    execFileSync("git", ["init", "-q"], { cwd: root });
    let seed = 5;
    const random = (below: number) => {
      seed = (seed * 1_664_525 + 1_013_904_223) % 2 ** 32;
      return Math.floor((seed / 2 ** 32) * below);
    };
    for (let round = 0; round < 40; round++) {
      const chosen = Array.from({ length: 1 + random(4) }, () => patterns[random(patterns.length)] ?? "");
      writeFileSync(path.join(root, ".gitignore"), `${chosen.join("\n")}\n`);
      const ignored = new Set(
        execFileSync("sh", ["-c", "git check-ignore --stdin || true"], { cwd: root, input: paths.join("\n") })
          .toString()
          .split("\n"),
      );
      const rules = pathRules(chosen);
      for (const one of paths) {
        const segments = one.split("/");
        const excluded = segments.some(
          (_, i) => rules.says(segments.slice(0, i + 1), i < segments.length - 1 || one.endsWith("/b")) === true,
        );
        if (!one.endsWith("/b") || one.startsWith("d/"))
          expect(excluded, `${chosen.join(" ")}: ${one}`).toBe(ignored.has(one));
      }
    }
  } finally {
    rmSync(root, { recursive: true });
  }
});
