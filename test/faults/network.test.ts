// What a network does to the two services: lost, doubled, late and refused messages change nothing of how a job ends.
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { eventually, fileLine, type Job, Published, within } from "./client";
import { ANNOUNCE, type FaultHub, HubPool, INPUT, PART, PROGRESS, RESULT, type Step, SUBMIT } from "./fault-hub";
import { merge, seeded } from "./materials";
import type { Held } from "./proxy";

const pool = new HubPool(3);
beforeAll(() => pool.start());
afterAll(() => pool.stop());

const CANCEL_ROUNDS = 6;
const random = seeded(11);

const at = (point: Step["at"], on: Step["on"], match: Step["match"], skip = 0): Step => ({
  on,
  match,
  at: point,
  skip,
});
const RESULT_ARRIVED = at("arrived", "toHub", RESULT);

/** Sends a request of the compute service to the hub again, as it was or with another body. */
async function replay(hub: FaultHub, held: Held, body: string = held.body.toString()): Promise<number> {
  const { authorization = "", "content-type": type = "application/json" } = held.headers;
  const response = await fetch(`${hub.hub.endpoint}${held.path}`, {
    method: "POST",
    body,
    headers: { authorization, "content-type": type },
  });
  await response.body?.cancel();
  return response.status;
}

/** How the job's results were answered, once there are so many. */
function answers(hub: FaultHub, id: string, least = 1): Promise<number[]> {
  const match = { method: "POST", path: new RegExp(`/${id}/result$`) };
  return eventually("every result to be answered", async () => {
    const statuses = hub.toHub.statuses(match);
    return statuses.length >= least ? statuses : null;
  });
}

/** Several ask at once. */
const cancelled = (hub: FaultHub, id: string): Promise<number[]> =>
  Promise.all(
    Array.from({ length: 8 }, async () => (await hub.client.raw("POST", `/api/v1/jobs/${id}/cancel`)).status),
  );

const Reported = z.looseObject({ attempt: z.number(), state: z.string() });

const LOSSES: readonly { readonly what: string; readonly repo: string; readonly arrange: (hub: FaultHub) => void }[] = [
  {
    what: "the submission fails twice",
    repo: "submit-503",
    arrange: (hub) => hub.toCompute.answer(SUBMIT, 503, 2),
  },
  {
    what: "each kind of callback fails twice",
    repo: "callbacks-500",
    arrange: (hub) => {
      for (const match of [INPUT, PROGRESS, ANNOUNCE, PART, RESULT]) hub.toHub.answer(match, 500, 2);
    },
  },
];

/** Requests that were applied and whose answer was lost: the caller repeats them. */
const LOST_ANSWERS: readonly {
  readonly what: string;
  readonly repo: string;
  readonly step: Step;
  readonly results: readonly number[];
}[] = [
  { what: "the submission", repo: "lost-submit", step: at("answered", "toCompute", SUBMIT), results: [204] },
  {
    what: "the announcement of an upload",
    repo: "lost-announce",
    step: at("answered", "toHub", ANNOUNCE),
    results: [204],
  },
  { what: "a part", repo: "lost-part", step: at("answered", "toHub", PART, 1), results: [204] },
  { what: "the result", repo: "lost-result", step: at("answered", "toHub", RESULT), results: [204, 204] },
];

describe.concurrent("failures and lost answers", () => {
  it.each(LOSSES)("$what", ({ repo, arrange }) =>
    pool.use(async (hub) => {
      arrange(hub);
      const name = `faults/${repo}`;
      const job = await hub.client.ended(await hub.client.startJob(merge(0.3, name)));
      await hub.expectPublished(job, name);
      expect(job.attempt).toBe(1);
    }),
  );

  it.each(LOST_ANSWERS)("the answer to $what is lost: it is repeated, and done once", ({ repo, step, results }) =>
    pool.use(async (hub) => {
      const name = `faults/${repo}`;
      const job = await hub.disturbed(merge(0.3, name), step, async (held) => held.drop());
      await hub.expectPublished(job, name);
      expect(job.attempt).toBe(1);
      expect(await answers(hub, job.id, results.length)).toEqual(results);
    }),
  );

  it("the compute service cannot be reached for a while: the job waits for it", () =>
    pool.use(async (hub) => {
      hub.toCompute.target = null;
      const id = await hub.client.startJob(merge(0.3, "faults/refused"));
      await eventually("the feed to tell of it", async () => {
        const feed = await hub.feed(id);
        return feed.includes("takes no work now") ? feed : null;
      });
      expect((await hub.client.job(id)).state).toBe("queued");
      hub.toCompute.target = hub.hub.computeUrl;
      await hub.expectPublished(await hub.client.ended(id), "faults/refused");
    }));
});

