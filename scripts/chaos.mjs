#!/usr/bin/env node
// @ts-check
/**
 * Sets everything up, then kills servers, guests, engine and nats-server under load for a while, and counts what came of it.
 *
 *   npm run chaos                              10 minutes, another seed each time
 *   npm run chaos -- --minutes 60 --seed 7     an hour; the same kills in the same order as with this seed before
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bootstrap } from "./bootstrap.mjs";
import { cli } from "./lib/cli.mjs";
import { SetupError } from "./lib/errors.mjs";
import { heading } from "./lib/log.mjs";
import { ROOT } from "./lib/repository.mjs";
import { run } from "./lib/run.mjs";

await cli(async (args) => {
  const { values } = parseArgs({
    args,
    options: { minutes: { type: "string", default: "10" }, seed: { type: "string" } },
  });
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new SetupError(`--minutes ${values.minutes} is no number of minutes`);
  if (values.seed !== undefined && !/^\d{1,9}$/.test(values.seed))
    throw new SetupError(`--seed ${values.seed} is no whole number of up to nine digits`);
  const { env } = await bootstrap();
  heading("Killing");
  const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
  const { code } = await run(process.execPath, [vitest, "run", "test/chaos"], {
    cwd: ROOT,
    env: {
      ...process.env,
      ...env,
      CHAOS_MINUTES: String(minutes),
      ...(values.seed !== undefined && { CHAOS_SEED: values.seed }),
    },
    timeoutMs: minutes * 60_000 + 20 * 60_000,
    output: "show",
    check: false,
  });
  return code === 0 ? 0 : 1;
});
