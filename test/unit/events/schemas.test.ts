import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Ajv } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { describe, expect, it } from "vitest";
import { asyncApiDocument, schemaFiles } from "../../../src/events/asyncapi.ts";
import { toCloudEvent, toMessage, toTransientMessage } from "../../../src/events/envelope.ts";
import { eventSchemas } from "../../../src/events/schemas.ts";
import { commonData, journaledEvents } from "../../../src/sandbox/events.ts";
import { MemoryJournal, samples } from "../../support/nats-journal.ts";

const folder = new URL("../../../schemas/", import.meta.url);
const checkedIn = new Map(
  readdirSync(folder)
    .filter((name) => name !== "policy.schema.json")
    .map((name) => [name, readFileSync(new URL(name, folder), "utf8")] as const),
);

/** Yesterday's consumer: the schemas as checked in, not as generated. */
function validator(type: string) {
  const ajv = new Ajv2020({ strict: true, allErrors: true });
  formats.default(ajv);
  const validate = ajv.compile(JSON.parse(checkedIn.get(`${type}.json`) ?? "null"));
  return (event: unknown) =>
    validate(event) ? [] : (validate.errors ?? []).map((e) => `${e.instancePath} ${e.message}`);
}

const journal = new MemoryJournal();
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

it("are checked in as the code generates them (npm run schemas)", () => {
  expect([...checkedIn.keys()].sort()).toEqual([...schemaFiles().keys()].sort());
  for (const [name, text] of schemaFiles()) expect(checkedIn.get(name), name).toBe(text);
});

const types = Object.keys(samples) as (keyof typeof samples)[]; // samples is a literal

describe.each(types)("%s", (type) => {
  const event = toCloudEvent(journal.emit("sb_1", { type }));
  const validate = validator(type);

  it("validates, and so does what tomorrow adds anywhere", () => {
    expect(validate(plain(event))).toEqual([]);
    expect(validate({ ...event, tomorrow: 1, data: { ...event.data, tomorrow: { deep: [1] } } })).toEqual([]);
    const deep = Object.entries(event.data).map(([key, value]) => {
      const isObject =
        typeof value === "object" && value !== null && !Array.isArray(value) && key !== "labels" && key !== "changed";
      return [key, isObject ? { ...value, tomorrow: true } : value];
    });
    expect(validate({ ...event, data: Object.fromEntries(deep) })).toEqual([]);
  });

  it("is refused without what every event or this one has", () => {
    expect(validate({ ...event, sequence: "1" })).not.toEqual([]);
    expect(validate({ ...event, type: "dev.chorus.sandbox.other.v1" })).not.toEqual([]);
    expect(validate({ ...event, time: "yesterday" })).not.toEqual([]);
    const required = Object.entries({ ...commonData.shape, ...journaledEvents[type].shape })
      .filter(([, field]) => !field.safeParse(undefined).success)
      .map(([key]) => key);
    for (const key of required) {
      const { [key]: _, ...rest } = event.data;
      expect(validate({ ...event, data: rest }), key).not.toEqual([]);
    }
  });
});

it("accept an event that was cut", () => {
  const changes = Array.from({ length: 200 }, () => ({ path: "€".repeat(4_000), op: "w", size_bytes: 1 }));
  const labels = Object.fromEntries(Array.from({ length: 9_000 }, (_, n) => [`k${n}`, "v".repeat(100)]));
  const { payload } = toMessage(journal.emit("sb_1", { type: "file.changed", data: { changes, labels } }));
  expect(validator("file.changed")(JSON.parse(Buffer.from(payload).toString()))).toEqual([]);
});

it("describe transient events, without a sequence", () => {
  const common = {
    sandbox_id: "_host",
    host: "h",
    tenant: "t",
    labels: {},
    actor: { kind: "system" },
    state: "running",
  };
  const capacity = {
    cpus: 2,
    memory_bytes: 1,
    sandboxes: 0,
    sandboxes_limit: 1,
    memory_used_mb: 0,
    memory_limit_mb: 1,
  };
  const data = { ...common, version: "1", capacity };
  const { payload } = toTransientMessage({ type: "host.up", host: "h", tenant: "t", sandbox_id: "_host", data });
  expect(validator("host.up")(JSON.parse(Buffer.from(payload).toString()))).toEqual([]);
  expect(eventSchemas()["stats.sampled"]).toHaveProperty("required", expect.not.arrayContaining(["sequence"]));
});

it("come with a valid AsyncAPI 3 document whose references all lead somewhere", () => {
  const require = createRequire(import.meta.url);
  // The document of the specification brings its own draft-07 meta-schema.
  const ajv = new Ajv({ strict: false, allErrors: true, meta: false, validateSchema: false });
  formats.default(ajv);
  const validate = ajv.compile(require("@asyncapi/specs/schemas/3.0.0.json"));
  const document = plain(asyncApiDocument());
  expect(validate({ asyncapi: "3.0.0", info: { title: "x" } })).toBe(false);
  validate(document);
  expect(validate.errors ?? []).toEqual([]);

  const references = JSON.stringify(document).match(/(?<="\$ref":")[^"]+/g) ?? [];
  expect(references.length).toBeGreaterThan(50);
  for (const reference of references) {
    if (reference.startsWith("./")) expect(checkedIn.has(reference.slice(2)), reference).toBe(true);
    else expect(at(document, reference.slice(2).split("/")), reference).toBeDefined();
  }
});

function at(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((node, key) => (node as Record<string, unknown> | undefined)?.[key], value); // JSON
}
