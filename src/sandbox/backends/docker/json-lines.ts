/** No line an engine sends is longer; one that is cannot be JSON of ours. */
const maxLineLength = 1024 * 1024;

/** Newline-delimited JSON, a value at a time, at the reader's pace. Lines that are no JSON are left out. */
export async function* jsonLines(stream: AsyncIterable<Buffer>): AsyncGenerator<unknown, void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const value = parsed(line);
      if (value !== undefined) yield value;
    }
    if (rest.length > maxLineLength)
      throw new Error(`a line of the engine's stream is longer than ${maxLineLength} characters`);
  }
  const value = parsed(rest);
  if (value !== undefined) yield value;
}

function parsed(line: string): unknown {
  if (line.trim() === "") return undefined;
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
