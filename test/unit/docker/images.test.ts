import { describe, expect, test } from "vitest";
import { guestArch, repoDigest } from "../../../src/sandbox/backends/docker/images.ts";
import { PullProgress } from "../../../src/sandbox/backends/docker/pull.ts";
import { firstFile, tar } from "../../../src/sandbox/backends/docker/tar.ts";
import { parseReference } from "../../../src/sandbox/image-reference.ts";

const digest = `sha256:${"a".repeat(64)}`;

describe("a reference", () => {
  test.each([
    ["alpine", "docker.io/library/alpine:latest"],
    ["alpine:3", "docker.io/library/alpine:3"],
    ["chorus-sandbox/base", "docker.io/chorus-sandbox/base:latest"],
    ["docker.io/alpine", "docker.io/library/alpine:latest"],
    ["localhost/x", "localhost/x:latest"],
    ["localhost:5000/x/y:t", "localhost:5000/x/y:t"],
    [`ghcr.io/o/n@${digest}`, `ghcr.io/o/n@${digest}`],
    [`ghcr.io/o/n:t@${digest}`, `ghcr.io/o/n:t@${digest}`],
  ])("%s is %s", (text, full) => {
    expect(parseReference(text).full).toBe(full);
    expect(parseReference(full).full).toBe(full);
  });

  test.each([
    "",
    "UPPER",
    "a b",
    "../x",
    "a//b",
    "x:",
    "x@sha256:12",
    "http://x/y",
    "x?y",
    "-x",
    "x/../y",
    "a:b:c",
    "x".repeat(600),
  ])("%j is refused", (text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});

test("an image's digest is the one of the registry that was asked", () => {
  const known = [`other.io/x@sha256:${"b".repeat(64)}`, `alpine@${digest}`, "<none>@<none>"];
  expect(repoDigest(parseReference("alpine:3"), known)).toBe(digest);
  expect(repoDigest(parseReference("third.io/x"), known)).toBeUndefined();
});

test("images of other machines are refused", () => {
  expect(guestArch({ Os: "linux", Architecture: "amd64" })).toBe("amd64");
  expect(guestArch({ Os: "linux", Architecture: "arm64" })).toBe("arm64");
  expect(() => guestArch({ Os: "linux", Architecture: "s390x" })).toThrow(/linux\/s390x/);
  expect(() => guestArch({ Os: "windows", Architecture: "amd64" })).toThrow(/windows/);
});

test("a pull is told in one line, at most four times a second", () => {
  let now = 0;
  const told: string[] = [];
  const progress = new PullProgress(
    "x:1",
    (line) => told.push(line),
    () => now,
  );
  progress.add({ id: "1", status: "Pulling from library/x" });
  for (; now < 1000; now += 10) {
    progress.add({ id: "a", status: "Downloading", progressDetail: { current: now * 1024, total: 2 * 1024 * 1024 } });
    progress.add({ id: "b", status: "Already exists" });
  }
  expect(told).toHaveLength(4);
  expect(told[3]).toMatch(/^Pulling x:1: 1 of 2 layers, 0\.7 of 2\.0 MiB$/);
});

test("an archive holds what was put in it", () => {
  const content = Buffer.from("x".repeat(513));
  const archive = tar([
    { name: "folder/", mode: 0o755 },
    { name: "folder/file", mode: 0o555, content },
  ]);
  expect(archive.length % 512).toBe(0);
  expect(firstFile(archive)).toEqual(content);
  expect(firstFile(tar([]))).toBeUndefined();
  expect(firstFile(Buffer.from("no archive"))).toBeUndefined();
});
