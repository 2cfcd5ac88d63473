import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { toolList } from "../../../src/server/tool-list.ts";
import type { JsonSchema } from "../../../src/tools/json-schema.ts";
import { tools } from "../../../src/tools/registry.ts";
import { FakeSandboxes } from "../../support/mcp-fake.ts";

const readOnly = [
  "sandbox_list",
  "sandbox_get",
  "sandbox_stats",
  "sandbox_events",
  "exec_output",
  "exec_list",
  "file_read",
  "file_list",
  "file_search",
];
const destructive = [
  "sandbox_destroy",
  "exec_run",
  "exec_kill",
  "file_write",
  "file_edit",
  "file_manage",
  "file_download",
];
const idempotent = ["sandbox_destroy", "sandbox_update", "file_write", ...readOnly];
const { tools: listed } = toolList(false);

describe("every tool", () => {
  it.each(listed)("$name is listed as clients need it", (tool) => {
    expect(tool.name).toMatch(/^(sandbox|exec|file)_[a-z]+$/);
    expect(tool.title).toBeTruthy();
    expect(tool.description?.length).toBeLessThan(1024);
    const root: object = tool.inputSchema;
    expect(tool.inputSchema.type).toBe("object");
    for (const word of ["oneOf", "anyOf", "allOf", "if", "$schema", "$ref"]) expect(root).not.toHaveProperty(word);
    expect(tool.inputSchema).toHaveProperty("additionalProperties", false);
    expect(JSON.stringify(tool)).not.toContain("propertyNames");
  });

  it.each(listed)("$name describes every argument, with bounds for numbers", (tool) => {
    const bad: string[] = [];
    const visit = (path: string, schema: JsonSchema): void => {
      for (const [key, property] of Object.entries(schema.properties ?? {})) {
        const here = `${path}.${key}`;
        if (!property.description) bad.push(`${here}: no description`);
        if (
          (property.type === "number" || property.type === "integer") &&
          (property.minimum === undefined || property.maximum === undefined)
        )
          bad.push(`${here}: no bounds`);
        if (property.default !== undefined && !property.description?.includes(`efault ${property.default}`))
          bad.push(`${here}: default not described`);
        visit(here, property);
        if (property.items) visit(`${here}[]`, property.items);
      }
    };
    visit(tool.name, tools.find((one) => one.name === tool.name)?.inputSchema ?? {});
    expect(bad).toEqual([]);
  });

  it.each(listed)("$name has the annotations of the contract", ({ name, annotations }) => {
    expect(annotations).toEqual({
      readOnlyHint: readOnly.includes(name),
      destructiveHint: destructive.includes(name),
      idempotentHint: idempotent.includes(name),
      openWorldHint: name === "sandbox_create",
    });
  });

  it("has exec_run reach the open world where the policy has a network", () => {
    expect(toolList(true).tools.find((tool) => tool.name === "exec_run")?.annotations?.openWorldHint).toBe(true);
  });

  it("is as small as promised, all tools together", () => {
    const bytes = listed.reduce(
      (sum, { name, description, inputSchema }) =>
        sum + Buffer.byteLength(JSON.stringify({ name, description, inputSchema })),
      0,
    );
    expect(bytes).toBeLessThanOrEqual(22_000);
  });

  it("is unique and sorted into families", () => {
    expect(new Set(listed.map((tool) => tool.name)).size).toBe(listed.length);
  });
});

describe("output schemas", () => {
  const ajv = new Ajv2020({ strict: true, allowUnionTypes: true });
  const minimal: Record<string, object> = {
    sandbox_list: {},
    sandbox_create: {},
    exec_run: { command: "true" },
    exec_output: { exec_id: "ex_1" },
    exec_input: { exec_id: "ex_1", data: "y\n" },
    exec_kill: { exec_id: "ex_1" },
    file_read: { path: "a" },
    file_write: { files: [{ path: "a", content: "b" }] },
    file_edit: { path: "a", edits: [{ old_string: "b", new_string: "c" }] },
    file_search: { pattern: "a" },
    file_manage: { op: "delete", path: "a" },
    file_upload: { host_path: "/data/a", path: "a" },
    file_download: { host_path: "/data/a", path: "a" },
    sandbox_events: {},
  };

  it.each(tools.map((tool) => [tool.name, tool] as const))("%s: what a call answers is valid", async (name, tool) => {
    const validate = ajv.compile(tool.outputSchema);
    const fake = new FakeSandboxes();
    const needsId = tool.inputSchema.required?.includes("sandbox_id");
    const call = { signal: new AbortController().signal, client: "t/1", folder: "/" };
    const args = { ...minimal[name], ...(needsId && { sandbox_id: "alpha" }) };
    const answer = await tool.run(args, call, () => fake);
    expect(validate(answer.structuredContent), JSON.stringify(validate.errors)).toBe(true);
    expect(answer.text).not.toBe("");
    expect(fake.asked).toHaveLength(1);
  });

  it("accept a field of tomorrow", () => {
    expect(JSON.stringify(tools.map((tool) => tool.outputSchema))).not.toContain('"additionalProperties":false');
  });
});
