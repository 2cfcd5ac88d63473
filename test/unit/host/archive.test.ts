import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { archiveFolder } from "../../../src/sandbox/host/archive.ts";
import { pathRules } from "../../../src/sandbox/host/ignore.ts";
import { Refusals } from "../../../src/sandbox/host/names.ts";

it("a walk that takes nothing lets its consumer stop in between", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "chorus-archive-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (let n = 0; n < 600; n++) writeFileSync(path.join(folder, String(n)), "");
  const fd = openSync(folder, constants.O_RDONLY);
  onTestFinished(() => closeSync(fd));
  const tally = { files: 0, bytes: 0, refusals: new Refusals() };
  const pieces: number[] = [];
  const selection = { include: pathRules(["*.nomatch"]), exclude: pathRules([]) };
  for await (const piece of archiveFolder(fd, selection, tally)) pieces.push(piece.length);
  expect(pieces).toEqual([0, 0, 1024]);
  expect(tally.files).toBe(0);
});
