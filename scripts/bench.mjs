#!/usr/bin/env node
// @ts-check
/**
 * Sets everything up, then measures. Options go to bench/main.mjs.
 *
 *   npm run bench [-- --only exec,files] [--quick] [--write]
 */
import { cli } from "./lib/cli.mjs";
import { withServices } from "./lib/with-services.mjs";

await cli((args) => withServices("Measuring", "bench/main.mjs", args));
