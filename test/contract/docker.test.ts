import { testBackend, testImage } from "../support/docker.ts";
import { backendContract } from "./backend-contract.ts";

const setUp = (direct: boolean) => async () => {
  const backend = testBackend({ direct });
  const otherInstall = testBackend({ direct });
  return {
    backend,
    otherInstall,
    image: testImage("busybox"),
    cleanup: async () => {
      await backend[Symbol.asyncDispose]();
      await otherInstall[Symbol.asyncDispose]();
    },
  };
};

backendContract("docker, past the engine where that is possible,", setUp(true));
backendContract("docker, through the engine,", setUp(false));