describe.concurrent("doubled and late callbacks", () => {
  it("a result that comes twice is taken once", () =>
    pool.use(async (hub) => {
      const twice = hub.toHub.repeat(RESULT);
      const job = await hub.client.ended(await hub.client.startJob(merge(0.3, "faults/twice")));
      expect(await within(twice, "the two answers")).toEqual([204, 204]);
      await hub.expectPublished(job, "faults/twice");
    }));

  it("a result that is late was fetched by the hub itself, and is thanked for", () =>
    pool.use(async (hub) => {
      const job = await hub.disturbed(merge(0.3, "faults/fetched"), RESULT_ARRIVED, async (held, id) => {
        await hub.client.ended(id);
        held.release();
      });
      await hub.expectPublished(job, "faults/fetched");
      expect(await answers(hub, job.id)).toEqual([204]);
    }));

  it("a result after the job was cancelled is refused, and publishes nothing", () =>
    pool.use(async (hub) => {
      const job = await hub.disturbed(merge(0.3, "faults/late"), RESULT_ARRIVED, async (held, id) => {
        await hub.client.call("POST", `/api/v1/jobs/${id}/cancel`);
        held.release();
        expect(await answers(hub, id)).toEqual([409]);
        expect(await replay(hub, held)).toBe(409);
      });
      expect(job.state).toBe("cancelled");
      await hub.expectUnpublished("faults/late");
    }));

  it("callbacks that are replayed after the job's end change nothing", () =>
    pool.use(async (hub) => {
      const progress = hub.toHub.hold(PROGRESS, "answered");
      let result: Held | undefined;
      void progress.then((held) => held.release());
      const job = await hub.disturbed(merge(0.3, "faults/replayed"), RESULT_ARRIVED, async (held) => {
        result = held;
        held.release();
      });
      const before = await hub.expectPublished(job, "faults/replayed");
      if (result === undefined) throw new Error("no result was held");
      expect(await replay(hub, result)).toBe(204);
      const failure = JSON.stringify({
        attempt: 1,
        state: "failed",
        error: { code: "x", message: "x", retryable: true },
      });
      expect(await replay(hub, result, failure)).toBe(409);
      expect(await replay(hub, result, JSON.stringify({ attempt: 2, state: "cancelled" }))).toBe(409);
      expect(await replay(hub, await progress)).toBe(409);
      expect(await hub.expectPublished(await hub.client.job(job.id), "faults/replayed")).toBe(before);
    }));

  it("results of an attempt that was given up are refused; the newer attempt's counts", () =>
    pool.use(async (hub) => {
      let older: Held | undefined;
      const job = await hub.disturbed(merge(0.3, "faults/superseded"), RESULT_ARRIVED, async (held) => {
        older = held;
        const report = Reported.parse(JSON.parse(held.body.toString()));
        const failure = {
          attempt: report.attempt,
          state: "failed",
          error: { code: "x", message: "x", retryable: true },
        };
        // The hub hears of a failure that may pass, starts anew, and then the first attempt's success comes after all.
        const second = hub.toHub.hold(RESULT, "arrived");
        const submissions = hub.toCompute.statuses(SUBMIT).length;
        expect(await replay(hub, held, JSON.stringify(failure))).toBe(204);
        await eventually("the second attempt", async () =>
          hub.toCompute.statuses(SUBMIT).length > submissions ? true : null,
        );
        expect(await replay(hub, held)).toBe(409);
        held.release();
        (await within(second, "the second attempt's result")).release();
      });
      expect(job.attempt).toBe(2);
      await hub.expectPublished(job, "faults/superseded");
      if (older !== undefined) expect(await replay(hub, older)).toBe(409);
    }));
});

describe.concurrent("losses of a whole side", () => {
  it.each([
    { step: "an input fetched by half", match: INPUT, point: "half-answered", repo: "forgotten-early" },
    { step: "the result on its way", match: RESULT, point: "arrived", repo: "forgotten-late" },
  ] as const)(
    "the compute service comes back on an empty disk, $step: it gets the work again",
    ({ match, point, repo }) =>
      pool.use(async (hub) => {
        const name = `faults/${repo}`;
        const job = await hub.disturbed(merge(0.3, name), at(point, "toHub", match), async (held) => {
          await hub.kill("compute");
          hub.forgetJournal();
          held.drop();
          await hub.revive("compute");
        });
        await hub.expectPublished(job, name);
        expect(job.attempt).toBe(1);
      }),
  );

  it("the Worker is down when the work is done: the result is delivered once it returns", () =>
    pool.use(async (hub) => {
      const job = await hub.disturbed(merge(0.3, "faults/worker-down"), RESULT_ARRIVED, async (held) => {
        await hub.kill("worker");
        held.drop();
        const again = hub.toHub.hold(RESULT, "arrived", 1);
        (await within(again, "the result to be tried again")).drop();
        await hub.revive("worker");
      });
      await hub.expectPublished(job, "faults/worker-down");
      expect(job.attempt).toBe(1);
    }));

  it("the Worker is down for so long that the compute service gives up: the work is done anew", () =>
    pool.use(async (hub) => {
      const job = await hub.disturbed(merge(0.3, "faults/gave-up"), at("arrived", "toHub", ANNOUNCE), async (held) => {
        await hub.kill("worker");
        const failure = hub.toHub.hold(RESULT, "arrived");
        held.drop();
        const given = await within(failure, "the compute service to give up");
        expect(Reported.parse(JSON.parse(given.body.toString()))).toMatchObject({ attempt: 1, state: "failed" });
        await hub.revive("worker");
        given.release();
      });
      await hub.expectPublished(job, "faults/gave-up");
      expect(job.attempt).toBe(2);
    }));
});

