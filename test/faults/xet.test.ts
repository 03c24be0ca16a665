// Xet uploads whose hub or client dies in the middle: the client's own next try succeeds, and nothing half-stored is ever seen.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { type Session, startStep } from "../clients/python-client.ts";
import { seededBytes } from "../clients/sample-files.ts";
import { digest, eventually, lfsLine, within } from "./client";
import { type FaultHub, HubPool } from "./fault-hub";
import { seeded } from "./materials";
import { FaultyNetwork, type Match, type Point } from "./proxy";

const pool = new HubPool(2);
const folder = mkdtempSync(join(tmpdir(), "owm-faults-xet-"));
beforeAll(() => pool.start());
afterAll(async () => {
  await pool.stop();
  rmSync(folder, { recursive: true, force: true });
});

const XORB: Match = { method: "POST", path: /^\/cas\/v1\/xorbs\// };
const SHARD: Match = { method: "POST", path: /^\/cas\/v2\/shards$/ };
const COMMIT: Match = { method: "POST", path: /\/commit\/main$/ };
const SIZE = 6_000_000;
const Uploaded = z.object({ commit: z.string() });

/** A client's way to the hub, and what it uploads. */
type Upload = {
  readonly network: FaultyNetwork;
  readonly repo: string;
  readonly bytes: Buffer;
  readonly session: Session;
};

async function withUpload(name: string, scenario: (hub: FaultHub, upload: Upload) => Promise<void>): Promise<void> {
  await pool.use(async (hub) => {
    const network = await FaultyNetwork.start({ passHost: true });
    network.target = hub.hub.endpoint;
    const bytes = seededBytes(`faults ${name}`, SIZE);
    const file = join(folder, `${name}.bin`);
    writeFileSync(file, bytes);
    try {
      await scenario(hub, {
        network,
        repo: `faults/xet-${name}`,
        bytes,
        session: { version: "2.4.0", token: hub.hub.token, home: join(folder, `${name}-home`), endpoint: network.url },
      });
    } finally {
      await network.close();
    }
  });
}

const start = ({ session, repo }: Upload, name: string) =>
  startStep(session, "xet.py", "up", { repo, from: join(folder, `${name}.bin`), path: "weights.bin" }, Uploaded).then(
    ({ child, answer }) => ({
      child,
      // Whether it succeeded is asked when the hub is back.
      outcome: answer.then(
        () => true,
        () => false,
      ),
    }),
  );

/** The file as plain HTTP gives it. */
async function expectThere(hub: FaultHub, { repo, bytes }: Upload): Promise<void> {
  const response = await hub.client.raw("GET", `/${repo}/resolve/main/weights.bin`);
  expect(response.status).toBe(200);
  const hash = createHash("sha256");
  for await (const chunk of response.body ?? []) hash.update(chunk);
  expect(hash.digest("hex")).toBe(digest(bytes));
}

/** Nothing of the upload can be had by its name. */
async function expectAbsent(hub: FaultHub, { repo }: Upload): Promise<void> {
  const response = await hub.client.raw("HEAD", `/${repo}/resolve/main/weights.bin`);
  expect(response.status).toBe(404);
}

/** The same command again where the client gave up. */
async function again(hub: FaultHub, upload: Upload, name: string, succeeded: boolean): Promise<void> {
  if (!succeeded) expect(await (await start(upload, name)).outcome).toBe(true);
  await expectThere(hub, upload);
}

describe.concurrent("the Worker dies", () => {
  it.each([
    { name: "half-xorb", what: "half of a xorb has come", match: XORB, point: "half-sent" },
    { name: "stored-xorb", what: "a xorb is stored and its answer on the way", match: XORB, point: "answered" },
    { name: "early-shard", what: "a shard is on the way", match: SHARD, point: "arrived" },
    { name: "told-shard", what: "a shard is linked and its answer on the way", match: SHARD, point: "answered" },
    { name: "told-commit", what: "the commit is made and its answer on the way", match: COMMIT, point: "answered" },
  ] as const)("when $what", ({ name, match, point }: { name: string; match: Match; point: Point }) =>
    withUpload(name, async (hub, upload) => {
      const hold = upload.network.hold(match, point);
      const { outcome } = await start(upload, name);
      const held = await within(hold, name);
      await hub.kill("worker");
      held.drop();
      await hub.expectWhole({ online: false });
      await hub.revive("worker");
      await again(hub, upload, name, await outcome);
    }),
  );

  const random = seeded(31);
  const moments = [0, 1].flatMap((round) =>
    [XORB, SHARD].map((match) => ({
      match,
      of: match === XORB ? "xorb" : "shard",
      delayMs: Math.round((round + random()) * 20),
    })),
  );
  it.each(moments)("$delayMs ms after it was handed a $of", ({ match, of, delayMs }) => {
    const name = `${of}-${delayMs}`;
    return withUpload(name, async (hub, upload) => {
      const hold = upload.network.hold(match, "arrived");
      const { outcome } = await start(upload, name);
      const held = await within(hold, name);
      held.release();
      await pause(delayMs);
      await hub.kill("worker");
      await hub.expectWhole({ online: false });
      await hub.revive("worker");
      await again(hub, upload, name, await outcome);
    });
  });

  it.each([0, 1].map((round) => ({ delayMs: Math.round(800 + (round + random()) * 250) })))(
    "$delayMs ms after a commit whose file it takes in and hashes in the background",
    ({ delayMs }) => {
      const name = `background-${delayMs}`;
      return withUpload(name, async (hub, upload) => {
        const { client } = hub;
        await client.createRepo(upload.repo);
        await client.upload(upload.repo, upload.bytes);
        await client.commit(upload.repo, [lfsLine("weights.bin", upload.bytes)]);
        await pause(delayMs);
        await hub.kill("worker");
        await hub.expectWhole({ online: false });
        hub.endLeases();
        await hub.revive("worker");
        await expectThere(hub, upload);
        await eventually("the file to be taken in", async () => {
          const response = await client.raw("HEAD", `/${upload.repo}/resolve/main/weights.bin`);
          return response.headers.get("x-xet-hash");
        });
        await expectThere(hub, upload);
      });
    },
  );
});

describe.concurrent("the client goes away", () => {
  it("in the middle of a xorb, after a long silence: nothing is stored, and the next try is whole", () =>
    withUpload("gone", async (hub, upload) => {
      const hold = upload.network.hold(XORB, "half-sent");
      const { child, outcome } = await start(upload, "gone");
      const held = await within(hold, "half of a xorb");
      const hash = held.path.split("/").at(-1) ?? "";
      await pause(2000);
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
      held.drop();
      expect(await outcome).toBe(false);
      await expectAbsent(hub, upload);
      const token = z.object({ accessToken: z.string() });
      const { accessToken } = token.parse(
        await hub.client.call("GET", `/api/models/${upload.repo}/xet-write-token/main`),
      );
      const head = await fetch(`${hub.hub.endpoint}/cas/v1/xorbs/default/${hash}`, {
        method: "HEAD",
        headers: { authorization: `Bearer ${accessToken}` },
      });
      expect(head.status).toBe(404);
      await hub.expectWhole();
      await again(hub, upload, "gone", false);
    }));

  it("between its xorbs and its shard: nothing is there, and the next try is whole", () =>
    withUpload("no-shard", async (hub, upload) => {
      const hold = upload.network.hold(SHARD, "arrived");
      const { child } = await start(upload, "no-shard");
      const held = await within(hold, "the shard");
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
      held.drop();
      await expectAbsent(hub, upload);
      await again(hub, upload, "no-shard", false);
    }));
});
