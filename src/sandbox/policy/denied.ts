import { SandboxError } from "../../errors.ts";

/** A refusal by the operator's policy, with what `policy.denied` tells of it. */
export class PolicyDenied extends SandboxError {
  readonly what: string;
  readonly requested: unknown;
  readonly allowed: unknown;
  readonly rule: string;

  constructor(rule: string, what: string, requested: unknown, allowed: unknown, message: string, next?: string) {
    super("POLICY_DENIED", `${message} (rule ${rule})`, next === undefined ? {} : { next });
    this.rule = rule;
    this.what = what;
    this.requested = requested;
    this.allowed = allowed;
  }
}

/** How the operator changes a rule. */
export const operator = (policy: { source: string }, change: string): string =>
  `ask the operator to ${change} in the policy file ${policy.source === "built-in" ? "(CHORUS_SANDBOX_POLICY names one)" : JSON.stringify(policy.source)}`;
