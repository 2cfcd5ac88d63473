import type { z } from "zod";
import { givenUp, SandboxError } from "../errors.ts";
import type { Call, Sandboxes } from "../sandbox/api.ts";
import { parseArguments } from "./arguments.ts";
import { type ObjectSchema, slim, toJsonSchema } from "./json-schema.ts";

/** What a handler works with besides its arguments. */
export interface ToolContext {
  sandboxes: Sandboxes;
  call: Call;
}

/** All four, always written: clients assume the worst of a missing one. */
export interface Hints {
  readOnlyHint: boolean;
  destructiveHint: boolean;
  idempotentHint: boolean;
  /** `network`: as far as the policy allows sandboxes any. */
  openWorldHint: boolean | "network";
}

interface Definition<I extends z.ZodObject, O extends z.ZodObject> {
  name: string;
  title: string;
  description: string;
  input: I;
  output: O;
  annotations: Hints;
  /** Translates arguments to a use case of the service. */
  handle(args: z.output<I>, context: ToolContext): Promise<z.output<O>>;
  /** The same for a reader: complete, with foreign text kept as data. */
  render(result: z.output<O>, args: z.output<I>): string;
  /** Asks for about `share` of the same, when the answer is too large to send. */
  less?(args: z.output<I>, result: z.output<O>, share: number, context: ToolContext): Promise<z.output<O>>;
  /** Largest structured answer in bytes of JSON. @default 65536 */
  maxBytes?(args: z.output<I>): number;
}

export interface Answer {
  structuredContent: Record<string, unknown>;
  text: string;
}

/** A tool as the server lists and calls it; its types stay inside. */
export interface Tool {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly annotations: Hints;
  readonly inputSchema: ObjectSchema;
  readonly outputSchema: ObjectSchema;
  /** Rejects with a SandboxError. `sandboxes` is opened only after the arguments proved right. */
  run(raw: unknown, call: Call, sandboxes: () => Promise<Sandboxes> | Sandboxes): Promise<Answer>;
}

const answerBytes = 64 * 1024;

export function defineTool<I extends z.ZodObject, O extends z.ZodObject>(definition: Definition<I, O>): Tool {
  const { name, title, description, annotations, input, output } = definition;
  const checked = once(() => toJsonSchema(input));
  const inputSchema = once(() => slim(checked()));
  const outputSchema = once(() => toJsonSchema(output));
  return {
    name,
    title,
    description,
    annotations,
    get inputSchema() {
      return inputSchema();
    },
    get outputSchema() {
      return outputSchema();
    },
    async run(raw, call, sandboxes) {
      const args = parseArguments(name, input, checked(), raw);
      const context = { sandboxes: await sandboxes(), call };
      // Opening takes a moment, and not every use case looks at the signal before it does something.
      if (call.signal.aborted) throw givenUp(call.signal.reason);
      const result = await fitting(definition, args, context);
      return { structuredContent: result, text: definition.render(result, args) };
    },
  };
}

/** JSON may be six times what it escapes: a service that counts bytes of output cannot promise a size of answers. */
async function fitting<I extends z.ZodObject, O extends z.ZodObject>(
  definition: Definition<I, O>,
  args: z.output<I>,
  context: ToolContext,
): Promise<z.output<O>> {
  const limit = definition.maxBytes?.(args) ?? answerBytes;
  let result = await definition.handle(args, context);
  let size = jsonBytes(result);
  let share = 1;
  for (let round = 0; size > limit && definition.less !== undefined && round < 5; round++) {
    share *= (limit / size) * 0.9;
    result = await definition.less(args, result, share, context);
    size = jsonBytes(result);
  }
  if (size <= limit) return result;
  throw new SandboxError("LIMIT_EXCEEDED", `The answer would be ${size} bytes, more than ${limit}.`, {
    next: `Ask ${definition.name} for less at once.`,
  });
}

const jsonBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
