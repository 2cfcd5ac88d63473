import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";

const root = path.resolve(import.meta.dirname, "../../src");

const sources = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));

function imports(file: string): string[] {
  const text = readFileSync(path.join(root, file), "utf8");
  return [...text.matchAll(/(?:from\s+|import\s*\(\s*|import\s+)["'](\.{1,2}\/[^"']+)["']/g)].map((match) =>
    path.relative(root, path.resolve(root, path.dirname(file), match[1] ?? "")),
  );
}

/** The import table of ARCHITECTURE.md: first matching room, and what it may import besides its own files. */
const rooms: [room: RegExp, mayImport: RegExp][] = [
  [/^main\.ts$/, /^$/],
  [/^program\.ts$/, /./],
  [/^runtime\.ts$/, /./],
  [/^version\.ts$/, /^$/],
  [/^default-image\.ts$/, /^errors\.ts$/],
  [
    /^(config|policy-file|write-policy-schema)\.ts$/,
    /^(errors\.ts|policy-file\.ts|sandbox\/(policy|image-reference)\.ts|sandbox\/policy\/|events\/(login|server-url)\.ts$)/,
  ],
  [/^(errors|logger|closest)\.ts$/, /^$/],
  [/^server\//, /^(errors\.ts|logger\.ts|closest\.ts|server\/|tools\/|sandbox\/[^/]+\.ts$)/],
  [/^tools\//, /^(errors\.ts|logger\.ts|closest\.ts|tools\/|sandbox\/(api|views|events|policy)\.ts$)/],
  [/^events\//, /^(errors\.ts|logger\.ts|events\/|sandbox\/(cut|events|ids|wait)\.ts$|sandbox\/store\/types\.ts$)/],
  [
    /^sandbox\/backends\/docker\//,
    /^(errors\.ts|logger\.ts|sandbox\/(backend|ids|image-reference)\.ts$|sandbox\/backends\/docker\/)/,
  ],
  [/^sandbox\/backends\/memory\//, /^(errors\.ts|logger\.ts|sandbox\/(backend|ids)\.ts$|sandbox\/backends\/memory\/)/],
  [/^sandbox\/guest\//, /^(errors\.ts|logger\.ts|sandbox\/guest\/|sandbox\/wait\.ts$)/],
  [/^sandbox\/(edit|host)\//, /^(errors\.ts|sandbox\/(edit|host)\/)/],
  [/^sandbox\/policy\//, /^(errors\.ts|closest\.ts|sandbox\/image-reference\.ts|sandbox\/policy\/)/],
  [/^sandbox\/store\//, /^(errors\.ts|logger\.ts|sandbox\/(events|backend|ids|wait)\.ts$|sandbox\/store\/)/],
  [/^sandbox\/[^/]+\.ts$/, /^(errors\.ts|logger\.ts|sandbox\/(?!backends\/))/],
];

describe("the import table", () => {
  it("finds the sources", () => {
    expect(sources.length).toBeGreaterThan(40);
  });

  it.each(sources)("%s imports only what its room may", (file) => {
    const rule = rooms.find(([room]) => room.test(file));
    expect(rule, `${file} stands in no room of the table`).toBeDefined();
    const wrong = imports(file).filter((target) => !rule?.[1].test(target));
    expect(wrong).toEqual([]);
  });

  it("has no cycles", () => {
    const state = new Map<string, "open" | "done">();
    const cycles: string[] = [];
    const visit = (file: string, trail: string[]): void => {
      if (state.get(file) === "done") return;
      if (state.get(file) === "open") {
        cycles.push([...trail.slice(trail.indexOf(file)), file].join(" → "));
        return;
      }
      state.set(file, "open");
      for (const target of imports(file)) if (sources.includes(target)) visit(target, [...trail, file]);
      state.set(file, "done");
    };
    for (const file of sources) visit(file, []);
    expect(cycles).toEqual([]);
  });

  it("reads the environment in the composition root only", () => {
    const readers = sources.filter((file) =>
      /^(?!\s*(\/\/|\*)).*process\.env/m.test(readFileSync(path.join(root, file), "utf8")),
    );
    expect(readers.filter((file) => !/^(program|config)\.ts$/.test(file))).toEqual([]);
  });
});
