// @ts-check
/** What agents do all day, with every answer checked. */
import { must } from "../lib/measure.mjs";

/** @typedef {import("../lib/server.mjs").Server} Server */

/** The next of all kinds of commands, by its number. @param {Server} server @param {string} id @param {number} i */
export async function command(server, id, i) {
  if (i % 100 === 99) return background(server, id);
  if (i % 50 === 49) return file(server, id, i);
  if (i % 10 === 9) return output(server, id);
  const exec = await server.call("exec_run", { sandbox_id: id, command: `echo ${i}; exit ${i % 7}` });
  must(exec["stdout"] === `${i}\n` && exec["exit_code"] === i % 7, `command ${i}: ${JSON.stringify(exec)}`);
}

/** Started, looked at, ended. @param {Server} server @param {string} id */
async function background(server, id) {
  const exec = await server.call("exec_run", { sandbox_id: id, command: "echo up; sleep 600", until: "output" });
  must(exec["status"] === "running" && exec["stdout"] === "up\n", `a background command: ${JSON.stringify(exec)}`);
  const ended = await server.call("exec_kill", { sandbox_id: id, exec_id: exec["exec_id"], grace_s: 0.5 });
  must(ended["status"] === "killed", `it was killed: ${ended["status"]}`);
}

/** Written by a tool, read by a command. @param {Server} server @param {string} id @param {number} i */
async function file(server, id, i) {
  const content = `${i}\n`.repeat(100);
  const path = `file-${i % 8}-${Math.random()}`;
  await server.call("file_write", { sandbox_id: id, files: [{ path, content }] });
  const exec = await server.call("exec_run", { sandbox_id: id, command: `cat ${path}; rm ${path}` });
  must(exec["stdout"] === content, "what a command read is not what was written");
  await server.call("sandbox_stats", { sandbox_id: id });
}

/** More than an answer shows. @param {Server} server @param {string} id */
async function output(server, id) {
  const exec = await server.call("exec_run", { sandbox_id: id, command: "yes 0123456789 | head -n 20000" });
  must(exec["stdout_bytes"] === 220_000, `${exec["stdout_bytes"]} bytes of output`);
}
