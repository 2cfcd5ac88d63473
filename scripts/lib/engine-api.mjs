// @ts-check
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { SetupError } from "./errors.mjs";

/**
 * The few calls that set-up needs of the Docker Engine API (which Podman speaks too). Going to the API itself means
 * that no `docker` program has to be installed.
 */

const PING_LIMIT_MS = 2_000;
const CALL_LIMIT_MS = 30_000;

/**
 * @typedef {object} ApiRequest
 * @property {Record<string, string | readonly string[]>} [query]
 * @property {unknown} [json] sent as JSON
 * @property {Readable | Buffer} [tar] sent as a tar archive
 * @property {number} [timeoutMs] for the whole call. Default 30 s.
 * @property {readonly number[]} [accept] statuses besides 2xx that are answers, not failures
 */

/** @typedef {{ status: number, text: string, json: () => any }} ApiAnswer */

export class EngineApi {
  #target;

  /** @param {string} host as in `DOCKER_HOST`: `unix://…`, `tcp://…`, `http(s)://…` */
  constructor(host) {
    this.host = host;
    this.#target = targetOf(host);
  }

  /**
   * Does an engine answer here, and soon?
   *
   * @param {number} [withinMs]
   */
  async ping(withinMs = PING_LIMIT_MS) {
    try {
      return (await this.call("GET", "/_ping", { timeoutMs: withinMs })).status === 200;
    } catch {
      return false;
    }
  }

  /**
   * @param {"GET" | "POST" | "DELETE"} method
   * @param {string} path
   * @param {ApiRequest} [request]
   * @returns {Promise<ApiAnswer>}
   */
  async call(method, path, { query = {}, json, tar, timeoutMs = CALL_LIMIT_MS, accept = [] } = {}) {
    const search = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) {
      for (const item of Array.isArray(value) ? value : [value]) search.append(key, item);
    }
    const what = `${method} ${path}`;
    const { status, text } = await this.#send(method, search.size > 0 ? `${path}?${search}` : path, {
      body: json === undefined ? tar : Buffer.from(JSON.stringify(json)),
      type: json === undefined ? "application/x-tar" : "application/json",
      timeoutMs,
    }).catch((cause) => {
      throw new SetupError(`the engine at ${this.host} did not answer ${what}: ${cause.message}`, { cause });
    });
    // Long jobs (pull, import, build) answer 200 first and tell of their failure in the stream that follows.
    const failure = status >= 300 && !accept.includes(status) ? text : lastStreamedError(text);
    if (failure) throw new SetupError(`the engine at ${this.host} refused ${what}: ${status} ${failure.trim()}`);
    return { status, text, json: () => JSON.parse(text) };
  }

  /** @param {string} reference */
  async image(reference) {
    const answer = await this.call("GET", `/images/${reference}/json`, { accept: [404] });
    return answer.status === 404 ? undefined : answer.json();
  }

  /**
   * @param {string} from
   * @param {string} to `name:tag`
   */
  async tag(from, to) {
    const [repo = to, tag = "latest"] = to.split(":");
    await this.call("POST", `/images/${from}/tag`, { query: { repo, tag } });
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {{ body: Readable | Buffer | undefined, type: string, timeoutMs: number }} options
   * @returns {Promise<{ status: number, text: string }>}
   */
  async #send(method, path, { body, type, timeoutMs }) {
    const signal = AbortSignal.timeout(timeoutMs);
    const request = this.#target.client.request({ ...this.#target.options, method, path, signal, agent: false });
    if (body) request.setHeader("content-type", type);
    /** @type {Promise<import("node:http").IncomingMessage>} */
    const answered = new Promise((resolve, reject) => request.once("response", resolve).once("error", reject));
    if (body instanceof Readable) pipeline(body, request).catch(() => {});
    else request.end(body);
    const response = await answered;
    let text = "";
    for await (const chunk of response.setEncoding("utf8")) text += chunk;
    return { status: response.statusCode ?? 0, text };
  }
}

/** @param {string} host */
function targetOf(host) {
  if (host.startsWith("unix://")) {
    return { client: http, options: { socketPath: host.slice("unix://".length), headers: { host: "engine" } } };
  }
  const url = URL.canParse(host) ? new URL(host) : undefined;
  if (!url || !["tcp:", "http:", "https:"].includes(url.protocol)) {
    throw new SetupError(`set-up cannot speak to the engine at ${host}`, {
      next: "set DOCKER_HOST to unix://PATH or tcp://HOST:PORT (an ssh engine: forward its socket with ssh -L)",
    });
  }
  const { DOCKER_TLS_VERIFY } = process.env;
  const secure = url.protocol === "https:" || Boolean(DOCKER_TLS_VERIFY);
  const address = { hostname: url.hostname, port: url.port || (secure ? 2376 : 2375) };
  return secure ? { client: https, options: { ...address, ...certificates() } } : { client: http, options: address };
}

function certificates() {
  const { DOCKER_CERT_PATH } = process.env;
  if (!DOCKER_CERT_PATH) return {};
  const read = (/** @type {string} */ name) => readFileSync(join(DOCKER_CERT_PATH, name));
  return { ca: read("ca.pem"), cert: read("cert.pem"), key: read("key.pem") };
}

/** @param {string} text */
function lastStreamedError(text) {
  if (!text.includes('"error"')) return undefined;
  for (const line of text.split("\n")) {
    try {
      const message = JSON.parse(line);
      if (typeof message?.error === "string") return message.error;
    } catch {
      // Not a line of a progress stream.
    }
  }
  return undefined;
}
