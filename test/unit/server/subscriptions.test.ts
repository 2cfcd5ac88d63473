import { expect, it } from "vitest";
import { Subscriptions } from "../../../src/server/subscriptions.ts";
import { FakeSandboxes } from "../../support/mcp-fake.ts";

const resolve = async (name: string) => (name === "alpha" ? "sb_1" : name);

function watching() {
  const told: string[] = [];
  const fake = new FakeSandboxes();
  const gate: { hold: Promise<void> | undefined } = { hold: undefined };
  const subscriptions = new Subscriptions({
    updated: async (uri) => {
      told.push(uri);
      await gate.hold;
    },
    listChanged: async () => void told.push("list"),
  });
  const settled = () => new Promise((done) => setImmediate(done));
  return { told, fake, subscriptions, gate, settled };
}

it("follows the journal only while something is watched", async () => {
  const { fake, subscriptions } = watching();
  expect(fake.listeners.size).toBe(0);
  await subscriptions.add("a", { uris: ["sandbox://sb_1"] }, fake, resolve);
  await subscriptions.add("b", { uris: ["sandbox-events://latest"] }, fake, resolve);
  expect(fake.listeners.size).toBe(1);
  subscriptions.remove("a");
  expect(fake.listeners.size).toBe(1);
  subscriptions.remove("b");
  expect(fake.listeners.size).toBe(0);
});

it("tells of each event under the URIs that were asked, names included", async () => {
  const { told, fake, subscriptions, settled } = watching();
  await subscriptions.add(1, { uris: ["sandbox://alpha", "sandbox-events://latest", "file:///etc"] }, fake, resolve);
  fake.emit("sb_1");
  await settled();
  expect(told).toEqual(["sandbox://alpha", "sandbox-events://latest"]);
  fake.emit("sb_2");
  await settled();
  expect(told.slice(2)).toEqual(["sandbox-events://latest"]);
});

it("tells of the list only who asked, and only when it changed", async () => {
  const { told, fake, subscriptions, settled } = watching();
  await subscriptions.add(1, { uris: [], list: true }, fake, resolve);
  fake.emit("sb_1", "exec.started");
  fake.emit("sb_1", "lifecycle.created");
  await settled();
  expect(told).toEqual(["list"]);
});

it("folds what a slow client has not yet taken", async () => {
  const { told, fake, subscriptions, gate, settled } = watching();
  await subscriptions.add(1, { uris: ["sandbox://sb_1"] }, fake, resolve);
  let release = (): void => {};
  gate.hold = new Promise<void>((done) => {
    release = done;
  });
  for (let i = 0; i < 1000; i++) fake.emit("sb_1");
  release();
  await settled();
  expect(told).toEqual(["sandbox://sb_1", "sandbox://sb_1"]);
});

it("forgets everything on clear", async () => {
  const { told, fake, subscriptions, settled } = watching();
  await subscriptions.add(1, { uris: ["sandbox://sb_1"] }, fake, resolve);
  subscriptions.clear();
  fake.emit("sb_1");
  await settled();
  expect(told).toEqual([]);
  expect(fake.listeners.size).toBe(0);
});

it("tells of an event that came while its sandbox was being looked up", async () => {
  const { told, fake, subscriptions, settled } = watching();
  let found = (): void => {};
  const looking = new Promise<void>((done) => {
    found = done;
  });
  const uris = ["sandbox://sb_2", "sandbox://alpha", "sandbox://sb_3"];
  const adding = subscriptions.add(1, { uris }, fake, (name) => looking.then(() => resolve(name)));
  fake.emit("sb_1");
  fake.emit("sb_2");
  found();
  await adding;
  await settled();
  expect(told).toEqual(["sandbox://sb_2", "sandbox://alpha"]);
});
