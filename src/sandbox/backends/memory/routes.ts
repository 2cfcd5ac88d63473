import { archive, extract } from "./archives.ts";
import type { ExecRequest, FakeExec } from "./exec.ts";
import { streamFrames, type ViewRequest, viewOf } from "./exec-views.ts";
import { Fault } from "./fault.ts";
import type { FileToWrite } from "./files.ts";
import type { FakeGuest, Tell } from "./guest.ts";
import { type ManageRequest, manage, search } from "./manage.ts";
import { compile } from "./search.ts";

export interface Ask {
  method: string;
  url: URL;
  body: Buffer;
  /** Aborts when the asker has gone. */
  signal: AbortSignal;
}

export type Answer =
  | { json: unknown; after?: () => void }
  | { header: unknown; contents: readonly Buffer[] }
  | { frames: AsyncIterable<Buffer> };

type Route = (guest: FakeGuest, ask: Ask, id: string) => Answer | Promise<Answer>;

const text = (ask: Ask, name: string): string | undefined => ask.url.searchParams.get(name) ?? undefined;
const number = (ask: Ask, name: string): number | undefined => {
  const value = text(ask, name);
  if (value === undefined) return undefined;
  if (!/^\d{1,15}$/.test(value)) throw new Fault("INVALID_ARGUMENT", `${name} is no number`);
  return Number(value);
};

/** The server of the same repository is the only client, so bodies are taken at their word. */
function json<T>(bytes: Buffer): T {
  try {
    return JSON.parse(bytes.toString()) as T;
  } catch {
    throw new Fault("INVALID_ARGUMENT", "the body is no JSON");
  }
}

/** Signals that mean an end; all others are only sent. */
const ending: ReadonlySet<string> = new Set(["TERM", "INT", "HUP", "QUIT", "KILL"]);

