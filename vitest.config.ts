import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Real engines and processes: generous ceilings, since no test waits on time itself.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Two forks: the engine is the bottleneck, and the machine of CI has two cores.
    pool: "forks",
    maxWorkers: 2,
    restoreMocks: true,
  },
});
