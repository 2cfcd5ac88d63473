import { z } from "zod";
import { commonData, type EventType, type JournaledType, journaledEvents, transientEvents } from "../sandbox/events.ts";
import { eventType, schemaId } from "./envelope.ts";

export type JsonSchema = Record<string, unknown>;

const allEvents = { ...journaledEvents, ...transientEvents };

/** Own keys of a literal object, as the names they are. */
const keysOf = <K extends string>(object: Record<K, unknown>): K[] => Object.keys(object) as K[];

export const eventTypes: readonly EventType[] = keysOf(allEvents);
export const isJournaled = (type: EventType): type is JournaledType => type in journaledEvents;

/** The whole CloudEvent of one type. Objects are loose: what a consumer does not know is no error. */
function eventSchema(type: EventType) {
  const data = z.looseObject({
    ...commonData.shape,
    ...allEvents[type].shape,
    truncated: z.array(z.string()).optional().describe("Fields that were cut because the event was too large"),
  });
  const sequence = z
    .string()
    .regex(/^\d{20}$/)
    .describe("Per sandbox, from 1, gapless except as journal.dropped says; sorts as text");
  return z.looseObject({
    specversion: z.literal("1.0"),
    id: z.string().min(1).describe("UUIDv7, stable over redeliveries: dedupe on it"),
    source: z.string().min(1).meta({ format: "uri-reference" }).describe("//chorus/hosts/<host>"),
    type: z.literal(eventType(type)),
    subject: z.string().min(1).describe("Sandbox id; _host for facts about the host"),
    time: z.string().meta({ format: "date-time" }),
    datacontenttype: z.literal("application/json"),
    dataschema: z.literal(schemaId(type)),
    ...(isJournaled(type) && { sequence }),
    partitionkey: z.string().min(1).describe("Sandbox id: what shares it is in order"),
    traceparent: z.string().optional().describe("W3C trace context of the call that caused it"),
    data,
  });
}

/** JSON Schema 2020-12 of every event by `domain.action`. */
export function eventSchemas(): Record<EventType, JsonSchema> {
  const schemas = eventTypes.map((type) => [type, jsonSchema(type)] as const);
  return Object.fromEntries(schemas) as Record<EventType, JsonSchema>; // every EventType is in eventTypes
}

function jsonSchema(type: EventType): JsonSchema {
  const { $schema, ...schema } = z.toJSONSchema(eventSchema(type), {
    target: "draft-2020-12",
    io: "input",
    override: ({ jsonSchema: node }) => {
      // Noise of the generator: the bounds of what a double can count, and that keys of an object are strings.
      if (node.minimum === Number.MIN_SAFE_INTEGER) delete node.minimum;
      if (node.maximum === Number.MAX_SAFE_INTEGER) delete node.maximum;
      delete node.propertyNames;
    },
  });
  return { $schema, $id: schemaId(type), title: type, ...schema };
}
