import { testBackend, testImage } from "../support/docker.ts";
import { backendContract } from "./backend-contract.ts";

backendContract("docker", async () => {
  const backend = testBackend();
  const otherInstall = testBackend();
  return {
    backend,
    otherInstall,
    image: testImage("busybox"),
    cleanup: async () => {
      await backend[Symbol.asyncDispose]();
      await otherInstall[Symbol.asyncDispose]();
    },
  };
});
