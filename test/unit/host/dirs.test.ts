import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { type Access, type HostDir, openHostDir, reach } from "../../../src/sandbox/host-dirs.ts";

const dirs: HostDir[] = [
  { path: "/a", mode: "rw" },
  { path: "/a/closed", mode: "ro" },
  { path: "/a/closed/open", mode: "rw" },
  { path: "/data/", mode: "ro" },
];

describe("the open folder of a path", () => {
  it.each<[asked: string, access: Access, root: string, below: string[]]>([
    ["/a", "write", "/a", []],
    ["/a/", "write", "/a", []],
    ["/a/b/../c//d/.", "write", "/a", ["c", "d"]],
    ["/a/closed/x", "read", "/a/closed", ["x"]],
    ["/a/closed/open/x", "write", "/a/closed/open", ["x"]],
    ["/a/closedly", "write", "/a", ["closedly"]],
    ["/data", "read", "/data", []],
    ["/data/x", "read", "/data", ["x"]],
  ])("%s to %s: %s", (asked, access, root, below) => {
    expect(openHostDir(dirs, asked, access)).toMatchObject({ dir: { path: root }, below });
  });

  it.each<[asked: string, access: Access]>([
    ["/", "read"],
    ["/ab", "read"],
    ["/etc/passwd", "read"],
    ["/a/../etc", "read"],
    ["/a/closed/x", "write"],
    ["/a/closed", "write"],
    ["/data/x", "write"],
  ])("%s to %s: refused, and told what is open", (asked, access) => {
    expect(() => openHostDir(dirs, asked, access)).toThrow(
      expect.objectContaining({ code: "POLICY_DENIED", next: expect.stringContaining("/a/closed:ro") }),
    );
  });

  it("wants absolute paths", () => {
    for (const asked of ["a", "./a", "~/a", "/a\0b"])
      expect(() => openHostDir(dirs, asked, "read")).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  it("may be the whole host", () => {
    expect(openHostDir([{ path: "/", mode: "ro" }], "/etc/hosts", "read").below).toEqual(["etc", "hosts"]);
  });
});

describe("the way to a path", () => {
  function house() {
    const base = realpathSync(mkdtempSync(path.join(tmpdir(), "chorus-dirs-")));
    onTestFinished(() => rmSync(base, { recursive: true, force: true }));
    const root = path.join(base, "root");
    mkdirSync(path.join(root, "real/deep"), { recursive: true });
    mkdirSync(path.join(base, "outside"));
    writeFileSync(path.join(base, "outside/key"), "");
    writeFileSync(path.join(root, "real/file"), "");
    const open: HostDir[] = [{ path: root, mode: "rw" }];
    const kind = (below: string, access: Access = "read") => {
      const place = reach(open, path.join(root, below), access);
      place.close();
      return `${place.kind} ${place.name}`.trim();
    };
    return { base, root, kind };
  }

  it("follows links as long as they stay below", () => {
    const { root, kind } = house();
    symlinkSync("real", path.join(root, "relative"));
    symlinkSync(path.join(root, "real"), path.join(root, "absolute"));
    symlinkSync("../real/./deep/../file", path.join(root, "real/roundabout"));
    symlinkSync("not-there", path.join(root, "dangling"));
    expect(kind("real")).toBe("folder");
    expect(kind("relative/file")).toBe("file file");
    expect(kind("absolute/deep")).toBe("folder");
    expect(kind("relative/roundabout")).toBe("file file");
    expect(kind("dangling")).toBe("missing not-there");
    expect(kind("")).toBe("folder");
    expect(kind("made/on/the/way", "write")).toBe("missing way");
    expect(kind("made/on")).toBe("folder");
  });

  it.each([
    ["up and out", "../../outside"],
    ["out by an absolute name", "/etc"],
    ["to a sibling that begins alike", "../../root-not"],
    ["out behind a name", "deep/../../../outside"],
    ["in a circle", "leads"],
  ])("refuses links %s, whether or not something is there", (_what, target) => {
    const { root, kind } = house();
    symlinkSync(target, path.join(root, "real/leads"));
    for (const below of ["real/leads", "real/leads/key", "real/leads/none"])
      for (const access of ["read", "write"] as const)
        expect(() => kind(below, access)).toThrow(expect.objectContaining({ code: "POLICY_DENIED" }));
  });

  it("says what is missing or no folder", () => {
    const { kind } = house();
    expect(() => kind("none/below")).toThrow(expect.objectContaining({ code: "FILE_NOT_FOUND" }));
    expect(() => kind("real/file/below")).toThrow(expect.objectContaining({ code: "FILE_INVALID" }));
  });
});
