import type { FakeExec } from "./exec.ts";
import type { FakeGuest } from "./guest.ts";

export interface ViewRequest {
  wait_ms?: number;
  until?: "exit" | "output";
  stdout_offset?: number;
  stderr_offset?: number;
  max_bytes?: number;
  facts_after?: number;
}

const streams = ["stdout", "stderr"] as const;

/** What is there of an exec once it has ended, has output, or the wait is over. */
export async function viewOf(guest: FakeGuest, exec: FakeExec, view: ViewRequest, signal: AbortSignal) {
  const offsets = { stdout: view.stdout_offset ?? 0, stderr: view.stderr_offset ?? 0 };
  const beyond = (): boolean => streams.some((stream) => exec.spools[stream].total > offsets[stream]);
  const ready = (): boolean => !exec.running || (view.until === "output" && beyond());
  await exec.changed.until(ready, view.wait_ms ?? 0, guest.clock, signal);

  const maxBytes = view.max_bytes ?? 16 * 1024;
  const available = (stream: "stdout" | "stderr"): number =>
    exec.spools[stream].from(offsets[stream]).reduce((sum, { bytes }) => sum + bytes.length, 0);
  const errShare = Math.min(available("stderr"), Math.max(Math.floor(maxBytes / 2), maxBytes - available("stdout")));
  const outCut = exec.spools.stdout.cut(offsets.stdout, maxBytes - errShare);
  const errCut = exec.spools.stderr.cut(offsets.stderr, errShare);
  const segments = [
    ...outCut.map((segment) => ({ stream: "stdout", ...segment })),
    ...errCut.map((segment) => ({ stream: "stderr", ...segment })),
  ];
  return {
    header: {
      exec: exec.view(),
      segments: segments.map(({ stream, from, bytes }) => ({ stream, from, len: bytes.length })),
      ...(view.facts_after !== undefined && { facts: guest.facts.after(view.facts_after) }),
    },
    contents: segments.map(({ bytes }) => bytes),
  };
}

const frameBytes = 64 * 1024;

/** All output from the offsets on as frames, then the end. */
export async function* streamFrames(
  exec: FakeExec,
  offsets: { stdout: number; stderr: number },
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const next = { ...offsets };
  while (!signal.aborted) {
    const ended = !exec.running;
    const changed = exec.changed.changed();
    for (const stream of streams) {
      for (const { from, bytes } of exec.spools[stream].from(next[stream])) {
        for (let at = 0; at < bytes.length; at += frameBytes) {
          yield frame(stream === "stdout" ? 1 : 2, from + at, bytes.subarray(at, at + frameBytes));
        }
        next[stream] = from + bytes.length;
      }
    }
    if (ended) {
      yield frame(3, 0, Buffer.from(JSON.stringify(exec.view())));
      return;
    }
    const gone = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    await Promise.race([changed, gone]);
  }
}

function frame(type: number, offset: number, bytes: Buffer): Buffer {
  const head = Buffer.alloc(13);
  head.writeUInt8(type, 0);
  head.writeBigUInt64BE(BigInt(offset), 1);
  head.writeUInt32BE(bytes.length, 9);
  return Buffer.concat([head, bytes]);
}
