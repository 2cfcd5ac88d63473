#!/usr/bin/env node
// @ts-check
/**
 * The server as few files: reading and linking two hundred modules is most of what a client waits for at start. What only the first
 * call loads (store, engine, NATS) stays in chunks of its own; packages with native parts or workers stay outside.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "rolldown";
import { ROOT } from "./lib/repository.mjs";

const dist = join(ROOT, "dist");
rmSync(join(dist, "chunks"), { recursive: true, force: true });
await build({
  input: join(ROOT, "src/main.ts"),
  platform: "node",
  external: ["lmdb", "dockerode", "pino", "@nats-io/transport-node", "@nats-io/jetstream"],
  logLevel: "warn",
  output: {
    dir: dist,
    format: "esm",
    sourcemap: true,
    entryFileNames: "main.js",
    chunkFileNames: "chunks/[name]-[hash].js",
  },
});
