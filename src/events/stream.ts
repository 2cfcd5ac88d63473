import type { JetStreamManager, StreamConfig, StreamInfo } from "@nats-io/jetstream";
import { quoted } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { pause } from "../sandbox/wait.ts";
import type { NatsSession } from "./connection.ts";
import { liveSubjects, streamSubjects } from "./subject.ts";
import { backoff, unless } from "./wait.ts";

export const streamName = "CHORUS_SANDBOX_EVENTS";

const second = 1e9;
const mebibyte = 2 ** 20;
const wantedBytes = 1024 * mebibyte;
const leastBytes = 8 * mebibyte;

const liveCost =
  ". Its subjects also take stats and host facts: a message every 10 s for each sandbox that runs, which pushes events out of the stream sooner";

/** Error codes of the JetStream API that are told apart here. */
const apiError = {
  streamNameInUse: 10058,
  insufficientResources: 10023,
  storageExceeded: 10047,
  accountExceeded: 10002,
  streamExceeded: 10122,
};

/** The stream as CONTRACT section 4 has it; nothing in it needs a server newer than 2.9. */
export function wantedStream(maxBytes: number) {
  return {
    name: streamName,
    subjects: streamSubjects(),
    storage: "file",
    retention: "limits",
    discard: "old",
    max_age: 7 * 86_400 * second,
    max_bytes: maxBytes,
    max_msgs: -1,
    max_msgs_per_subject: -1,
    max_msg_size: -1,
    duplicate_window: 600 * second,
    no_ack: false,
  } satisfies Partial<StreamConfig>;
}

/** Names of the fields in which a stream is not as wanted. Any bound on its bytes is a bound. */
export function streamDifferences(actual: Partial<StreamConfig>): string[] {
  const { max_bytes: _, subjects, name: __, ...exact } = wantedStream(0);
  const given: Record<string, unknown> = { ...actual };
  const different = Object.entries(exact)
    .filter(([field, wanted]) => (given[field] ?? false) !== wanted)
    .map(([field]) => field);
  if ((actual.max_bytes ?? -1) <= 0) different.push("max_bytes");
  const patterns = actual.subjects ?? [];
  const complete = subjects.every((subject) => patterns.some((pattern) => meets(pattern, subject, "whole")));
  if (!complete || keepsLive(actual)) different.push("subjects");
  if (actual.sealed) different.push("sealed");
  return different.sort();
}

/** Whether the stream also stores what is only worth something at its moment. */
function keepsLive({ subjects = [] }: Partial<StreamConfig>): boolean {
  return liveSubjects().some((subject) => subjects.some((pattern) => meets(pattern, subject, "part")));
}

/** Whether the pattern takes the whole of what the subject pattern stands for, or a part of it. */
function meets(pattern: string, subject: string, share: "whole" | "part"): boolean {
  const tokens = subject.split(".");
  const parts = pattern.split(".");
  const rest = parts.indexOf(">");
  const fixed = rest === -1 ? parts : parts.slice(0, rest);
  if (rest === -1 ? parts.length !== tokens.length : tokens.length <= rest) return false;
  return fixed.every(
    (part, index) => part === "*" || part === tokens[index] || (share === "part" && tokens[index] === "*"),
  );
}

/**
 * Keeps an eye on the stream for the time of one process: creates it where it is missing, never alters it, and says what is
 * wrong once until it changes.
 */
export class StreamKeeper {
  readonly #logger: Logger;
  #said = "";
  #trouble: string | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Why there is no stream, from the last look. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Resolves with true when there is a stream to publish to; with false when the session ends before. */
  async ready(session: NatsSession): Promise<boolean> {
    for (let attempt = 0; !session.down.aborted; attempt += 1) {
      try {
        await unless(this.ensure(session), session.down);
        this.#trouble = undefined;
        return true;
      } catch (error) {
        this.#trouble = `JetStream answers ${quoted(error instanceof Error ? error.message : String(error))}`;
        this.#say("warn", `events cannot be relayed: ${this.#trouble}; they wait in the journal`);
        await pause(backoff(attempt, 500, 10_000), session.down);
      }
    }
    return false;
  }

  /** One look: the stream as it is, or as it was created. Throws when there is none and none can be made. */
  async ensure({ nc }: NatsSession): Promise<void> {
    const { jetstreamManager, JetStreamApiError } = await import("@nats-io/jetstream");
    const { PermissionViolationError } = await import("@nats-io/transport-node");
    const manager = await jetstreamManager(nc, { checkAPI: false, timeout: 5_000 });
    let info: StreamInfo;
    try {
      info = await manager.streams.info(streamName);
    } catch (error) {
      if (error instanceof Error && error.cause instanceof PermissionViolationError) {
        this.#say("warn", `this NATS login may not look at stream ${streamName}; events are published unseen`);
        return;
      }
      if (!(error instanceof JetStreamApiError) || error.name !== "StreamNotFoundError") throw error;
      info = await create(manager);
      this.#logger.info({ max_bytes: info.config.max_bytes }, `created stream ${streamName}`);
    }
    const fields = streamDifferences(info.config);
    if (fields.length > 0) {
      this.#say(
        "warn",
        `stream ${streamName} differs from what this server would create, in ${fields.join(", ")}; left as it is${
          keepsLive(info.config) ? liveCost : ""
        }`,
        fields,
      );
    } else {
      this.#said = "";
    }
  }

  #say(level: "warn", words: string, fields?: string[]): void {
    if (words === this.#said) return;
    this.#said = words;
    this.#logger[level]({ stream: streamName, ...(fields && { fields }) }, words);
  }
}

/** Creates the stream as large as the account and the server let it be. */
async function create(manager: JetStreamManager): Promise<StreamInfo> {
  const { JetStreamApiError } = await import("@nats-io/jetstream");
  const full: ReadonlySet<number> = new Set([
    apiError.insufficientResources,
    apiError.storageExceeded,
    apiError.accountExceeded,
    apiError.streamExceeded,
  ]);
  for (let bytes = await allowedBytes(manager); ; bytes = Math.floor(bytes / 2)) {
    try {
      return await manager.streams.add(wantedStream(bytes));
    } catch (error) {
      if (!(error instanceof JetStreamApiError)) throw error;
      // Another process was faster.
      if (error.code === apiError.streamNameInUse) return await manager.streams.info(streamName);
      if (!full.has(error.code) || bytes / 2 < leastBytes) throw error;
    }
  }
}

async function allowedBytes(manager: JetStreamManager): Promise<number> {
  try {
    const { limits, storage } = await manager.getAccountInfo();
    const bounds = [limits.max_storage > 0 ? limits.max_storage - storage : 0, limits.storage_max_stream_bytes];
    return Math.min(wantedBytes, ...bounds.filter((bound) => bound > 0));
  } catch {
    // A login without the right to ask may still create.
    return wantedBytes;
  }
}
