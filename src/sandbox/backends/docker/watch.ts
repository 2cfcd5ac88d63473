import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { Logger } from "../../../logger.ts";
import type { EngineFact } from "../../backend.ts";
import type { EngineClient } from "./client.ts";
import { jsonLines } from "./json-lines.ts";
import { label, sandboxIdOf } from "./labels.ts";

const attributes = z
  .object({
    name: z.string().optional(),
    exitCode: z.string().optional(),
    /** Podman's name of it. */
    containerExitCode: z.string().optional(),
  })
  .catchall(z.string());

const event = z.object({
  Type: z.string().optional(),
  Action: z.string().optional(),
  /** Older and Podman's name of {@link Action}. */
  status: z.string().optional(),
  Actor: z.object({ ID: z.string().optional(), Attributes: attributes.nullish() }).optional(),
  time: z.number().optional(),
  timeNano: z.number().optional(),
});

/** What one event says of a sandbox of this install. */
export function factOf(value: unknown, installId: string): EngineFact | undefined {
  const { data } = event.safeParse(value);
  const told = data?.Actor?.Attributes;
  const sandbox_id = sandboxIdOf({ name: told?.name, labels: told, installId });
  if (data === undefined || sandbox_id === undefined) return undefined;
  switch (data.Action ?? data.status) {
    case "start":
      return { kind: "started", sandbox_id };
    case "die":
    case "died":
      return {
        kind: "died",
        sandbox_id,
        exit_code: exitCode(told?.exitCode ?? told?.containerExitCode),
      };
    case "oom":
      return { kind: "oom", sandbox_id };
    // Docker says destroy, Podman remove.
    case "destroy":
    case "remove":
      return { kind: "removed", sandbox_id };
    default:
      return undefined;
  }
}

function exitCode(text: string | undefined): number | null {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : null;
}

/** `seconds.nanoseconds` of an event, as `since` takes it. */
export function momentOf(value: unknown): string | undefined {
  const { data } = event.safeParse(value);
  if (data?.time === undefined) return undefined;
  // A count of nanoseconds is beyond what a number holds exactly, so it is taken a microsecond early: what comes twice is
  // recognised, what is missed is lost.
  const micros = data.timeNano === undefined ? 0 : Math.floor(data.timeNano / 1000 - data.time * 1e6) - 1;
  return `${data.time}.${String(Math.min(Math.max(micros, 0), 999_999) * 1000).padStart(9, "0")}`;
}

/** Tells events apart that are sent again after a reconnect. */
class Seen {
  readonly #keys = new Set<string>();

  /** False for one that was added before. */
  add(value: unknown): boolean {
    const { data } = event.safeParse(value);
    const key = `${data?.timeNano ?? data?.time} ${data?.Action ?? data?.status} ${data?.Actor?.ID}`;
    if (this.#keys.has(key)) return false;
    const oldest = this.#keys.values().next().value;
    if (this.#keys.size >= replayed && oldest !== undefined) this.#keys.delete(oldest);
    this.#keys.add(key);
    return true;
  }
}

/** As many as an engine keeps to send again. */
const replayed = 256;

const firstRetryMs = 100;
const lastRetryMs = 5_000;

/**
 * Facts until the signal aborts. Reconnects for ever with a growing pause, asks for what happened since the last event, and
 * yields `reconnected`, because the engine remembers only its last 256.
 */
export async function* watchEngine(
  engine: EngineClient,
  { installId, logger, signal }: { installId: string; logger: Logger; signal: AbortSignal },
): AsyncGenerator<EngineFact, void, undefined> {
  // From the moment of asking, so that nothing is missed while the stream is being opened.
  let since = `${(Date.now() / 1000).toFixed(3)}`;
  let lost = false;
  let pauseMs = firstRetryMs;
  const seen = new Seen();
  while (!signal.aborted) {
    try {
      const stream = await engine.stream({
        path: "/events",
        query: {
          since,
          filters: JSON.stringify({ type: ["container"], label: [`${label.install}=${installId}`] }),
        },
        action: "watch the engine's events",
        signal,
      });
      stream.socket.setKeepAlive(true, 30_000);
      if (lost) {
        lost = false;
        yield { kind: "reconnected" };
      }
      for await (const value of jsonLines(stream)) {
        pauseMs = firstRetryMs;
        const fact = seen.add(value) ? factOf(value, installId) : undefined;
        if (fact !== undefined) yield fact;
        since = momentOf(value) ?? since;
      }
      logger.info("The engine ended its stream of events; opening it again.");
    } catch (error) {
      if (signal.aborted) return;
      logger.debug({ err: error }, "The engine's stream of events broke; opening it again.");
    }
    lost = true;
    await sleep(pauseMs, undefined, { signal }).catch(() => {});
    pauseMs = Math.min(pauseMs * 2, lastRetryMs);
  }
}
