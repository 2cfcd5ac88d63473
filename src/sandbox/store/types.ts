import type { Profile, Resources } from "../backend.ts";
import type { EndedBy, EndReason, ExecStatus, JournalEntry, LimitKind, SandboxEvent, SandboxState } from "../events.ts";

/** A point on the boot clock of a host; comparable within one boot. */
export interface BootTime {
  boot_id: string;
  uptime_ms: number;
}

/** One sandbox as the store keeps it; live ones until they end, ended ones for 7 days. Values of its env are never in here. */
export interface SandboxRecord {
  sandbox_id: string;
  name?: string;
  tenant: string;
  engine_id: string;
  state: SandboxState;
  backend: string;
  runtime: string;
  /** Normalised reference. */
  image: string;
  image_id?: string;
  image_digest?: string;
  profile: Profile;
  resources: Resources;
  /** While the engine's answer to a change of limits is not known: the most memory it may have given. */
  growing_to_mb?: number;
  /** Where the operator's choices differ from the built-in confinement. */
  confined_by?: { capabilities?: string[]; seccomp?: string; apparmor?: string; selinux?: string[] };
  network: { mode: "none" };
  ttl_s: number;
  idle_s: number;
  uid: number;
  spec_hash: string;
  /** From the agent, for idempotent creates. */
  request_id?: string;
  /** Hash over everything that was asked for with request_id. */
  request_hash?: string;
  labels: Record<string, string>;
  env_keys: string[];
  origin: { client: string; folder: string };
  /** Of the call that created it. */
  traceparent?: string;
  warm: boolean;
  /** The word by which a warm sandbox was claimed from its guest. */
  claim?: string;
  /** Server process (process table) that is creating it; meaningful while `creating`. */
  creator: string;
  created_at: string;
  ready_at?: string;
  last_used_at: string;
  last_command?: string;
  /** When the guest's ttl ends, as the server reckons; the guest has the truth. By the wall clock, and by the boot clock, which no jump moves. */
  expires_at?: string;
  expires_boot?: BootTime;
  shell?: string;
  programs?: Record<string, string>;
  guest_version?: string;
  /** Highest fact of the guest that was ingested. 0: none. */
  fact_cursor: number;
  /** Last sequence given to an event of this sandbox. 0: none. */
  sequence: number;
  execs_total: number;
  /** Facts of changes that a server asked for: how many were told, and when the newest of files was. */
  changes?: { told: number; at?: string };
  /** What its guest told unasked: how many limits and pauses and notices of its lease's end, and the newest that others follow from. */
  told?: {
    count: number;
    notices?: number;
    /** Event ids: notices by lease. */
    ttl?: string;
    idle?: string;
    oom?: string;
    /** Names no exec, and no exec has ended by it yet. */
    unclaimed_oom?: string;
  };
  /** Someone asked for its end; a death after this is expected. */
  ending?: {
    reason: EndReason;
    at: string;
    client?: string;
    traceparent?: string;
    cpu_ms?: number | null;
    peak_memory_bytes?: number | null;
  };
  ended?: {
    at: string;
    reason: EndReason | "failed";
    message?: string;
    exit_code?: number | null;
    oom_killed: boolean;
    cpu_ms?: number | null;
    peak_memory_bytes?: number | null;
  };
}

/**
 * A warm sandbox that is nobody's yet: an intent while it is being made, then ready to become the sandbox of the same id. It is no
 * sandbox of anyone's: no list, no event and no limit counts it.
 */
export interface PoolMember {
  sandbox_id: string;
  tenant: string;
  engine_id: string;
  /** As of {@link SandboxRecord}; a quick first look before {@link key}. */
  spec_hash: string;
  /** Hash of all that must be equal for a member to serve a request. */
  key: string;
  uid: number;
  resources: Resources;
  ready: boolean;
  /** Server process that is making it; meaningful until it is ready. */
  creator: string;
  created_at: string;
  shell?: string;
  programs?: Record<string, string>;
}

/** One exec whose start was told; `completed` makes its end count once. */
export interface ExecRecord {
  exec_id: string;
  sandbox_id: string;
  /** Which one of its sandbox's that were told of, from 1: the order in which they are forgotten, where the guest's times count nothing. */
  ordinal?: number;
  /** Redacted, ≤ 256 characters. */
  command: string;
  cwd: string;
  tty: boolean;
  started_at: string;
  /** Event id of exec.started: `cause` of what follows from it. */
  started_event: string;
  /** Kinds of limits that were told of it. */
  limits?: LimitKind[];
  /** Event id of the limit that ended it: `cause` of its end. */
  limit_event?: string;
  traceparent?: string;
  completed?: {
    status: Exclude<ExecStatus, "running">;
    exit_code: number | null;
    signal?: string;
    ended_by: EndedBy;
    oom_kills: number;
    duration_ms: number | null;
    stdout_bytes: number | null;
    stderr_bytes: number | null;
    at: string;
  };
}

/** A live or dead server process of this install. */
export interface ProcessRecord {
  process_id: string;
  pid: number;
  /** Start time in clock ticks since boot, from /proc/<pid>/stat; tells a reused pid. */
  start_time: string;
  boot_id: string;
  started_at: string;
}

