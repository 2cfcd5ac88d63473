import { describe, expect, it } from "vitest";
import { idFromEdges, LineFramer } from "../../../src/server/framing.ts";

const frames = (chunks: string[], max = 1000) => {
  const framer = new LineFramer(max);
  return chunks.flatMap((chunk) => [...framer.push(Buffer.from(chunk))]);
};

describe("LineFramer", () => {
  it.each([
    [["a\nb\n"], ["a", "b"]],
    [
      ["a", "b", "\nc", "\n"],
      ["ab", "c"],
    ],
    [["\n\n"], ["", ""]],
    [["unfinished"], []],
  ])("cuts %j into %j", (chunks, lines) => {
    expect(frames(chunks)).toEqual(lines.map((line) => ({ line })));
  });

  it("joins characters that were cut apart", () => {
    const framer = new LineFramer(100);
    const [first, second] = [Buffer.from("€\n").subarray(0, 1), Buffer.from("€\n").subarray(1)];
    expect([...framer.push(first), ...framer.push(second)]).toEqual([{ line: "€" }]);
  });

  it("throws away a line that is too long, keeps its ends, and goes on", () => {
    const found = frames([`${"h".repeat(600)}`, "m".repeat(5000), `${"t".repeat(600)}\nnext\n`]);
    expect(found).toEqual([{ tooLong: { head: "h".repeat(512), tail: "t".repeat(512) } }, { line: "next" }]);
  });

  it("takes a line of exactly the most", () => {
    expect(frames([`${"x".repeat(1000)}\n`])).toEqual([{ line: "x".repeat(1000) }]);
  });
});

describe("the id of a message that was too long", () => {
  it.each([
    ['{"jsonrpc":"2.0","id":7,"method":"x"', '"}}}', 7],
    ['{"id":"a-1","method":"x"', "", "a-1"],
    ['{"method":"x"', ',"jsonrpc":"2.0","id":12}', 12],
    // Inside the arguments: not the message's own.
    ['{"method":"x","params":{"id":1,', '"id":5}}', undefined],
    ['{"params":{"id":1,', "", undefined],
  ])("%s … %s is %s", (head, tail, id) => {
    expect(idFromEdges({ head, tail })).toBe(id);
  });
});
