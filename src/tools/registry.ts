import type { Tool } from "./define-tool.ts";
import { writeExecInput } from "./exec-input.ts";
import { killExec } from "./exec-kill.ts";
import { listExecs } from "./exec-list.ts";
import { readExecOutput } from "./exec-output.ts";
import { runExec } from "./exec-run.ts";
import { downloadFiles } from "./file-download.ts";
import { editFile } from "./file-edit.ts";
import { listFiles } from "./file-list.ts";
import { manageFiles } from "./file-manage.ts";
import { readFile } from "./file-read.ts";
import { searchFiles } from "./file-search.ts";
import { uploadFiles } from "./file-upload.ts";
import { writeFiles } from "./file-write.ts";
import { createSandbox } from "./sandbox-create.ts";
import { destroySandbox } from "./sandbox-destroy.ts";
import { sandboxEvents } from "./sandbox-events.ts";
import { getSandbox } from "./sandbox-get.ts";
import { listSandboxes } from "./sandbox-list.ts";
import { sandboxStats } from "./sandbox-stats.ts";
import { updateSandbox } from "./sandbox-update.ts";

/** Every tool, in the order clients show them. */
export const tools: readonly Tool[] = [
  createSandbox,
  listSandboxes,
  getSandbox,
  updateSandbox,
  destroySandbox,
  runExec,
  readExecOutput,
  writeExecInput,
  killExec,
  listExecs,
  readFile,
  writeFiles,
  editFile,
  listFiles,
  searchFiles,
  manageFiles,
  uploadFiles,
  downloadFiles,
  sandboxStats,
  sandboxEvents,
];

export const toolsByName: ReadonlyMap<string, Tool> = new Map(tools.map((tool) => [tool.name, tool]));
