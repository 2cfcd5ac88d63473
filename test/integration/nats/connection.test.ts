import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAccount, createOperator, createUser, type KeyPair } from "@nats-io/nkeys";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { startNats } from "../../../scripts/lib/nats.mjs";
import { type NatsLink, openLink } from "../../../src/events/connection.ts";
import { type NatsLogin, relayTarget } from "../../../src/events/login.ts";
import { eventually } from "../../support/eventually.ts";
import { again, crash, type NatsServer, recordingLogger } from "../../support/nats.ts";

let folder: string;
const open: AsyncDisposable[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "chorus-nats-login-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(async () => {
  for (const resource of open.splice(0).reverse()) await resource[Symbol.asyncDispose]();
});

const serve = async (config: string): Promise<NatsServer> => {
  const server = await startNats({ jetstream: false, config });
  open.push(server);
  return server;
};

function link(login: NatsLogin): { link: NatsLink; log: ReturnType<typeof recordingLogger> } {
  const log = recordingLogger();
  const opened = openLink({ login, name: "chorus-sandbox test", logger: log.logger });
  open.push(opened);
  return { link: opened, log };
}

const connects = (login: NatsLogin) => {
  const { link: opened } = link(login);
  return eventually("it connects", () => opened.status().connected, 10_000).catch((error) => {
    throw new Error(opened.status().error, { cause: error });
  });
};

const file = (name: string, content: string): string => {
  writeFileSync(join(folder, name), content, { mode: 0o600 });
  return join(folder, name);
};

it("logs in with user and password, also from the URL", async () => {
  const { url } = await serve(`authorization { user: "u", password: "p@ss" }`);
  await connects({ servers: [url], user: "u", password: "p@ss" });
  await connects({ servers: [url.replace("nats://", "nats://u:p%40ss@")] });
});

it("logs in with an nkey seed", async () => {
  const user = createUser();
  const { url } = await serve(`authorization { users = [ { nkey: ${user.getPublicKey()} } ] }`);
  const seed = file("seed.nk", `${Buffer.from(user.getSeed()).toString()}\n`);
  await connects({ servers: [url], nkeySeedFile: seed });
});

it("logs in with a credentials file", async () => {
  const [operator, account, user] = [createOperator(), createAccount(), createUser()];
  const sys = createAccount();
  const accountJwt = jwt(account, operator, { type: "account", limits: unlimited });
  const sysJwt = jwt(sys, operator, { type: "account", limits: unlimited });
  const { url } = await serve(`
    operator: ${jwt(operator, operator, { type: "operator" })}
    system_account: ${sys.getPublicKey()}
    resolver: MEMORY
    resolver_preload: { ${account.getPublicKey()}: ${accountJwt}, ${sys.getPublicKey()}: ${sysJwt} }`);
  const seed = Buffer.from(user.getSeed()).toString();
  const creds = file(
    "user.creds",
    `-----BEGIN NATS USER JWT-----\n${jwt(user, account, { type: "user", subs: -1, data: -1, payload: -1 })}\n` +
      `------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`,
  );
  await connects({ servers: [url], creds });
});