const routes: Record<string, Route> = {
  "GET /v1/health": (guest) => ({ json: guest.health() }),
  "PUT /v1/lease": (guest, ask) => {
    guest.lease.set(json(ask.body));
    return { json: guest.lease.view() };
  },
  "PATCH /v1/env": (guest, ask) => {
    const { set = {}, unset = [] } = json<{ set?: Record<string, string>; unset?: string[] }>(ask.body);
    for (const [name, value] of Object.entries(set)) guest.env.set(name, value);
    for (const name of unset) guest.env.delete(name);
    return { json: { keys: [...guest.env.keys()].sort() } };
  },
  "GET /v1/programs": () => ({ json: { programs: { bash: "5.2.15", python3: "3.11.2" } } }),
  "GET /v1/stats": (guest) => ({ json: guest.stats() }),
  "GET /v1/facts": async (guest, ask) => {
    const after = number(ask, "after") ?? 0;
    return { json: await guest.facts.wait(after, number(ask, "wait_ms") ?? 0, guest.clock, ask.signal) };
  },
  "PATCH /v1/limits": (guest, ask) => {
    Object.assign(guest.options.limits, json<{ pids?: number }>(ask.body));
    return { json: {} };
  },
  "POST /v1/pause": (guest, ask) => {
    guest.pause(true, json<{ tell?: Tell }>(ask.body).tell);
    return { json: guest.health() };
  },
  "POST /v1/resume": (guest, ask) => {
    guest.pause(false, json<{ tell?: Tell }>(ask.body).tell);
    return { json: guest.health() };
  },
  "POST /v1/shutdown": (guest, ask) => {
    guest.facts.add("shutdown", { reason: json<{ reason: string }>(ask.body).reason, ...guest.used() });
    return { json: {}, after: () => guest.end(0) };
  },
  "GET /v1/execs": (guest) => ({ json: { execs: [...guest.execs.values()].reverse().map((exec) => exec.view()) } }),
  "POST /v1/execs/*": (guest, ask, id) => {
    const { view = {}, ...request } = json<ExecRequest & { view?: ViewRequest }>(ask.body);
    if (view.until_match !== undefined) compile(view.until_match);
    return viewOf(guest, guest.start(id, request), view, ask.signal);
  },
  "POST /v1/execs/*/view": (guest, ask, id) => {
    guest.lease.touch();
    return viewOf(guest, guest.exec(id), json(ask.body), ask.signal);
  },
  "GET /v1/execs/*/stream": (guest, ask, id) => {
    const offsets = { stdout: number(ask, "stdout_offset") ?? 0, stderr: number(ask, "stderr_offset") ?? 0 };
    return { frames: streamFrames(guest.exec(id), offsets, ask.signal) };
  },
  "POST /v1/execs/*/kill": async (guest, ask, id) => {
    const { signal = "TERM", by = "kill" } = json<{ signal?: string; by?: string }>(ask.body);
    const exec = guest.exec(id);
    if (ending.has(signal)) {
      exec.kill(signal, by);
      await exec.gone();
    }
    return { json: { exec: exec.view() } };
  },
  "POST /v1/execs/*/stdin": (guest, ask, id) => {
    const exec = guest.exec(id);
    refuseEnded(exec);
    guest.lease.touch();
    exec.stdin.push(ask.body);
    if (text(ask, "eof") === "1") exec.stdin.end();
    return { json: { accepted_bytes: ask.body.length } };
  },
  "POST /v1/execs/*/resize": (guest, ask, id) => {
    const exec = guest.exec(id);
    if (exec.request.tty === undefined) throw new Fault("INVALID_ARGUMENT", "the exec has no tty");
    exec.request.tty = json(ask.body);
    return { json: {} };
  },
  "GET /v1/files/read": (guest, ask) => {
    guest.lease.touch();
    const lines = { line_start: number(ask, "line_start"), line_end: number(ask, "line_end") };
    const { header, content } = guest.files.read({
      path: text(ask, "path") ?? "",
      max_bytes: number(ask, "max_bytes") ?? 32 * 1024,
      ...defined({ offset: number(ask, "offset"), ...lines }),
    });
    return { header, contents: [content] };
  },
  "POST /v1/files/write": (guest, ask) => {
    guest.refusePaused();
    guest.lease.touch();
    const { files, tell } = unframe(ask.body);
    const written = guest.files.write(files);
    const changes = written.map(({ path, size_bytes, created }) => {
      return { path, op: created ? "create" : (tell?.op ?? "write"), size_bytes };
    });
    return { json: { files: written, ...guest.changed(tell, changes) } };
  },
  "GET /v1/files/list": (guest, ask) => {
    guest.lease.touch();
    const listing = guest.files.list({
      path: text(ask, "path") ?? "",
      depth: number(ask, "depth") ?? 1,
      limit: number(ask, "limit") ?? 200,
      ...defined({ glob: text(ask, "glob"), cursor: text(ask, "cursor") }),
    });
    return { json: listing };
  },
  "POST /v1/files/search": (guest, ask) => {
    guest.lease.touch();
    return { json: search(guest.files, json(ask.body)) };
  },
  "POST /v1/files/manage": (guest, ask) => {
    guest.refusePaused();
    guest.lease.touch();
    const { tell, ...request } = json<ManageRequest & { tell?: Tell }>(ask.body);
    const managed = manage(guest.files, request);
    const { op, path } = request;
    const changes = [{ path: managed.path, op: op as string, size_bytes: null }];
    if (op === "move" && guest.files.resolve(path) !== guest.files.resolve(managed.path))
      changes.push({ path, op: "delete", size_bytes: null });
    return { json: { ...managed, ...guest.changed(tell, managed.entries > 0 ? changes : []) } };
  },
  "PUT /v1/files/tar": (guest, ask) => {
    guest.refusePaused();
    guest.lease.touch();
    return { json: extract(guest.files, text(ask, "path") ?? "", ask.body) };
  },
  "GET /v1/files/tar": (guest, ask) => {
    guest.lease.touch();
    const path = text(ask, "path") ?? "";
    guest.files.stat(path);
    const patterns = (name: string): string[] => ask.url.searchParams.getAll(name);
    return { frames: archive(guest.files, path, patterns("include"), patterns("exclude")) };
  },
  "GET /v1/files/stat": (guest, ask) => {
    guest.lease.touch();
    return { json: guest.files.stat(text(ask, "path") ?? "") };
  },
};

export async function answer(guest: FakeGuest, ask: Ask): Promise<Answer> {
  const path = ask.url.pathname;
  const id = /^\/v1\/execs\/([^/]+)/.exec(path)?.[1];
  const name = `${ask.method} ${id === undefined ? path : path.replace(id, "*")}`;
  const route = Object.hasOwn(routes, name) ? routes[name] : undefined;
  if (route === undefined) throw new Fault("INVALID_ARGUMENT", `no such call: ${name}`);
  return route(guest, ask, decodeURIComponent(id ?? ""));
}

function refuseEnded(exec: FakeExec): void {
  if (!exec.running || exec.stdin.ended) throw new Fault("EXEC_ENDED", "the exec or its stdin has ended");
}

function unframe(body: Buffer): { files: FileToWrite[]; tell: Tell | undefined } {
  const newline = body.indexOf("\n");
  const { files, tell } = json<{ files: (Omit<FileToWrite, "bytes"> & { len: number })[]; tell?: Tell }>(
    body.subarray(0, newline),
  );
  let at = newline + 1;
  const whole = files.map(({ len, ...file }) => {
    const bytes = Buffer.from(body.subarray(at, at + len));
    at += len;
    return { ...file, bytes };
  });
  if (newline < 0 || at !== body.length) throw new Fault("INVALID_ARGUMENT", "lengths do not fit the body");
  return { files: whole, tell };
}

/** Without what is undefined. */
function defined<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
