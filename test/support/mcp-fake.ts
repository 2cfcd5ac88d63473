import { SandboxError } from "../../src/errors.ts";
import type { Call, ExecInputRequest, ExecRequest, Sandboxes } from "../../src/sandbox/api.ts";
import type { JournalEntry } from "../../src/sandbox/events.ts";
import type { ExecResult, SandboxView } from "../../src/sandbox/views.ts";
import { execResult, execRow, printed, sandboxView, statsView } from "./mcp-samples.ts";

/** What a fake was asked, in order. */
export interface Asked {
  method: string;
  args: unknown[];
  call: Call | undefined;
}

/**
 * The service port with nothing behind it: answers come from the samples, commands with a meaning of their own are in
 * `execRun`, and everything asked is written down.
 */
export class FakeSandboxes implements Sandboxes {
  readonly asked: Asked[] = [];
  readonly listeners = new Set<(entries: JournalEntry[]) => void>();
  readonly sandboxes = new Map<string, SandboxView>([[sandboxView.sandbox_id, sandboxView]]);
  /** Ends the command `progress`. */
  #heard = (): void => {};
  #sequence = 0;

  note(method: string, call: Call | undefined, ...args: unknown[]): void {
    this.asked.push({ method, args, call });
  }

  find(sandbox: string): SandboxView {
    const found = [...this.sandboxes.values()].find((one) => one.sandbox_id === sandbox || one.name === sandbox);
    if (found === undefined)
      throw new SandboxError("SANDBOX_NOT_FOUND", `There is no sandbox ${JSON.stringify(sandbox)}.`);
    return found;
  }

  /** Tells listeners of an event of this sandbox. */
  emit(sandboxId: string, type: JournalEntry["type"] = "exec.started"): void {
    const sequence = ++this.#sequence;
    const entry = {
      cursor: sequence,
      id: `id-${sequence}`,
      sandbox_id: sandboxId,
      tenant: "default",
      host: "h",
      type,
      sequence,
      time: "2026-11-22T01:00:00.000Z",
      data: {},
    };
    for (const listener of this.listeners) listener([entry]);
  }

  async create(request: Parameters<Sandboxes["create"]>[0], call: Call): Promise<SandboxView> {
    this.note("create", call, request);
    const id = `sb_${String(this.sandboxes.size).padStart(16, "0")}`;
    const made = { ...sandboxView, sandbox_id: id, name: request.name ?? id, labels: request.labels ?? {} };
    this.sandboxes.set(id, made);
    this.emit(id, "lifecycle.created");
    return made;
  }

  async list(request: Parameters<Sandboxes["list"]>[0], call: Call): ReturnType<Sandboxes["list"]> {
    this.note("list", call, request);
    return { sandboxes: [...this.sandboxes.values()].slice(0, request.limit ?? 50) };
  }

  async get(sandbox: string, options: object, call: Call): Promise<SandboxView> {
    this.note("get", call, sandbox, options);
    return this.find(sandbox);
  }

  async update(sandbox: string, request: object, call: Call): Promise<SandboxView> {
    this.note("update", call, sandbox, request);
    return this.find(sandbox);
  }

  async destroy(sandbox: string, call: Call): ReturnType<Sandboxes["destroy"]> {
    this.note("destroy", call, sandbox);
    this.emit(this.find(sandbox).sandbox_id, "lifecycle.destroyed");
    return { sandbox_id: this.find(sandbox).sandbox_id, destroyed: true, already_ended: false };
  }

  async execRun(sandbox: string, request: ExecRequest, call: Call): Promise<ExecResult> {
    this.note("execRun", call, sandbox, request);
    this.find(sandbox);
    if (request.command === "hang") return hang(call);
    if (request.command === "explode") throw new Error("engine says \u001b[31mno");
    if (request.command === "whoami") {
      const { client, folder, traceparent } = call;
      return printed(JSON.stringify({ client, folder, traceparent }));
    }
    if (request.command === "progress") {
      const heard = new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
      call.progress?.("half way");
      await heard;
    }
    if (request.command === "heard") this.#heard();
    return printed(request.stdin ?? `${request.command ?? request.argv?.join(" ")}\n`);
  }

  async execOutput(
    sandbox: string,
    execId: string,
    request: { max_output_bytes?: number | undefined },
    call: Call,
  ): Promise<ExecResult> {
    this.note("execOutput", call, sandbox, execId, request);
    return printed("x".repeat(Math.min(request.max_output_bytes ?? 0, 100)));
  }