it("logs in over TLS with certificates of both sides", async () => {
  const run = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  const request = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-x509"];
  run("req", ...request, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca");
  for (const [name, address] of Object.entries({ server: "127.0.0.1", client: "127.0.0.1", other: "127.0.0.2" })) {
    const issued = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", `subjectAltName=IP:${address}`];
    const leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-subj", `/CN=${name}`];
    run("req", ...request, ...issued, ...leaf, "-keyout", `${name}.key`, "-out", `${name}.pem`);
  }
  const at = (name: string) => join(folder, name);
  const { url } = await serve(
    `tls { cert_file: "${at("server.pem")}", key_file: "${at("server.key")}", ca_file: "${at("ca.pem")}", verify: true }`,
  );
  await connects({ servers: [url], tls: { ca: at("ca.pem"), cert: at("client.pem"), key: at("client.key") } });

  const strangers: NatsLogin["tls"][] = [
    { ca: at("server.pem"), cert: at("client.pem"), key: at("client.key") },
    { ca: at("ca.pem") },
  ];
  for (const tls of strangers) {
    const { link: stranger, log } = link({ servers: [url], ...(tls && { tls }) });
    await eventually("the failure is told", () => log.said(/cannot connect to NATS/).length > 0);
    expect(stranger.status().connected).toBe(false);
  }
  const elsewhere = await serve(
    `tls { cert_file: "${at("other.pem")}", key_file: "${at("other.key")}", ca_file: "${at("ca.pem")}" }`,
  );
  const { link: misled, log } = link({ servers: [elsewhere.url], tls: { ca: at("ca.pem") } });
  await eventually("the wrong address is told", () => log.said(/cannot connect to NATS: .*127\.0\.0\.1/).length > 0);
  expect(misled.status().connected).toBe(false);
});

it("keeps trying with a refused login, says so once, and is in as soon as it is right", async () => {
  const server = await startNats({ jetstream: false, config: `authorization { user: "u", password: "other" }` });
  const { link: opened, log } = link({ servers: [server.url], user: "u", password: "secret-word" });
  await eventually("it was refused often", () => (server.log().match(/authentication error/g) ?? []).length >= 3);
  expect(log.said(/cannot connect to NATS: .*Authorization Violation/)).toHaveLength(1);
  expect(opened.status().error).toContain("Authorization Violation");

  await crash(server);
  open.push(await again(server, { jetstream: false, config: `authorization { user: "u", password: "secret-word" }` }));

  await eventually("it is in", () => opened.status().connected);
  expect(log.lines.map((line) => JSON.stringify(line)).join("\n")).not.toContain("secret-word");
});

it("comes back after every loss, refused logins included, and tells each change once", async () => {
  const config = `authorization { user: "u", password: "p" }`;
  let server = await startNats({ jetstream: false, config });
  const { link: opened, log } = link({ servers: [server.url], user: "u", password: "p" });
  const first = await opened.up(new AbortController().signal);
  await crash(server);
  await eventually("the loss is noticed", () => first?.down.aborted);

  server = await again(server, { jetstream: false, config: `authorization { user: "u", password: "other" }` });
  await eventually("it was refused often", () => (server.log().match(/authentication error/g) ?? []).length >= 3);
  await crash(server);
  open.push(await again(server, { jetstream: false, config }));

  await eventually("it is back", () => opened.status().connected);
  expect(log.said(/^disconnected from NATS/)).toHaveLength(1);
  expect(log.said(/Authorization Violation/)).toHaveLength(1);
  expect(log.said(/^connected to NATS/)).toHaveLength(2);
});

it("leaves one socket at most behind with a server that accepts and stays silent", async () => {
  const sockets = new Set<unknown>();
  const silent = createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket)).on("error", () => {});
  });
  let attempts = 0;
  silent.on("connection", () => {
    attempts += 1;
  });
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const address = silent.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const { link: opened, log } = link({ servers: [`127.0.0.1:${address.port}`] });

  await eventually("it tried again", () => attempts >= 3, 30_000);

  expect(sockets.size).toBeLessThanOrEqual(2);
  expect(log.said(/cannot connect/)).toHaveLength(1);
  await opened[Symbol.asyncDispose]();
  silent.close();
});

it("ends at once, connected or not", async () => {
  const { url } = await serve("");
  const { link: connected } = link({ servers: [url] });
  await connected.up(new AbortController().signal);
  const { link: hopeless } = link({ servers: ["127.0.0.1:1"] });
  const waiting = hopeless.up(new AbortController().signal);
  const began = performance.now();
  await Promise.all([connected[Symbol.asyncDispose](), hopeless[Symbol.asyncDispose]()]);
  expect(await waiting).toBeUndefined();
  expect(performance.now() - began).toBeLessThan(1_500);
});

it("names a target by servers and account, whatever the order, the scheme and the secret", () => {
  const target = relayTarget({ servers: ["nats://b:4222", "a"], user: "u", password: "one" });
  expect(target).toMatch(/^[0-9a-f]{16}$/);
  expect(relayTarget({ servers: ["a:4222", "tls://u:x@b"], user: "u", password: "two" })).toBe(target);
  expect(relayTarget({ servers: ["a", "b"], user: "v", password: "one" })).not.toBe(target);
  expect(relayTarget({ servers: ["a", "c"], user: "u", password: "one" })).not.toBe(target);
});

const unlimited = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };

/** A JWT as nsc would write it. */
function jwt(subject: KeyPair, issuer: KeyPair, nats: Record<string, unknown>): string {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const [iss, sub] = [issuer.getPublicKey(), subject.getPublicKey()];
  const claims = { jti: sub, iat: Math.floor(Date.now() / 1_000), iss, sub, name: sub, nats: { version: 2, ...nats } };
  const body = `${encode({ typ: "JWT", alg: "ed25519-nkey" })}.${encode(claims)}`;
  return `${body}.${Buffer.from(issuer.sign(Buffer.from(body))).toString("base64url")}`;
}
