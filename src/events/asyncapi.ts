import type { EventType } from "../sandbox/events.ts";
import { cloudEventsContentType, eventType } from "./envelope.ts";
import { eventSchemas, eventTypes, isJournaled } from "./schemas.ts";
import { streamName } from "./stream.ts";
import { subjectRoot } from "./subject.ts";

/** Key in maps that want no dots. */
const key = (type: EventType): string => type.replace(".", "_");
const ref = ($ref: string) => ({ $ref });

/** The AsyncAPI 3 document of everything that is published. Payload schemas lie beside it, one file each. */
export function asyncApiDocument(): Record<string, unknown> {
  const each = <T>(make: (type: EventType) => T): Record<string, T> =>
    Object.fromEntries(eventTypes.map((type) => [key(type), make(type)]));

  return {
    asyncapi: "3.0.0",
    info: {
      title: "CHORUS sandbox events",
      version: "1.0.0",
      description:
        "Lifecycle and resource facts of agent sandboxes, as CloudEvents 1.0 in structured mode on NATS. " +
        `Journaled events are kept by the JetStream stream ${streamName}, at least once and in order per sandbox; ` +
        "stats and host facts are on core NATS only.",
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
    defaultContentType: cloudEventsContentType,
    servers: {
      nats: {
        host: "{address}",
        protocol: "nats",
        description: "The server of NATS_URL.",
        variables: { address: { default: "127.0.0.1:4222", description: "host:port of any NATS server ≥ 2.9" } },
      },
    },
    channels: each((type) => ({
      address: `${subjectRoot}.{host}.{tenant}.{sandbox_id}.${type}`,
      title: type,
      description: isJournaled(type)
        ? `Journaled, then relayed to stream ${streamName}.`
        : "Core NATS only: neither journaled nor kept by the stream.",
      servers: [ref("#/servers/nats")],
      messages: { [key(type)]: ref(`#/components/messages/${key(type)}`) },
      parameters: {
        host: ref("#/components/parameters/host"),
        tenant: ref("#/components/parameters/tenant"),
        sandbox_id: ref("#/components/parameters/sandbox_id"),
      },
    })),
    operations: each((type) => ({
      action: "send",
      channel: ref(`#/channels/${key(type)}`),
      messages: [ref(`#/channels/${key(type)}/messages/${key(type)}`)],
    })),
    components: {
      messages: each((type) => ({
        name: eventType(type),
        title: type,
        contentType: cloudEventsContentType,
        headers: isJournaled(type) ? ref("#/components/schemas/journaledHeaders") : ref("#/components/schemas/headers"),
        payload: {
          schemaFormat: "application/schema+json;version=draft-2020-12",
          schema: ref(`./${type}.json`),
        },
      })),
      parameters: {
        host: { description: "Host that runs the sandbox, escaped as docs/events.md says." },
        tenant: { description: "Tenant of the sandbox, escaped as docs/events.md says." },
        sandbox_id: { description: "Sandbox id; _host in facts about the host itself." },
      },
      schemas: {
        headers: headers(["content-type"]),
        journaledHeaders: headers(["content-type", "Nats-Msg-Id"]),
      },
    },
  };
}

function headers(required: string[]): Record<string, unknown> {
  return {
    type: "object",
    required,
    properties: {
      "Nats-Msg-Id": {
        type: "string",
        description: "The event's id; JetStream drops what it has seen within 10 minutes.",
      },
      "content-type": { const: cloudEventsContentType },
      traceparent: { type: "string", description: "W3C trace context, when known." },
    },
  };
}

/** File name → text of everything in `schemas/`. */
export function schemaFiles(): Map<string, string> {
  const text = (document: unknown) => `${JSON.stringify(document, null, 2)}\n`;
  const files = Object.entries(eventSchemas()).map(([type, schema]) => [`${type}.json`, text(schema)] as const);
  return new Map([...files, ["asyncapi.json", text(asyncApiDocument())]]);
}