/** A bucket or a database that fails for a while: the callback that needs it fails, and is repeated. */
const OUTAGES = [
  { lock: "bucket", match: PART, what: "a part of the output", repo: "no-bucket" },
  { lock: "database", match: ANNOUNCE, what: "the announcement of an upload", repo: "no-announcement" },
  { lock: "database", match: RESULT, what: "the result", repo: "no-result" },
] as const;

describe.concurrent("outages of what the hub stores in", () => {
  it.each(OUTAGES)("the $lock fails when $what comes", ({ lock, match, repo }) =>
    pool.use(async (hub) => {
      const name = `faults/${repo}`;
      const job = await hub.disturbed(merge(0.3, name), at("arrived", "toHub", match), async (held) => {
        const outage = hub.lock(lock);
        held.release();
        await eventually("the failure", async () => (hub.toHub.statuses(match).some(failed) ? true : null));
        outage.mend();
      });
      await hub.expectPublished(job, name);
      expect(job.attempt).toBe(1);
    }),
  );
});

const failed = (status: number): boolean => status >= 500;

describe.concurrent("races", () => {
  it.each(
    Array.from({ length: CANCEL_ROUNDS }, (_, round) => ({ round, delayMs: Math.round(10 * (round + random())) })),
  )("a cancellation $delayMs ms after the result: one of the two wins", ({ round, delayMs }) =>
    pool.use(async (hub) => {
      const name = `faults/cancel-${round}`;
      let answers: number[] = [];
      const job = await hub.disturbed(merge(0.3, name), RESULT_ARRIVED, async (held, id) => {
        held.release();
        await pause(delayMs);
        answers = await cancelled(hub, id);
      });
      // They agree with each other and with the outcome.
      const expected = job.state === "cancelled" ? 200 : 409;
      expect(answers).toEqual(answers.map(() => expected));
      if (expected === 200) await hub.expectUnpublished(name);
      else await hub.expectPublished(job, name);
    }),
  );

  it.each(["bucket", "lineage"] as const)(
    "a job that is cancelled while it publishes (its writes to the %s fail) stays cancelled",
    (refused) =>
      pool.use(async (hub) => {
        const name = `faults/cancel-${refused}`;
        const job = await hub.disturbed(merge(0.3, name), RESULT_ARRIVED, async (held, id) => {
          const outage = refused === "bucket" ? hub.lock("bucket") : hub.refuseRows("lineage");
          held.release();
          await eventually("the job to publish", async () => {
            const { state } = await hub.client.job(id);
            return state === "publishing" ? state : null;
          });
          const answers = await cancelled(hub, id);
          expect(answers).toEqual(answers.map(() => 200));
          outage.mend();
        });
        expect(job.state).toBe("cancelled");
        await hub.undisturbed(merge(0.3, `${name}-later`), `${name}-later`);
        await hub.expectUnpublished(name);
      }),
  );

  it("others commit to the output branch while the job publishes: everything is kept", () =>
    pool.use(async (hub) => {
      const name = "faults/busy-branch";
      await hub.client.createRepo(name);
      const written: string[] = [];
      const job = await hub.disturbed(merge(0.3, name), RESULT_ARRIVED, async (held, id) => {
        held.release();
        const isOpen = async (): Promise<boolean> => !hasEnded(await hub.client.job(id));
        await Promise.all(
          ["one", "two"].map(async (writer) => {
            for (let i = 0; i === 0 || (await isOpen()); i++) {
              const path = `notes/${writer}-${i}.txt`;
              await hub.client.commit(name, [fileLine(path, path)]);
              written.push(path);
            }
          }),
        );
      });
      expect(job).toMatchObject({ state: "succeeded", error: null });
      const { commit } = Published.parse(job.result);
      const paths = z
        .array(z.object({ path: z.string() }))
        .parse(await hub.client.call("GET", `/api/models/${name}/tree/main?recursive=true`));
      expect(paths.map((entry) => entry.path)).toEqual(
        expect.arrayContaining([...written, "model.safetensors", "recipe.json"]),
      );
      const history = z
        .array(z.object({ id: z.string() }))
        .parse(await hub.client.call("GET", `/api/models/${name}/commits/main`));
      expect(history.map((one) => one.id)).toContain(commit);
      expect(history).toHaveLength(written.length + 2);
    }));
});

const hasEnded = ({ state }: Job): boolean => state === "succeeded" || state === "failed" || state === "cancelled";
