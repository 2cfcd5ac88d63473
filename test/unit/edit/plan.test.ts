import { describe, expect, it } from "vitest";
import { unifiedDiff } from "../../../src/sandbox/edit/diff.ts";
import { type Edit, planEdits } from "../../../src/sandbox/edit/plan.ts";

const most = 8 * 2 ** 20;
const edit = (old_string: string, new_string: string, replace_all?: boolean): Edit => ({
  old_string,
  new_string,
  ...(replace_all !== undefined && { replace_all }),
});

describe("edits", () => {
  it.each<[what: string, before: string, edits: Edit[], after: string]>([
    ["replace one place", "a b c\n", [edit("b", "B")], "a B c\n"],
    ["come in order", "one\n", [edit("one", "two"), edit("two", "three")], "three\n"],
    ["replace all", "x.x.x", [edit("x", "yy", true)], "yy.yy.yy"],
    ["do not overlap", "aaaa", [edit("aa", "b", true)], "bb"],
    ["do not find what they put", "a", [edit("a", "aa", true)], "aa"],
    ["take text away", "keep\ndrop\n", [edit("drop\n", "")], "keep\n"],
    ["take dollars as they are", "cost\n", [edit("cost", "$& $1 $$")], "$& $1 $$\n"],
    ["leave a missing newline at the end missing", "a\nb", [edit("b", "c")], "a\nc"],
    ["match \\n where the file has \\r\\n", "a\r\nb\r\nc\r\n", [edit("a\nb\n", "x\ny\nz\n")], "x\r\ny\r\nz\r\nc\r\n"],
    ["give one line the file's line ends", "a\r\nb\r\n", [edit("b", "b\nc")], "a\r\nb\r\nc\r\n"],
    ["give the last line without end those before", "a\r\nb", [edit("b", "b\nc")], "a\r\nb\r\nc"],
    ["match in mixed line ends", "a\nb\r\nc\nd\r\n", [edit("b\nc\nd", "x")], "a\nx\r\n"],
    ["take the line ends of where they are, mixed", "a\nb\r\nc\r\n", [edit("c", "c\nd")], "a\nb\r\nc\r\nd\r\n"],
    ["begin at a newline", "a\r\n\r\nb\nc\n", [edit("\n\nb", "\nb")], "a\r\nb\nc\n"],
    ["take \\r to the letter", "a\r\nb\r\n", [edit("a\r\n", "a\n")], "a\nb\r\n"],
    ["put \\r to the letter", "a\nb\n", [edit("a\n", "a\r\n")], "a\r\nb\n"],
  ])("%s", (_what, before, edits, after) => {
    const plan = planEdits(before, edits, most);
    expect(plan.text).toBe(after);
    expect(rebuilt(before, plan)).toBe(after);
  });

  it.each<[what: string, before: string, edits: Edit[], why: (string | RegExp)[]]>([
    [
      "finds nothing alike",
      "zzz\n",
      [edit("completely other", "x")],
      ["edits[0]", "not in the file", "Nothing in the"],
    ],
    [
      "names the edit and the closest lines",
      "def one():\n    return 1\n\ndef two():\n    return 2\n",
      [edit("def one", "def uno"), edit("def two():\n  return  2", "x")],
      ["edits[1]", "lines 4–5", '4: "def two():"', '5: "    return 2"', "differs in blanks only"],
    ],
    ["shows tabs", "\tif (x) {\n", [edit("    if (x) {", "y")], ['1: "\\tif (x) {"']],
    [
      "shows what resembles it",
      "const limit = 10;\n",
      [edit("const limits = 12;", "x")],
      [/1: "const limit = 10;"/, "% alike"],
    ],
    [
      "says when an edit before it was to blame",
      "abc def\n",
      [edit("abc", "x"), edit("abc def", "y")],
      ["edits[1]", "an edit before"],
    ],
    [
      "lists every place of what is there twice",
      "a = 1\nb = 2\na = 1\n",
      [edit("a = 1", "a = 2")],
      ["found 2 times", '1: "a = 1"', '3: "a = 1"'],
    ],
    ["lists twenty and counts the rest", "x\n".repeat(50), [edit("x", "y")], ["found 50 times", "and 30 more"]],
    ["refuses what changes nothing", "a\n", [edit("a", "a")], ["edits[0]", "the same"]],
    ["refuses an empty old_string", "a\n", [edit("", "a")], ["edits[0]", "empty"]],
    ["keeps foreign text quoted", 'say "\u202Ehi"\n', [edit('say "hi" now', "x")], ["\\u{202e}hi"]],
  ])("EDIT_NOT_APPLIED %s", (_what, before, edits, why) => {
    let message = "";
    expect(() => {
      try {
        planEdits(before, edits, most);
      } catch (error) {
        message = error instanceof Error ? error.message : "";
        throw error;
      }
    }).toThrow(expect.objectContaining({ code: "EDIT_NOT_APPLIED" }));
    for (const part of why) expect(message).toMatch(part);
    expect(message).toContain("Nothing was changed.");
    expect(message.length).toBeLessThan(6000);
  });

  // Quadratic work would take minutes; how fast it is, is not this test's matter.
  it("answers soon for 8 MiB that resemble what is looked for everywhere", { timeout: 60_000 }, () => {
    const text = "  const value = compute(first, second);\r\n".repeat(200_000);
    const started = performance.now();
    expect(() => planEdits(text, [edit("const value = computes(first,\nthird)", "x")], most)).toThrow(
      /not in the file/,
    );
    const all = planEdits(text, [edit("first, second", "second,\nfirst", true)], 2 * most);
    expect(all.replacements).toBe(200_000);
    expect(Buffer.byteLength(unifiedDiff(text, all.text, all.regions))).toBeLessThanOrEqual(4096);
    expect(performance.now() - started).toBeLessThan(40_000);
  });
});