  async execInput(sandbox: string, execId: string, request: ExecInputRequest, call: Call) {
    this.note("execInput", call, sandbox, execId, request);
    return { accepted_bytes: Buffer.byteLength(request.data ?? "") };
  }

  async execKill(sandbox: string, execId: string, request: object, call: Call): Promise<ExecResult> {
    this.note("execKill", call, sandbox, execId, request);
    return { ...execResult, status: "killed", exit_code: null, signal: "SIGTERM", ended_by: "kill" };
  }

  async execList(sandbox: string, call: Call): ReturnType<Sandboxes["execList"]> {
    this.note("execList", call, sandbox);
    return { execs: [execRow] };
  }

  async fileRead(
    sandbox: string,
    request: Parameters<Sandboxes["fileRead"]>[1],
    call: Call,
  ): ReturnType<Sandboxes["fileRead"]> {
    this.note("fileRead", call, sandbox, request);
    return {
      path: request.path,
      content: "hello\n",
      encoding: "utf8",
      size_bytes: 6,
      mode: "0644",
      etag: "e1",
      line_start: 1,
      line_end: 1,
      total_lines: 1,
      omitted: false,
    };
  }

  async fileWrite(
    sandbox: string,
    files: Parameters<Sandboxes["fileWrite"]>[1],
    call: Call,
  ): ReturnType<Sandboxes["fileWrite"]> {
    this.note("fileWrite", call, sandbox, files);
    return {
      files: files.map(({ path, content }) => ({ path, size_bytes: content.length, etag: "e2", created: true })),
    };
  }

  async fileList(sandbox: string, request: object, call: Call): ReturnType<Sandboxes["fileList"]> {
    this.note("fileList", call, sandbox, request);
    return {
      entries: [{ path: "a.txt", type: "file", size_bytes: 6, mode: "0644", modified_at: "2026-11-22T01:00:00Z" }],
    };
  }

  async fileEdit(sandbox: string, request: object, call: Call): ReturnType<Sandboxes["fileEdit"]> {
    this.note("fileEdit", call, sandbox, request);
    return { etag: "e3", replacements: 1, diff: "@@ -1,1 +1,1 @@\n-a\n+b\n" };
  }

  async fileSearch(sandbox: string, request: object, call: Call): ReturnType<Sandboxes["fileSearch"]> {
    this.note("fileSearch", call, sandbox, request);
    const matches = [{ path: "a.txt", line: 2, text: "hello", before: ["one"] }];
    return { matches, omitted: 3, files_searched: 7 };
  }

  async fileManage(
    sandbox: string,
    request: Parameters<Sandboxes["fileManage"]>[1],
    call: Call,
  ): ReturnType<Sandboxes["fileManage"]> {
    this.note("fileManage", call, sandbox, request);
    return { path: request.dest ?? request.path, entries: 2 };
  }

  async fileUpload(sandbox: string, request: object, call: Call): ReturnType<Sandboxes["fileUpload"]> {
    this.note("fileUpload", call, sandbox, request);
    return { files: 2, bytes: 2048, refused: [{ path: "pipe", why: "fifo" }] };
  }

  async fileDownload(sandbox: string, request: object, call: Call): ReturnType<Sandboxes["fileDownload"]> {
    this.note("fileDownload", call, sandbox, request);
    return { files: 1, bytes: 10, refused: [] };
  }

  async stats(sandbox: string, call: Call): ReturnType<Sandboxes["stats"]> {
    this.note("stats", call, sandbox);
    return statsView;
  }

  async events(request: object, call: Call): ReturnType<Sandboxes["events"]> {
    this.note("events", call, request);
    return {
      events: [
        { type: "exec.started", time: "2026-11-22T01:00:00.000Z", sandbox_id: sandboxView.sandbox_id, exec_id: "ex_1" },
      ],
      next_cursor: "44",
    };
  }

  onEvents(listener: (entries: JournalEntry[]) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

/** Waits for the cancellation and says so where a parent process can read it. */
function hang(call: Call): Promise<never> {
  return new Promise((_, reject) => {
    process.stderr.write("hanging\n");
    call.signal.addEventListener("abort", () => {
      process.stderr.write("cancelled\n");
      reject(call.signal.reason);
    });
  });
}
