#!/usr/bin/env node
// @ts-check
/**
 * Sets everything up, then uses a server for long. Options go to bench/soak.mjs.
 *
 *   npm run soak [-- --execs 100000] [--creates 1000]
 */
import { cli } from "./lib/cli.mjs";
import { withServices } from "./lib/with-services.mjs";

await cli((args) => withServices("Soaking", "bench/soak.mjs", args));
