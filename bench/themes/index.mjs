// @ts-check
import { create } from "./create.mjs";
import { density } from "./density.mjs";
import { events } from "./events.mjs";
import { exec } from "./exec.mjs";
import { files } from "./files.mjs";
import { journal } from "./journal.mjs";
import { mcp } from "./mcp.mjs";
import { output } from "./output.mjs";
import { transfers } from "./transfers.mjs";

/** In the order they run. */
export const themes = [mcp, exec, files, create, output, transfers, events, journal, density];
