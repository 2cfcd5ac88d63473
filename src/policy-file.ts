import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { policyProblems } from "./sandbox/policy/problems.ts";
import {
  contradictions,
  effectivePolicy,
  type Policy,
  policyFileSchema,
  type SeccompProfile,
} from "./sandbox/policy.ts";

const variable = "CHORUS_SANDBOX_POLICY";
/** Profiles of engines have some 15 KB; the engine gets it with every create. */
const mostProfileBytes = 256 * 1024;

/** The operator's file as a complete policy. What is wrong goes to `problems`, and the built-in policy stands in. */
export function readPolicy(file: string | undefined, cpus: number, problems: string[]): Policy {
  const builtIn = effectivePolicy({}, "built-in", cpus);
  if (file === undefined) return builtIn;
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    problems.push(`${variable}=${JSON.stringify(file)}: must be a readable JSON file (${reason(error)})`);
    return builtIn;
  }
  const bad = (problem: string): void => {
    problems.push(`${variable} (${file}) at ${problem}`);
  };
  const parsed = policyFileSchema.safeParse(json);
  if (!parsed.success) {
    for (const problem of policyProblems(policyFileSchema, json, parsed.error.issues)) bad(problem);
    return builtIn;
  }
  const asked = parsed.data.security?.seccomp;
  let seccomp: SeccompProfile | undefined;
  try {
    seccomp = asked === undefined ? undefined : readSeccomp(path.resolve(path.dirname(file), asked));
  } catch (error) {
    bad(`security.seccomp = ${JSON.stringify(asked)}: must be a readable seccomp profile in JSON (${reason(error)})`);
  }
  const policy = effectivePolicy(parsed.data, file, cpus, seccomp);
  for (const problem of contradictions(policy)) bad(problem);
  return policy;
}

const seccompProfile = z.looseObject({
  defaultAction: z.string().startsWith("SCMP_ACT_"),
  syscalls: z.array(z.looseObject({ action: z.string() })).optional(),
});

function readSeccomp(file: string): SeccompProfile {
  const text = readFileSync(file, "utf8");
  if (text.length > mostProfileBytes) throw new Error(`longer than ${mostProfileBytes} bytes`);
  const value: unknown = JSON.parse(text);
  const parsed = seccompProfile.safeParse(value);
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error).replaceAll("\n", " "));
  const json = JSON.stringify(value);
  return { file, sha256: createHash("sha256").update(json).digest("hex"), json };
}

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error));
