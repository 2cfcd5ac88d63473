import { cutData } from "../sandbox/cut.ts";
import type { EventType, JournalEntry, TransientType } from "../sandbox/events.ts";
import { uuidv7 } from "../sandbox/ids.ts";
import { eventSubject } from "./subject.ts";

/** Largest event: well below the 1 MiB a NATS server takes by default. */
export const maxEventBytes = 768 * 1024;

export const cloudEventsContentType = "application/cloudevents+json";

/** A CloudEvent 1.0 in structured mode, attributes as CONTRACT section 4 lists them. */
export interface CloudEvent {
  specversion: "1.0";
  id: string;
  source: string;
  type: string;
  subject: string;
  time: string;
  datacontenttype: "application/json";
  dataschema: string;
  /** 20 digits, so that it sorts as text; absent on what is not journaled. */
  sequence?: string;
  partitionkey: string;
  traceparent?: string;
  data: Record<string, unknown>;
}

/** One NATS message. */
export interface EventMessage {
  id: string;
  subject: string;
  headers: Record<string, string>;
  payload: Uint8Array;
}

/** A fact that is told once and kept nowhere. */
export interface TransientEvent {
  type: TransientType;
  host: string;
  tenant: string;
  sandbox_id: string;
  /** Common and own fields together. */
  data: Record<string, unknown>;
}

export const eventType = (type: EventType): string => `dev.chorus.sandbox.${type}.v1`;
export const schemaId = (type: EventType): string => `urn:chorus:schema:sandbox:${type}:v1`;

export function toCloudEvent(entry: JournalEntry): CloudEvent {
  return envelope(entry, entry.id, entry.time, {
    sequence: String(entry.sequence).padStart(20, "0"),
    ...(entry.traceparent !== undefined && { traceparent: entry.traceparent }),
  });
}

export function toMessage(entry: JournalEntry, maxBytes = maxEventBytes): EventMessage {
  return message(toCloudEvent(entry), eventSubject(entry, entry.type), maxBytes);
}

export function toTransientMessage(event: TransientEvent, now = Date.now()): EventMessage {
  const cloudEvent = envelope(event, uuidv7(now), new Date(now).toISOString(), {});
  return message(cloudEvent, eventSubject(event, event.type), maxEventBytes);
}

function envelope(
  of: { type: EventType; host: string; sandbox_id: string; data: Record<string, unknown> },
  id: string,
  time: string,
  known: { sequence?: string; traceparent?: string },
): CloudEvent {
  const { sequence, traceparent } = known;
  return {
    specversion: "1.0",
    id,
    source: `//chorus/hosts/${encodeURIComponent(of.host)}`,
    type: eventType(of.type),
    subject: of.sandbox_id,
    time,
    datacontenttype: "application/json",
    dataschema: schemaId(of.type),
    ...(sequence !== undefined && { sequence }),
    partitionkey: of.sandbox_id,
    ...(traceparent !== undefined && { traceparent }),
    data: of.data,
  };
}

function message(event: CloudEvent, subject: string, maxBytes: number): EventMessage {
  return {
    id: event.id,
    subject,
    headers: {
      "Nats-Msg-Id": event.id,
      "content-type": cloudEventsContentType,
      ...(event.traceparent !== undefined && { traceparent: event.traceparent }),
    },
    payload: encode(event, maxBytes),
  };
}

function encode(event: CloudEvent, maxBytes: number): Uint8Array {
  const whole = Buffer.from(JSON.stringify(event));
  if (whole.length <= maxBytes) return whole;
  // A little more than the excess pays for the list of what was cut.
  const data = cutData(event.data, whole.length - maxBytes + 256);
  return Buffer.from(JSON.stringify({ ...event, data }));
}
