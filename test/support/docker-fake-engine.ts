import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";

export interface FakeEngine {
  /** As DOCKER_HOST would name it. */
  host: string;
  port: number;
  stop(): Promise<void>;
}

/** An engine that knows its version and else answers as told: what a real one does only at the worst of moments. */
export async function fakeEngine(answer: RequestListener, port = 0): Promise<FakeEngine> {
  const server = createServer((request, response) => {
    if (request.url === "/version") response.end(JSON.stringify({ Version: "20.10.24", ApiVersion: "1.41" }));
    else answer(request, response);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const address = server.address() as AddressInfo;
  return {
    host: `tcp://127.0.0.1:${address.port}`,
    port: address.port,
    async stop() {
      if (!server.listening) return;
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
