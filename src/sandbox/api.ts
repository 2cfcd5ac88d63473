import type { JournalEntry } from "./events.ts";
import type {
  Destroyed,
  EventsResult,
  ExecResult,
  ExecRow,
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

/** Who asks, and how to stop or inform them. One per tool call. */
export interface Call {
  /** Aborts when the client cancels the request, never when the connection is lost. */
  signal: AbortSignal;
  /** MCP client, name and version; `unknown` when it did not say. */
  client: string;
  /** Folder the server was started in: with `client` what `here` means. */
  folder: string;
  traceparent?: string;
  /** Present when the client asked for progress; cheap to call often, the edge limits the rate. */
  progress?: (message: string) => void;
}

export interface CreateRequest {
  image?: string | undefined;
  name?: string | undefined;
  labels?: Record<string, string> | undefined;
  env?: Record<string, string> | undefined;
  profile?: "strict" | "dev" | undefined;
  cpus?: number | undefined;
  memory_mb?: number | undefined;
  pids?: number | undefined;
  workspace_mb?: number | undefined;
  network?: "none" | "allowlist" | "open" | undefined;
  allow?: string[] | undefined;
  ttl_s?: number | undefined;
  idle_s?: number | undefined;
  request_id?: string | undefined;
  wait_s?: number | undefined;
}

export interface ListRequest {
  labels?: Record<string, string> | undefined;
  state?: "creating" | "running" | "paused" | "ended" | "failed" | undefined;
  here?: boolean | undefined;
  include_ended?: boolean | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

export interface UpdateRequest {
  ttl_s?: number | undefined;
  idle_s?: number | undefined;
  /** Merged; null deletes. */
  labels?: Record<string, string | null> | undefined;
  /** Merged; null deletes. */
  env?: Record<string, string | null> | undefined;
  cpus?: number | undefined;
  memory_mb?: number | undefined;
  pids?: number | undefined;
  paused?: boolean | undefined;
}

export interface ExecRequest {
  command?: string | undefined;
  argv?: string[] | undefined;
  cwd?: string | undefined;
  env?: Record<string, string> | undefined;
  stdin?: string | undefined;
  keep_stdin?: boolean | undefined;
  tty_rows?: number | undefined;
  tty_cols?: number | undefined;
  merge_stderr?: boolean | undefined;
  until?: "exit" | "output" | undefined;
  /** RE2: a line of output that matches ends the wait. */
  until_match?: string | undefined;
  wait_s?: number | undefined;
  timeout_s?: number | undefined;
  max_output_bytes?: number | undefined;
}

export interface ExecOutputRequest {
  stdout_offset?: number | undefined;
  stderr_offset?: number | undefined;
  /** Only the last so many lines of each stream. */
  tail_lines?: number | undefined;
  /** RE2: only lines that match, each with its neighbours. */
  match?: string | undefined;
  until?: "exit" | "output" | undefined;
  /** RE2: a line of output that matches ends the wait. */
  until_match?: string | undefined;
  wait_s?: number | undefined;
  max_output_bytes?: number | undefined;
}

export interface ExecInputRequest {
  data?: string | undefined;
  data_base64?: string | undefined;
  eof?: boolean | undefined;
  tty_rows?: number | undefined;
  tty_cols?: number | undefined;
}

export interface FileReadRequestView {
  path: string;
  line_start?: number | undefined;
  line_end?: number | undefined;
  offset?: number | undefined;
  max_bytes?: number | undefined;
  encoding?: "utf8" | "base64" | undefined;
  line_numbers?: boolean | undefined;
}

export interface FileWriteRequest {
  path: string;
  content: string;
  encoding?: "utf8" | "base64" | undefined;
  mode?: string | undefined;
  if_match?: string | undefined;
}

export interface FileListRequest {
  path?: string | undefined;
  depth?: number | undefined;
  glob?: string | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

export interface FileEditRequest {
  path: string;
  edits: { old_string: string; new_string: string; replace_all?: boolean | undefined }[];
  if_match?: string | undefined;
}

export interface FileSearchRequest {
  /** RE2. */
  pattern: string;
  path?: string | undefined;
  glob?: string | undefined;
  ignore_case?: boolean | undefined;
  context?: number | undefined;
  limit?: number | undefined;
}

export interface FileManageRequest {
  op: "mkdir" | "move" | "copy" | "delete";
  path: string;
  dest?: string | undefined;
  recursive?: boolean | undefined;
}

export interface FileTransferRequest {
  host_path: string;
  path: string;
  /** In gitignore syntax, as `exclude`. */
  include?: string[] | undefined;
  exclude?: string[] | undefined;
}

export interface EventsRequest {
  sandbox_id?: string | undefined;
  exec_id?: string | undefined;
  /** `start`, `now` or a cursor; absent: the newest. */
  after?: string | undefined;
  types?: string[] | undefined;
  limit?: number | undefined;
  wait_s?: number | undefined;
  format?: "compact" | "cloudevents" | undefined;
}

/** Use cases of the core: what tools and resources call. Every method rejects with a SandboxError and takes an id or a name. */
export interface Sandboxes {
  create(request: CreateRequest, call: Call): Promise<SandboxView>;
  list(request: ListRequest, call: Call): Promise<SandboxList>;
  get(sandbox: string, options: { wait_s?: number | undefined }, call: Call): Promise<SandboxView>;
  update(sandbox: string, request: UpdateRequest, call: Call): Promise<SandboxView>;
  destroy(sandbox: string, call: Call): Promise<Destroyed>;

  execRun(sandbox: string, request: ExecRequest, call: Call): Promise<ExecResult>;
  execOutput(sandbox: string, execId: string, request: ExecOutputRequest, call: Call): Promise<ExecResult>;
  execInput(
    sandbox: string,
    execId: string,
    request: ExecInputRequest,
    call: Call,
  ): Promise<{ accepted_bytes: number }>;
  execKill(
    sandbox: string,
    execId: string,
    request: { signal?: string | undefined; grace_s?: number | undefined },
    call: Call,
  ): Promise<ExecResult>;
  execList(sandbox: string, call: Call): Promise<{ execs: ExecRow[]; omitted?: number | undefined }>;

  fileRead(sandbox: string, request: FileReadRequestView, call: Call): Promise<FileReadResult>;
  fileWrite(sandbox: string, files: FileWriteRequest[], call: Call): Promise<FileWriteResult>;
  fileList(sandbox: string, request: FileListRequest, call: Call): Promise<FileListResult>;
  fileEdit(sandbox: string, request: FileEditRequest, call: Call): Promise<FileEditResult>;
  fileSearch(sandbox: string, request: FileSearchRequest, call: Call): Promise<FileSearchResult>;
  fileManage(sandbox: string, request: FileManageRequest, call: Call): Promise<FileManageResult>;
  fileUpload(sandbox: string, request: FileTransferRequest, call: Call): Promise<FileTransferResult>;
  fileDownload(sandbox: string, request: FileTransferRequest, call: Call): Promise<FileTransferResult>;

  stats(sandbox: string, call: Call): Promise<StatsView>;
  events(request: EventsRequest, call: Call): Promise<EventsResult>;

  /** The journal as it grows, for resource subscriptions: called soon after any process of the install appends. */
  onEvents(listener: (entries: JournalEntry[]) => void): () => void;
}
