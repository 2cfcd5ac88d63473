import { MemoryEngine } from "../../src/sandbox/backends/memory/engine.ts";
import { MemoryBackend } from "../../src/sandbox/backends/memory/memory.ts";
import { backendContract } from "./backend-contract.ts";

backendContract("memory", async () => {
  const engine = new MemoryEngine();
  const backend = new MemoryBackend({ engine, installId: "one" });
  const otherInstall = new MemoryBackend({ engine, installId: "two" });
  return {
    backend,
    otherInstall,
    image: "chorus-sandbox/base",
    cleanup: async () => {
      await backend[Symbol.asyncDispose]();
      await otherInstall[Symbol.asyncDispose]();
    },
  };
});