/** The store inside one write transaction. What is read sees what was written before in the same transaction. */
export interface Tx {
  sandbox(sandboxId: string): SandboxRecord | undefined;
  /** Live sandbox that holds this name in the tenant. */
  sandboxByName(tenant: string, name: string): SandboxRecord | undefined;
  sandboxByRequest(tenant: string, requestId: string): SandboxRecord | undefined;
  /** Live (creating, running, paused) sandboxes of the whole install. */
  liveSandboxes(): SandboxRecord[];
  /** Keeps the indexes (name, request, live) in step, and `sequence` as the journal counts it. Throws when a live sandbox of the tenant has the name already. */
  putSandbox(record: SandboxRecord): void;
  exec(sandboxId: string, execId: string): ExecRecord | undefined;
  /** Execs of a sandbox without `completed`. */
  openExecs(sandboxId: string): ExecRecord[];
  putExec(record: ExecRecord): void;
  /**
   * Notes that a change is told; false when it was noted before.
   * @param base how many were told when its id was made
   * @param forgetBelow those made when fewer were told need not be known any more
   */
  noteChange(sandboxId: string, changeId: string, base: number, forgetBelow: number): boolean;
  pool(): PoolMember[];
  poolMember(sandboxId: string): PoolMember | undefined;
  putPoolMember(member: PoolMember): void;
  removePoolMember(sandboxId: string): void;
  /**
   * Numbers the fact, completes its common data from the record as it stands in this transaction, and journals it.
   * Emit after putSandbox: `state` and `labels` in the event are those after it. `_host` stands for the host itself.
   */
  emit(sandboxId: string, event: SandboxEvent): JournalEntry;
}

/** State and journal of one install on this host, shared by its server processes. */
export interface Store extends AsyncDisposable {
  readonly installId: string;
  readonly processId: string;

  /**
   * One write transaction; `plan` is synchronous, sees a consistent store and either all it wrote commits or, when it throws,
   * nothing. Resolves once committed (visible to every process; survives SIGKILL of any). Throws LIMIT_EXCEEDED while the disk is full.
   * @param options.necessary ends or undoes something, or tells what cannot be undone: tried on a full disk as well. @default false
   */
  write<T>(plan: (tx: Tx) => T, options?: { necessary?: boolean }): Promise<T>;
  /** Resolves once everything committed so far survives a power cut. */
  flushed(): Promise<void>;
  /** Throws LIMIT_EXCEEDED while its disk is full: for what is done first and told afterwards. */
  requireRoom(): void;

  sandbox(sandboxId: string): SandboxRecord | undefined;
  sandboxByName(tenant: string, name: string): SandboxRecord | undefined;
  sandboxByRequest(tenant: string, requestId: string): SandboxRecord | undefined;
  liveSandboxes(): SandboxRecord[];
  /** Warm sandboxes of all engines, oldest first. */
  pool(): PoolMember[];
  poolMember(sandboxId: string): PoolMember | undefined;
  /** Newest first; ended ones as well when asked. `beforeKey` is the id of the last one already read. */
  sandboxes(options: { tenant: string; includeEnded: boolean; beforeKey?: string }): Iterable<SandboxRecord>;
  exec(sandboxId: string, execId: string): ExecRecord | undefined;
  /** Newest first. */
  execs(sandboxId: string, limit: number): ExecRecord[];
  openExecs(sandboxId: string): ExecRecord[];

  journal: Journal;
  processes: ProcessTable;
  roles: Roles;
  /** Removes ended sandboxes, their execs and dead processes older than `ended_days`, and keeps the journal in its bounds. */
  prune(): Promise<void>;
}

export interface JournalPage {
  entries: JournalEntry[];
  /** Up to here they are all there are. Less than an earlier read showed, where another process opens the store meanwhile (`CommitOrder`). */
  upTo: number;
}

export interface Journal {
  /** Cursor of the newest entry; 0 when empty. */
  newest(): number;
  /** Cursor of the oldest entry kept; newest()+1 when empty. */
  oldest(): number;
  /** Entries after a cursor, oldest first, of one sandbox or of all. */
  after(cursor: number, options: { limit: number; sandboxId?: string }): JournalEntry[];
  /** The same for who goes on behind them, and takes what is missing for dropped. */
  page(cursor: number, options: { limit: number; sandboxId?: string }): JournalPage;
  /** The newest `limit` entries, oldest first. */
  latest(options: { limit: number; sandboxId?: string }): JournalEntry[];
  /** Called soon (≈1 ms) after any process of the install commits journal entries. Returns the unsubscriber. */
  onAppend(listener: () => void): () => void;
  /**
   * Position of a relay, by NATS target: all entries up to `cursor` are acknowledged, 0 at first, and none beyond `sent_to` was sent;
   * without one that is not known, but where no relay ever was.
   */
  relayCursor(target: string): { cursor: number; sent_to?: number; at?: string };
  /**
   * Only forward. A relay also says with it that its target is configured, at its begin and now and then: what it has not
   * acknowledged is told when it is dropped. A target that is no longer spoken for is forgotten when ended sandboxes are.
   */
  setRelayCursor(target: string, cursor: number, sentTo?: number): Promise<void>;
}

export interface ProcessTable {
  /** Whether that process runs now, on this boot (pid and start time agree). */
  alive(processId: string): boolean;
  list(): ProcessRecord[];
}

/** Elected roles: at most one live process holds each. Taken over at once from a dead holder, after `staleMs` from a silent one. */
export interface Roles {
  /** Tries to take or renew the role. True while this process holds it. */
  hold(role: string, staleMs: number): Promise<boolean>;
  /** Never fails: what the store does not take now, as its disk is full, it is given in the background as soon as it does. */
  release(role: string): Promise<void>;
  holder(role: string): ProcessRecord | undefined;
}
