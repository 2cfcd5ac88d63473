// A server process of its own around the store as it is built in dist/, driven by its parent's messages.
import { execFileSync } from "node:child_process";
import { pathToFileURL } from "node:url";

const [built, options] = process.argv.slice(2);
const { openStore } = await import(pathToFileURL(built).href);
const store = await openStore(JSON.parse(options));

let letGo = false;

const started = (execId, command = "true") => ({
  type: "exec.started",
  data: { exec_id: execId, command, cwd: "/", tty: false },
  actor: { kind: "system" },
});

const plain = (error) => ({ code: error.code, message: error.message, next: error.next, retryable: error.retryable });

const ops = {
  open: () => ({ installId: store.installId, processId: store.processId }),
  put: ({ record }) => store.write((tx) => tx.putSandbox(record)).then(() => true, plain),
  emit: ({ sandbox, exec, command, necessary = false }) =>
    store.write((tx) => tx.emit(sandbox, started(exec, command)).cursor, { necessary }).catch(plain),
  burst: async ({ sandbox, plans, events }) => {
    const plan = (tx) => {
      for (let i = 0; i < events; i++) tx.emit(sandbox, started(`ex_${i}`, "x".repeat(200)));
    };
    const results = await Promise.allSettled(Array.from({ length: plans }, () => store.write(plan)));
    const kept = results.filter(({ status }) => status === "fulfilled").length;
    return { kept, refused: plans - kept };
  },
  hold: ({ role, staleMs }) => store.roles.hold(role, staleMs),
  newest: () => store.journal.newest(),
  flushed: () => store.flushed().then(() => true),
  dispose: () => store[Symbol.asyncDispose]().then(() => true),
  /** Counts and tells, in one transaction, in as many loops at once as asked, until it is killed. Notes what was committed. */
  flood: ({ sandboxes, loops, name }) => {
    let made = 0;
    const loop = async () => {
      for (;;) {
        const exec = `${name}-${made++}`;
        const sandbox = sandboxes[made % sandboxes.length];
        const entry = await store.write((tx) => {
          const record = tx.sandbox(sandbox);
          tx.putSandbox({ ...record, execs_total: record.execs_total + 1 });
          return tx.emit(sandbox, started(exec));
        });
        process.send({ note: { exec, id: entry.id, cursor: entry.cursor, sequence: entry.sequence } });
      }
    };
    for (let i = 0; i < loops; i++) void loop();
    return true;
  },
  /** Stops itself with the write lock in hand. */
  seize: ({ record }) =>
    store.write((tx) => {
      tx.putSandbox(record);
      process.kill(process.pid, "SIGSTOP");
      // The signal arrives a moment later; nothing is committed before.
      for (const until = Date.now() + 1000; Date.now() < until; );
    }),
  /** Gives up the channel to the parent, the only thing here that may keep the process running. */
  let_go: () => {
    letGo = true;
    setImmediate(() => process.disconnect());
    return true;
  },
  grow_disk: ({ dataDir, size }) => execFileSync("mount", ["-o", `remount,size=${size}`, dataDir]).length,
  listen: () => {
    store.journal.onAppend(() => {
      const at = String(process.hrtime.bigint());
      process.send({ note: { at, newest: store.journal.newest() } });
    });
    return true;
  },
};

process.once("disconnect", () => {
  if (!letGo) process.exit(0);
});
process.on("message", async ({ id, op, args }) => {
  try {
    process.send({ id, value: await ops[op](args) });
  } catch (error) {
    process.send({ id, error: String(error?.stack ?? error) });
  }
});