describe("any edits of any text", () => {
  it("say exactly where the texts differ, and the diff makes the one out of the other", () => {
    const random = seeded(7);
    const pick = (list: readonly string[]): string => list[Math.floor(random() * list.length)] ?? "";
    let applied = 0;
    for (let round = 0; round < 3000; round++) {
      const newline = pick(["\n", "\n", "\r\n"]);
      const words = Array.from({ length: 1 + Math.floor(random() * 30) }, () => pick(["a", "b", "ab", "", " c"]));
      const before = words.join(newline) + pick(["", newline]);
      let text = before;
      const edits: Edit[] = [];
      for (let i = 0; i < 4; i++) {
        const start = Math.floor(random() * text.length);
        const old = text
          .slice(start, start + 1 + Math.floor(random() * 6))
          .replaceAll("\r\n", "\n")
          .replaceAll("\r", "");
        const next = edit(old, pick(["", "z", "zz\nz", "\n", `${old}!`]), random() < 0.5);
        try {
          text = planEdits(text, [next], most).text;
          edits.push(next);
        } catch {
          // Not unique, empty or without effect.
        }
      }
      if (edits.length === 0) continue;
      applied++;
      const plan = planEdits(before, edits, most);
      expect(plan.text).toBe(text);
      expect(rebuilt(before, plan)).toBe(text);
      const diff = unifiedDiff(before, plan.text, plan.regions);
      expect(patched(before.replaceAll("\r\n", "\n"), diff), diff).toBe(text.replaceAll("\r\n", "\n"));
    }
    expect(applied).toBeGreaterThan(1500);
  });
});

