import type { FakeExec } from "./exec.ts";
import type { FakeGuest } from "./guest.ts";
import { compile, findLine, fitting, matching, type Segment, tailFrom } from "./search.ts";

export interface ViewRequest {
  wait_ms?: number;
  until?: "exit" | "output";
  until_match?: string;
  tail_lines?: number;
  match?: string;
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
  const wanted = view.until_match === undefined ? undefined : compile(view.until_match);
  const pattern = view.match === undefined ? undefined : compile(view.match);
  const matched = () => wanted && findLine(exec, offsets, wanted);
  const ready = (): boolean =>
    !exec.running || (view.until === "output" && beyond()) || (wanted !== undefined && matched() !== undefined);
  await exec.changed.until(ready, view.wait_ms ?? 0, guest.clock, signal);

  const found = pattern && streams.map((stream) => matching(exec.spools[stream].from(offsets[stream]), pattern));
  const segments = pieces(exec, view, offsets, found);
  const line = matched();
  return {
    header: {
      exec: exec.view(),
      segments: segments.map(({ stream, from, bytes }) => ({ stream, from, len: bytes.length })),
      ...(line && { matched: line }),
      ...(found && {
        match_total: found.reduce((sum, { total }) => sum + total, 0),
        match_more: segments.length < found.reduce((sum, one) => sum + one.segments.length, 0),
      }),
      ...(view.facts_after !== undefined && { facts: guest.facts.after(view.facts_after) }),
    },
    contents: segments.map(({ bytes }) => bytes),
  };
}

/** Shares the bytes of an answer out between the streams, each cut to its head and tail, its last lines, or what was found. */
function pieces(
  exec: FakeExec,
  view: ViewRequest,
  offsets: { stdout: number; stderr: number },
  found: readonly { segments: Segment[] }[] | undefined,
): (Segment & { stream: "stdout" | "stderr" })[] {
  const maxBytes = view.max_bytes ?? 16 * 1024;
  const size = (segments: readonly Segment[]) => segments.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const cuts = streams.map((stream, index) => {
    const kept = exec.spools[stream].from(offsets[stream]);
    const lines = found?.[index]?.segments;
    if (lines) return { available: size(lines), cut: (limit: number) => fitting(lines, limit) };
    const from = view.tail_lines === undefined ? undefined : tailFrom(kept, view.tail_lines);
    const all = from === undefined ? kept : exec.spools[stream].from(from);
    return { available: size(all), cut: (limit: number) => exec.spools[stream].cut(from ?? offsets[stream], limit) };
  });
  const [out, err] = [cuts[0]?.available ?? 0, cuts[1]?.available ?? 0];
  const errShare = Math.min(err, Math.max(Math.floor(maxBytes / 2), maxBytes - out));
  return streams.flatMap((stream, index) =>
    (cuts[index]?.cut(stream === "stderr" ? errShare : maxBytes - errShare) ?? []).map((segment) => ({
      stream,
      ...segment,
    })),
  );
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
