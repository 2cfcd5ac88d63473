// How the examples connect, as the server does: NATS_URL with several servers and a login, NATS_USER and NATS_PASSWORD, NATS_CREDS.
import { readFileSync } from "node:fs";
import { connect, credsAuthenticator, usernamePasswordAuthenticator } from "@nats-io/transport-node";

const { NATS_URL = "127.0.0.1:4222", NATS_CREDS, NATS_USER, NATS_PASSWORD } = process.env;

export function connectNats() {
  const texts = NATS_URL.split(",").map((text) => text.trim());
  const urls = texts.filter(Boolean).map((text) => new URL(text.includes("://") ? text : `nats://${text}`));
  const authenticator = login(urls[0]);
  return connect({
    servers: urls.map(({ host }) => host),
    maxReconnectAttempts: -1,
    ...(authenticator && { authenticator }),
    ...(urls.some(({ protocol }) => protocol === "tls:") && { tls: {} }),
  });
}

function login(url) {
  // Read at every connect: credentials are renewed while a consumer runs.
  if (NATS_CREDS) return credsAuthenticator(() => readFileSync(NATS_CREDS));
  if (NATS_USER) return usernamePasswordAuthenticator(NATS_USER, NATS_PASSWORD);
  // The client itself does not look at what stands before the @.
  if (url?.username) return usernamePasswordAuthenticator(...[url.username, url.password].map(decodeURIComponent));
  return undefined;
}