describe("the diff", () => {
  it("has three lines of context, numbers and one hunk for neighbours", () => {
    const before = Array.from({ length: 40 }, (_, i) => `line ${i + 1}`).join("\n");
    const plan = planEdits(before, [edit("line 5\n", "five\n"), edit("line 9\n", ""), edit("line 40", "forty")], most);
    expect(unifiedDiff(before, plan.text, plan.regions)).toBe(
      [
        "@@ -2,11 +2,10 @@",
        " line 2",
        " line 3",
        " line 4",
        "-line 5",
        "+five",
        " line 6",
        " line 7",
        " line 8",
        "-line 9",
        " line 10",
        " line 11",
        " line 12",
        "@@ -37,4 +36,4 @@",
        " line 37",
        " line 38",
        " line 39",
        "-line 40",
        "\\ No newline at end of file",
        "+forty",
        "\\ No newline at end of file",
        "",
      ].join("\n"),
    );
  });

  it("says how many places it leaves out, and cuts a single large one", () => {
    const before = Array.from({ length: 1000 }, (_, i) => `line number ${i} x`).join("\n");
    const many = planEdits(before, [edit("x", "y", true)], most);
    const one = unifiedDiff(before, many.text, many.regions);
    expect(one).toContain("the rest is left out");
    const apart = before.replace(/x/g, (x, at: number) => (at % 17 === 0 ? "far" : x));
    const spread = planEdits(apart, [edit("far", "near", true)], most);
    const diff = unifiedDiff(apart, spread.text, spread.regions);
    for (const text of [one, diff]) expect(Buffer.byteLength(text)).toBeLessThanOrEqual(4096);
    expect(diff).toMatch(/… \d+ more places left out\n$/);
  });
});

describe("large texts", () => {
  // Where the work for a match grew with the text, each of these would take minutes.
  it.each<[what: string, before: string]>([
    ["one line", "x,".repeat(90_000).padEnd(most - 90_000, "x")],
    ["one line after another end", `\r\n${"x,".repeat(90_000)}`.padEnd(most - 180_000, "x")],
  ])("of %s are edited in time that grows with their length alone", (_what, before) => {
    const { text, replacements } = planEdits(before, [edit(",", ",\n", true)], most);
    expect(replacements).toBe(90_000);
    expect(text.length).toBe(before.length + 90_000 * (before.startsWith("\r") ? 2 : 1));
  });

  it.each<[what: string, before: string, edits: Edit[], why: string]>([
    [
      "more replacements",
      "a".repeat(1_000_001),
      [edit("a", "b", true)],
      "edits[0] makes more than 1000000 replacements",
    ],
    [
      "more replacements together",
      "a".repeat(600_000),
      [edit("a", "b", true), edit("b", "c", true)],
      "edits[1] makes more than 1000000 replacements",
    ],
    [
      "a longer text on the way",
      "a".repeat(10_000),
      [edit("a", "b".repeat(1_000), true), edit("b", "", true)],
      "edits[0] makes the file longer than 8388608 bytes",
    ],
  ])("are refused that make %s than is taken", (_what, before, edits, why) => {
    expect(() => planEdits(before, edits, most)).toThrow(
      expect.objectContaining({ code: "LIMIT_EXCEEDED", message: expect.stringContaining(why) }),
    );
  });
});

/** The text after, made of the one before and the regions. */
function rebuilt(before: string, { text, regions }: ReturnType<typeof planEdits>): string {
  let at = 0;
  const parts: string[] = [];
  for (const region of regions) {
    expect(region.from).toBeGreaterThanOrEqual(at);
    parts.push(before.slice(at, region.from), text.slice(region.at, region.end));
    at = region.to;
  }
  return [...parts, before.slice(at)].join("");
}

/** As patch(1) would. */
function patched(before: string, diff: string): string {
  const source = before.split(/(?<=\n)/);
  const result: string[] = [];
  let at = 0;
  for (const line of diff.split("\n").slice(0, -1)) {
    const head = /^@@ -(\d+),(\d+) /.exec(line);
    if (head) {
      const first = Number(head[1]) - (head[2] === "0" ? 0 : 1);
      while (at < first) result.push(source[at++] ?? "");
    } else if (line.startsWith("\\")) {
      const last = result.at(-1);
      if (lastSign !== "-" && last !== undefined) result[result.length - 1] = last.replace(/\n$/, "");
    } else if (line.startsWith("-") || line.startsWith(" ")) {
      expect(source[at]?.replace(/\n$/, ""), diff).toBe(line.slice(1));
      at++;
      if (line.startsWith(" ")) result.push(`${line.slice(1)}\n`);
    } else if (line.startsWith("+")) result.push(`${line.slice(1)}\n`);
    lastSign = line[0] ?? "";
  }
  return [...result, ...source.slice(at)].join("");
}
let lastSign = "";

function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}
