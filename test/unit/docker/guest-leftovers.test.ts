import { expect, onTestFinished, test } from "vitest";
import { EngineClient } from "../../../src/sandbox/backends/docker/client.ts";
import { removeGuestLeftovers } from "../../../src/sandbox/backends/docker/guest-leftovers.ts";
import { fakeEngine } from "../../support/docker-fake-engine.ts";

const now = Date.parse("2026-11-22T12:00:00Z");
const current = ["chorus-guest-newnewnewnew-amd64"];
const secondsAgo = (seconds: number) => now / 1000 - seconds;

interface Left {
  fillers?: { Id: string; Created?: number }[];
  volumes?: string[];
  inUse?: string[];
  refuse?: string;
}

/** What a round asks of the engine and removes, when this is what is left there. */
async function round({ fillers = [], volumes = [], inUse = [], refuse }: Left) {
  const removed: string[] = [];
  const filters: unknown[] = [];
  const fake = await fakeEngine((request, response) => {
    const url = new URL(request.url ?? "/", "http://engine");
    const at = url.pathname.replace(/^\/v[\d.]+/, "");
    const asked = JSON.parse(url.searchParams.get("filters") ?? "{}") as { label?: string[]; dangling?: string[] };
    if (request.method === "DELETE") {
      removed.push(at);
      response.statusCode = at === refuse ? 409 : 204;
      response.end();
      return;
    }
    if (asked.label) filters.push(asked.label);
    if (at === "/info") response.end(JSON.stringify({ SystemTime: new Date(now).toISOString() }));
    else if (at === "/containers/json") response.end(JSON.stringify(fillers));
    else {
      const names = asked.dangling ? volumes.filter((name) => !inUse.includes(name)) : volumes;
      response.end(JSON.stringify({ Volumes: names.map((Name) => ({ Name })) }));
    }
  });
  onTestFinished(() => fake.stop());
  const engine = new EngineClient({ host: fake.host, home: "/", uid: 0 });
  const count = await removeGuestLeftovers(engine, { installId: "mine", current, signal: undefined });
  return { count, removed, filters };
}

test("only what carries this install's label is asked for", async () => {
  const { filters } = await round({});
  expect(filters).toHaveLength(3);
  for (const labels of filters) expect(labels).toContain("dev.chorus.sandbox.install=mine");
});

test("the mark goes before its volume, and what is current or in use stays", async () => {
  const old = "chorus-guest-oldoldoldold-amd64";
  const used = "chorus-guest-usedusedused-amd64";
  const volumes = [old, `${old}-complete`, used, `${used}-complete`, ...current, `${current[0]}-complete`];
  expect(await round({ volumes, inUse: [used] })).toMatchObject({
    count: 2,
    removed: [`/volumes/${old}-complete`, `/volumes/${old}`],
  });
});

test("of an architecture whose current version is unknown nothing is removed", async () => {
  expect((await round({ volumes: ["chorus-guest-oldoldoldold-arm64"] })).removed).toEqual([]);
});

test("a volume that came into use meanwhile is passed over", async () => {
  const volumes = ["chorus-guest-aaaaaaaaaaaa-amd64", "chorus-guest-bbbbbbbbbbbb-amd64"];
  expect(await round({ volumes, refuse: `/volumes/${volumes[0]}` })).toMatchObject({
    count: 1,
    removed: volumes.map((name) => `/volumes/${name}`),
  });
});

test("what filled a volume goes once its server must be dead", async () => {
  const fillers = [{ Id: "dead", Created: secondsAgo(61) }, { Id: "works", Created: secondsAgo(5) }, { Id: "unknown" }];
  expect((await round({ fillers })).removed).toEqual(["/containers/dead"]);
});

test("a round is bounded", async () => {
  const volumes = Array.from({ length: 60 }, (_, n) => `chorus-guest-${String(n).padStart(12, "0")}-amd64`);
  const { count, removed } = await round({ volumes });
  expect(removed).toHaveLength(count);
  expect(count).toBeLessThan(25);
});
