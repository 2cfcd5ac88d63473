// @ts-check
/** A nats-server of the benchmark's own, and a consumer that shares no code with the relay. */
import { connect, consumerOpts, headers } from "nats";
import { startNats } from "../../scripts/lib/nats.mjs";
import { must } from "./measure.mjs";

/**
 * @template T
 * @param {(nats: Awaited<ReturnType<typeof startNats>>) => Promise<T>} work
 */
export async function withNats(work) {
  const nats = await startNats();
  try {
    return await work(nats);
  } finally {
    await nats.stop();
  }
}

/**
 * Hears messages of a subject and hands out when each came, by a key of its own.
 *
 * @param {string} url
 * @param {string} subject
 * @param {(data: string) => string} keyOf
 */
export async function listen(url, subject, keyOf) {
  const nc = await connect({ servers: url });
  const subscription = await nc.jetstream().subscribe(subject, consumerOpts().orderedConsumer().deliverNew());
  /** @type {Map<string, number>} */
  const arrived = new Map();
  /** @type {Map<string, (at: number) => void>} */
  const waiting = new Map();
  void (async () => {
    for await (const message of subscription) {
      const at = performance.now();
      const key = keyOf(new TextDecoder().decode(message.data));
      arrived.set(key, at);
      waiting.get(key)?.(at);
    }
  })();
  return {
    /** @param {string} key @returns {Promise<number>} performance.now() of its arrival */
    async arrival(key) {
      const known = arrived.get(key);
      if (known !== undefined) return known;
      let timer;
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no event of ${key} within 10 s`)), 10_000);
      });
      const at = await Promise.race([new Promise((resolve) => waiting.set(key, resolve)), late]);
      clearTimeout(timer);
      return /** @type {number} */ (at);
    },
    close: () => nc.close(),
  };
}

/** A stream like the relay's, for publishing without a relay. @param {string} url */
export async function rawStream(url) {
  const nc = await connect({ servers: url });
  const manager = await nc.jetstreamManager();
  await manager.streams.add({ name: "BENCH", subjects: ["bench.>"], duplicate_window: 600e9 });
  const js = nc.jetstream();
  let next = 0;
  return {
    /** @param {string} subject @param {string} text */
    async publish(subject, text) {
      const head = headers();
      head.set("Nats-Msg-Id", `bench-${next++}`);
      await js.publish(subject, new TextEncoder().encode(text), { headers: head });
    },
    close: () => nc.close(),
  };
}

/** How many messages a stream holds. @param {string} url @param {string} stream */
export async function messagesIn(url, stream) {
  const nc = await connect({ servers: url });
  const { state } = await (await nc.jetstreamManager()).streams.info(stream);
  await nc.close();
  must(state.num_deleted === undefined || state.num_deleted === 0, "messages of the stream are gone");
  return state.messages;
}
