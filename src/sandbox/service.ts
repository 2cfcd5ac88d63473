import { findSandbox, withGuest } from "./access.ts";
import type {
  Call,
  CreateRequest,
  EventsRequest,
  ExecInputRequest,
  ExecOutputRequest,
  ExecRequest,
  FileEditRequest,
  FileListRequest,
  FileManageRequest,
  FileReadRequestView,
  FileSearchRequest,
  FileTransferRequest,
  FileWriteRequest,
  ListRequest,
  Sandboxes,
  UpdateRequest,
} from "./api.ts";
import type { Core } from "./core.ts";
import { Creator } from "./create.ts";
import { destroySandbox } from "./destroy.ts";
import type { JournalEntry } from "./events.ts";
import { Execs } from "./execs.ts";
import { Files } from "./files.ts";
import type { GuestHealth } from "./guest/types.ts";
import { isTerminal, requireLive } from "./lifecycle.ts";
import { readEvents } from "./observe.ts";
import { type GuestsWord, sandboxRow, sandboxView } from "./present.ts";
import type { StatsReader } from "./stats.ts";
import { tail } from "./tail.ts";
import { updateSandbox } from "./update.ts";
import type {
  Destroyed,
  EventsResult,
  ExecResult,
  FileEditResult,
  FileListResult,
  FileManageResult,
  FileReadResult,
  FileSearchResult,
  FileTransferResult,
  FileWriteResult,
  SandboxList,
  SandboxView,
  StatsView,
} from "./views.ts";
import { abortable, deadline, within } from "./wait.ts";

const defaultWaitS = 30;
const defaultRows = 50;
const mostRows = 200;
/** Execs shown of a sandbox that ended. */
const lastExecs = 5;
const healthMs = 3_000;
/** What is under way gets to come to an end when the server closes. */
const closeMs = 3_000;

/** The use cases, on any backend. */
export class SandboxService implements Sandboxes {
  readonly #core: Core;
  readonly #creator: Creator;
  readonly #execs: Execs;
  readonly #files: Files;
  readonly #stats: StatsReader;

  constructor(core: Core, stats: StatsReader) {
    this.#core = core;
    this.#stats = stats;
    this.#creator = new Creator(core);
    this.#execs = new Execs(core);
    this.#files = new Files(core);
  }

  async create(request: CreateRequest, call: Call): Promise<SandboxView> {
    const id = await this.#creator.begin(request, call);
    return this.#settled(id, request.wait_s ?? defaultWaitS, call);
  }

