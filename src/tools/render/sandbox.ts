import type { Destroyed, SandboxList, SandboxView } from "../../sandbox/views.ts";
import { execRowsText } from "./exec.ts";
import { duration, known, lines, name, pairs, table, time, visible } from "./text.ts";

const inSeconds = (s: number): string => duration(s * 1000);

/** One sandbox as a card. */
export function sandboxText(sandbox: SandboxView): string {
  const title = [sandbox.sandbox_id, sandbox.name === undefined ? undefined : name(sandbox.name, 128), sandbox.state]
    .filter((part) => part !== undefined)
    .join(" · ");
  const { resources: r, network, ended } = sandbox;
  const allow = network.allow?.length ? ` (${network.allow.map((host) => name(host, 128)).join(", ")})` : "";
  return lines(
    title,
    table(
      [
        [
          "image",
          [name(sandbox.image, 512), sandbox.image_digest && visible(sandbox.image_digest, 80)]
            .filter(Boolean)
            .join(" "),
        ],
        ["limits", `${r.cpus} cpu · ${r.memory_mb} MiB memory · ${r.pids} processes · ${r.workspace_mb} MiB workspace`],
        ["network", network.mode === "none" ? "none, 127.0.0.1 only" : network.mode + allow],
        [
          "runs on",
          `${visible(sandbox.backend, 64)}/${visible(sandbox.runtime, 64)} · profile ${sandbox.profile}${sandbox.warm ? " · from the warm pool" : ""}`,
        ],
        ["workdir", name(sandbox.workdir)],
        ["shell", known(sandbox.shell, (shell) => name(shell))],
        ["programs", programs(sandbox.programs)],
        ["labels", pairs(sandbox.labels)],
        ["env", sandbox.env_keys.map((key) => name(key, 128)).join(" ")],
        ["lease", lease(sandbox)],
        [
          "made",
          `${time(sandbox.created_at)} by ${name(sandbox.origin.client, 128)} in ${name(sandbox.origin.folder, 512)}`,
        ],
        [
          "last",
          [time(sandbox.last_used_at), sandbox.last_command && name(sandbox.last_command, 256)]
            .filter(Boolean)
            .join(" "),
        ],
        ["execs", `${sandbox.running_execs} running`],
        ["events", `cursor ${visible(sandbox.event_cursor, 128)}`],
      ].filter(([, value]) => value !== "" && value !== "-"),
    ),
    ended && endedText(ended),
  );
}

const programs = (found: Record<string, string> | undefined): string =>
  Object.entries(found ?? {})
    .map(([program, version]) => `${name(program, 64)} ${visible(version, 32)}`)
    .join(", ");

function lease(sandbox: SandboxView): string {
  const parts = [
    sandbox.expires_in_s === null ? undefined : `ends in ${inSeconds(sandbox.expires_in_s)}`,
    sandbox.idle_in_s === null ? undefined : `after ${inSeconds(sandbox.idle_in_s)} unused`,
  ];
  return parts.filter((part) => part !== undefined).join(", ");
}

function endedText(ended: NonNullable<SandboxView["ended"]>): string {
  const why = [
    `ended ${time(ended.at)}: ${ended.reason}`,
    ended.message === undefined ? undefined : visible(ended.message, 500),
    typeof ended.exit_code === "number" ? `exit code ${ended.exit_code}` : undefined,
    ended.oom_killed ? "out of memory" : undefined,
  ];
  const execs = ended.last_execs.length > 0 && `last execs:\n${execRowsText(ended.last_execs)}`;
  return lines(why.filter((part) => part !== undefined).join(" · "), execs);
}

export function sandboxListText(list: SandboxList): string {
  const rows = list.sandboxes.map((row) => [
    row.sandbox_id,
    row.ended_reason === undefined ? row.state : `${row.state} (${row.ended_reason})`,
    known(row.expires_in_s, (s) => `${inSeconds(s)} left`),
    time(row.created_at),
    name(row.image, 128),
    [
      row.name === undefined ? undefined : name(row.name, 128),
      pairs(row.labels),
      row.last_command && `last: ${name(row.last_command, 80)}`,
    ]
      .filter((part) => part !== undefined && part !== "")
      .join(" · "),
  ]);
  return lines(rows.length === 0 ? "no sandboxes" : table(rows), next(list.next_cursor));
}

export const next = (cursor: string | undefined): string | undefined =>
  cursor === undefined ? undefined : `more: the same call with "cursor": ${JSON.stringify(cursor)}`;

export function destroyedText(result: Destroyed): string {
  if (result.destroyed) return `${result.sandbox_id} destroyed`;
  return `${result.sandbox_id} ${result.already_ended ? "had already ended" : "is being destroyed"}`;
}
