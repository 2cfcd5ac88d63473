const shortestMs = 250;
const heartbeatMs = 4000;
const maxBytes = 1024;

export interface Progress {
  report: (message: string) => void;
  stop: () => void;
}

/**
 * Progress of one call: what is reported leaves at most four times a second, the newest last, and a heartbeat keeps a client that
 * counts silence as death from giving up.
 */
export function startProgress(
  send: (progress: number, message: string) => void,
  now: () => number = () => performance.now(),
): Progress {
  const started = now();
  let sent = Number.NEGATIVE_INFINITY;
  let pending: string | undefined;
  let last = "working";
  let count = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  const fireIn = (ms: number): void => {
    clearTimeout(timer);
    timer = setTimeout(fire, ms);
    timer.unref();
  };
  const fire = (): void => {
    const message = pending ?? `${last} (${Math.round((now() - started) / 1000)} s)`;
    last = pending ?? last;
    pending = undefined;
    sent = now();
    send(++count, cut(message));
    fireIn(heartbeatMs);
  };
  fireIn(heartbeatMs);
  return {
    report(message) {
      if (stopped) return;
      pending = message;
      const wait = sent + shortestMs - now();
      if (wait <= 0) fire();
      else fireIn(wait);
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

function cut(message: string): string {
  if (Buffer.byteLength(message) <= maxBytes) return message;
  return `${Buffer.from(message)
    .subarray(0, maxBytes - 6)
    .toString()
    .replace(/\ufffd+$/, "")}…`;
}