  async get(sandbox: string, options: { wait_s?: number | undefined }, call: Call): Promise<SandboxView> {
    const record = findSandbox(this.#core, sandbox);
    if (record.state === "creating" && options.wait_s) return this.#settled(record.sandbox_id, options.wait_s, call);
    return this.#view(record.sandbox_id, call.signal);
  }

  /** Waits until a sandbox is no longer creating; a failure is thrown as the error that caused it where this process knows it. */
  async #settled(id: string, waitS: number, call: Call): Promise<SandboxView> {
    const ready = this.#creator.ready(id);
    if (!ready) {
      await this.#waitWhileCreating(id, waitS * 1000, call.signal);
      const record = findSandbox(this.#core, id);
      if (record.state === "failed") requireLive(record);
      return this.#view(id, call.signal);
    }
    const lease = await abortable(within(ready, waitS * 1000), call.signal);
    return this.#view(id, call.signal, lease && { lease });
  }

  /** Another process is creating it: its events tell when that is over. */
  async #waitWhileCreating(id: string, ms: number, signal: AbortSignal): Promise<void> {
    const creating = () => this.#core.store.sandbox(id)?.state === "creating";
    if (!creating()) return;
    let wake: () => void = () => {};
    const over = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const unsubscribe = this.#core.store.journal.onAppend(() => {
      if (!creating()) wake();
    });
    try {
      if (creating()) await abortable(within(over, ms), signal);
    } finally {
      unsubscribe();
    }
  }

  async list(request: ListRequest, call: Call): Promise<SandboxList> {
    const limit = Math.min(request.limit ?? defaultRows, mostRows);
    const includeEnded = request.include_ended === true || request.state === "ended" || request.state === "failed";
    const sandboxes = [];
    for (const record of this.#core.store.sandboxes({
      tenant: this.#core.tenant,
      includeEnded,
      ...(request.cursor !== undefined && { beforeKey: request.cursor }),
    })) {
      if (request.state !== undefined && record.state !== request.state) continue;
      if (request.here && (record.origin.client !== call.client || record.origin.folder !== call.folder)) continue;
      if (request.labels && !Object.entries(request.labels).every(([key, value]) => record.labels[key] === value))
        continue;
      if (sandboxes.length === limit) return { sandboxes, next_cursor: sandboxes.at(-1)?.sandbox_id ?? "" };
      sandboxes.push(sandboxRow(record));
    }
    return { sandboxes };
  }

  async update(sandbox: string, request: UpdateRequest, call: Call): Promise<SandboxView> {
    const record = findSandbox(this.#core, sandbox);
    if (record.state !== "creating") await abortable(this.#creator.finished(record.sandbox_id), call.signal);
    await updateSandbox(this.#core, record, request, call);
    return this.#view(record.sandbox_id, call.signal);
  }

  async destroy(sandbox: string, call: Call): Promise<Destroyed> {
    const record = findSandbox(this.#core, sandbox);
    return destroySandbox(this.#core, record, call, () => this.#creator.stop(record.sandbox_id));
  }

  execRun(sandbox: string, request: ExecRequest, call: Call): Promise<ExecResult> {
    return this.#execs.run(sandbox, request, call);
  }

  execOutput(sandbox: string, execId: string, request: ExecOutputRequest, call: Call): Promise<ExecResult> {
    return this.#execs.output(sandbox, execId, request, call);
  }

  execInput(
    sandbox: string,
    execId: string,
    request: ExecInputRequest,
    call: Call,
  ): Promise<{ accepted_bytes: number }> {
    return this.#execs.input(sandbox, execId, request, call);
  }

  execKill(
    sandbox: string,
    execId: string,
    request: { signal?: string | undefined; grace_s?: number | undefined },
    call: Call,
  ): Promise<ExecResult> {
    return this.#execs.kill(sandbox, execId, request, call);
  }

  execList(sandbox: string, call: Call): ReturnType<Sandboxes["execList"]> {
    return this.#execs.list(sandbox, call);
  }

  fileRead(sandbox: string, request: FileReadRequestView, call: Call): Promise<FileReadResult> {
    return this.#files.read(sandbox, request, call);
  }

  fileWrite(sandbox: string, files: FileWriteRequest[], call: Call): Promise<FileWriteResult> {
    return this.#files.write(sandbox, files, call);
  }

  fileList(sandbox: string, request: FileListRequest, call: Call): Promise<FileListResult> {
    return this.#files.list(sandbox, request, call);
  }

  fileEdit(sandbox: string, request: FileEditRequest, call: Call): Promise<FileEditResult> {
    return this.#files.edit(sandbox, request, call);
  }

  fileSearch(sandbox: string, request: FileSearchRequest, call: Call): Promise<FileSearchResult> {
    return this.#files.search(sandbox, request, call);
  }

  fileManage(sandbox: string, request: FileManageRequest, call: Call): Promise<FileManageResult> {
    return this.#files.manage(sandbox, request, call);
  }

  fileUpload(sandbox: string, request: FileTransferRequest, call: Call): Promise<FileTransferResult> {
    return this.#files.upload(sandbox, request, call);
  }

  fileDownload(sandbox: string, request: FileTransferRequest, call: Call): Promise<FileTransferResult> {
    return this.#files.download(sandbox, request, call);
  }

  stats(sandbox: string, call: Call): Promise<StatsView> {
    return this.#stats.read(sandbox, call);
  }

  events(request: EventsRequest, call: Call): Promise<EventsResult> {
    return readEvents(this.#core, request, call);
  }

  onEvents(listener: (entries: JournalEntry[]) => void): () => void {
    return tail(this.#core.store.journal, (entries) => {
      const mine = entries.filter((entry) => entry.tenant === this.#core.tenant);
      if (mine.length > 0) listener(mine);
    });
  }

  /** @param said what its guest said seconds ago at most. @default it is asked */
  async #view(id: string, signal: AbortSignal, said?: GuestsWord): Promise<SandboxView> {
    const { store } = this.#core;
    const cursor = String(store.journal.newest());
    const { state } = findSandbox(this.#core, id);
    const word = said ?? (state === "running" || state === "paused" ? await this.#health(id, signal) : undefined);
    const record = findSandbox(this.#core, id);
    const execs = isTerminal(record.state) ? store.execs(id, lastExecs) : store.openExecs(id);
    return sandboxView(record, cursor, execs, word);
  }

  /** What the guest says of itself; a guest or an engine that does not answer soon takes nothing else from the view. */
  async #health(id: string, signal: AbortSignal): Promise<GuestHealth | undefined> {
    const soon = deadline(healthMs, signal);
    try {
      return await withGuest(this.#core, id, soon, (guest) => guest.health(soon), { repeatable: true });
    } catch (error) {
      if (signal.aborted) throw error;
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What waits for nothing comes first: a client may have little patience with a server that ends.
    await this.#files[Symbol.asyncDispose]();
    await Promise.all([
      this.#creator.settled(closeMs),
      within(Promise.all([...this.#core.updating.values()]), closeMs),
    ]);
  }
}
