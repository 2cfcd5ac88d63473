import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { SandboxError } from "../../../errors.ts";
import { askHelper, type Credentials } from "./credential-helper.ts";

/**
 * The user's Docker credentials, found as the Docker CLI finds them: `credHelpers` of the registry, then `credsStore`, then `auths`.
 * They go to the engine with the pull that needs them, and nowhere else: no log, no error and no event has them.
 */
const entry = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
type Entry = z.infer<typeof entry>;

const dockerConfig = z.object({
  auths: z.record(z.string(), entry).optional(),
  credsStore: z.string().optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
});

const mostConfigBytes = 1024 * 1024;
/** What the CLI files Docker Hub under. */
const hubKey = "https://index.docker.io/v1/";

export interface RegistryAuth {
  /** Value of the header `X-Registry-Auth`. */
  header: string;
  /** What must not be repeated to anyone. */
  secrets: string[];
}

/** What to send along with a pull from a registry; undefined when the user has no credentials for it. */
export async function registryAuth(
  configDir: string,
  domain: string,
  signal: AbortSignal | undefined,
): Promise<RegistryAuth | undefined> {
  const config = await readConfig(join(configDir, "config.json"));
  if (config === undefined) return undefined;
  const key = domain === "docker.io" ? hubKey : domain;
  // By own names only: agents choose the domain, and `toString` is one.
  const helpers = new Map(Object.entries(config.credHelpers ?? {}));
  const helper = helpers.get(key) ?? helpers.get(domain) ?? (config.credsStore || undefined);
  const found = helper === undefined ? undefined : await askHelper(helper, key, signal);
  const credentials = found ?? decoded(entryOf(config.auths ?? {}, key));
  return credentials && encoded(credentials, key);
}

async function readConfig(file: string): Promise<z.infer<typeof dockerConfig> | undefined> {
  const bytes = await readFile(file).catch(() => undefined);
  if (bytes === undefined) return undefined;
  try {
    if (bytes.length > mostConfigBytes) throw new Error("too long");
    return dockerConfig.parse(JSON.parse(bytes.toString("utf8")));
  } catch {
    // Without the cause: a parser quotes what it read.
    throw new SandboxError(
      "IMAGE_PULL_FAILED",
      `The Docker configuration ${JSON.stringify(file)} cannot be read as such.`,
      {
        next: "Mend or remove that file, then create the sandbox again.",
        retryable: false,
      },
    );
  }
}

/** The entry of a registry, which may be filed as host, as URL, or as URL with a path. */
function entryOf(auths: Record<string, Entry>, key: string): Entry | undefined {
  if (Object.hasOwn(auths, key)) return auths[key];
  const host = hostOf(key);
  return Object.entries(auths).find(([name]) => hostOf(name) === host)?.[1];
}

const hostOf = (name: string): string => name.replace(/^https?:\/\//, "").replace(/\/.*$/s, "");

function decoded(found: Entry | undefined): Credentials | undefined {
  if (found === undefined) return undefined;
  const { auth, ...rest } = found;
  const pair = auth ? Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "") : "";
  const colon = pair.indexOf(":");
  const login = colon > 0 ? { username: pair.slice(0, colon), password: pair.slice(colon + 1) } : {};
  const all = { ...rest, ...login };
  return Object.values(all).some(Boolean) ? all : undefined;
}

function encoded(
  { username, password, identitytoken, registrytoken }: Credentials,
  serveraddress: string,
): RegistryAuth {
  // With a token the engine must not see a password beside it.
  const login = identitytoken
    ? { username, identitytoken }
    : registrytoken
      ? { registrytoken }
      : { username, password };
  const json = JSON.stringify({ ...login, serveraddress });
  const header = Buffer.from(json).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
  return {
    header,
    secrets: [password, identitytoken, registrytoken].flatMap((secret) => (secret ? [secret] : [])),
  };
}
