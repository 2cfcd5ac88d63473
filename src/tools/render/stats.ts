import type { StatsView } from "../../sandbox/views.ts";
import { bytes, duration, known, lines, notes, table, time } from "./text.ts";

const number = (value: number): string => String(Math.round(value * 100) / 100);
const of = (used: number | null, limit: number | null, show: (value: number) => string): string =>
  `${known(used, show)} of ${known(limit, show)}`;

export function statsText(stats: StatsView): string {
  const { cpu, memory, pids, workspace, network, io, execs } = stats;
  return lines(
    `sampled ${time(stats.sampled_at)} · up ${duration(stats.uptime_ms)}`,
    table([
      [
        "cpu",
        `${known(cpu.usage_pct, (pct) => `${number(pct)} %`)} now · ${known(cpu.usage_ms, duration)} used · throttled ${known(cpu.throttled_ms, duration)} · limit ${known(cpu.limit_cpus, number)} cpus`,
      ],
      [
        "memory",
        `${of(memory.used_bytes, memory.limit_bytes, bytes)} · peak ${known(memory.peak_bytes, bytes)} · OOM kills ${known(memory.oom_kills, number)}`,
      ],
      ["processes", of(pids.current, pids.limit, number)],
      ["workspace", of(workspace.used_bytes, workspace.limit_bytes, bytes)],
      ["network", `received ${known(network.rx_bytes, bytes)} · sent ${known(network.tx_bytes, bytes)}`],
      ["io", `read ${known(io.read_bytes, bytes)} · written ${known(io.write_bytes, bytes)}`],
      ["execs", `${execs.running} running · ${execs.total} in all`],
    ]),
    notes(stats.notes),
  );
}
