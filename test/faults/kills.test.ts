// Kills the compute service, the Worker or both at every step of a job: each job ends once, with the result of an undisturbed run.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readObjects } from "../kit/verifier-store";
import { eventually } from "./client";
import {
  ANNOUNCE,
  type FaultHub,
  HubPool,
  INPUT,
  PART,
  PROGRESS,
  RESULT,
  SHARD,
  type Step,
  SUBMIT,
  type Victim,
} from "./fault-hub";
import { evaluate, merge, train } from "./materials";

type Row = Step & { readonly step: string; readonly victims: readonly Victim[] };

const ALL: readonly Victim[] = ["compute", "worker", "both"];
const WORKER: readonly Victim[] = ["worker"];

/** In the order in which a job takes them. */
const MERGE: readonly Row[] = [
  { step: "accepted, not yet handed over", on: "toCompute", match: SUBMIT, at: "arrived", victims: ALL },
  { step: "handed over, the answer on its way", on: "toCompute", match: SUBMIT, at: "answered", victims: ALL },
  { step: "an input fetched by half", on: "toHub", match: INPUT, at: "half-answered", victims: ALL },
  { step: "inputs fetched, the merge begins", on: "toHub", match: INPUT, at: "passed", victims: ALL },
  { step: "merged, nothing uploaded", on: "toHub", match: ANNOUNCE, at: "arrived", victims: ALL },
  { step: "the output uploaded by half", on: "toHub", match: PART, at: "half-sent", skip: 1, victims: ALL },
  { step: "the output complete, the answer on its way", on: "toHub", match: SHARD, at: "answered", victims: ALL },
  { step: "the result on its way", on: "toHub", match: RESULT, at: "arrived", victims: ALL },
  { step: "the result taken", on: "toHub", match: RESULT, at: "answered", victims: WORKER },
];

/** Publishing takes some milliseconds and calls nobody: what makes it last is a bucket or a table that takes no writes. */
type Stuck = { readonly step: string; readonly refused: "objects" | "rows"; readonly victims: readonly Victim[] };
const PUBLISHING: readonly Stuck[] = [
  { step: "nothing written yet", refused: "objects", victims: ALL },
  { step: "recipe and card stored, the revision not", refused: "rows", victims: WORKER },
];

const OTHERS: readonly (Row & { readonly kind: "evaluate" | "train" })[] = [
  { kind: "evaluate", step: "handed over", on: "toCompute", match: SUBMIT, at: "passed", victims: ["both"] },
  {
    kind: "evaluate",
    step: "samples uploaded by half",
    on: "toHub",
    match: PART,
    at: "answered",
    victims: ["compute"],
  },
  { kind: "evaluate", step: "the result taken", on: "toHub", match: RESULT, at: "answered", victims: WORKER },
  { kind: "train", step: "epochs running", on: "toHub", match: PROGRESS, at: "arrived", skip: 1, victims: ALL },
  {
    kind: "train",
    step: "the last file uploaded",
    on: "toHub",
    match: PART,
    at: "answered",
    skip: 2,
    victims: ["both"],
  },
];

const spread = <R extends { readonly victims: readonly Victim[] }>(rows: readonly R[]) =>
  rows.flatMap((row) => row.victims.map((victim) => ({ ...row, victim }))).map((row, number) => ({ ...row, number }));

/** The step is reached, the victim dies there, and comes back; how the job ended. */
function killed(hub: FaultHub, request: unknown, row: Row & { readonly victim: Victim }) {
  return hub.disturbed(request, row, async (held) => {
    await hub.kill(row.victim);
    held.drop();
    await hub.revive(row.victim);
  });
}

/** The victim dies while the job is `publishing`, which can't have come further. */
function killedPublishing(hub: FaultHub, request: unknown, repo: string, refused: Stuck["refused"], victim: Victim) {
  return hub.disturbed(request, { on: "toHub", match: RESULT, at: "arrived" }, async (held, id) => {
    const { size } = await readObjects(hub.hub.state);
    const outage = refused === "objects" ? hub.lock("bucket") : hub.refuseRows("lineage");
    try {
      held.release();
      await eventually("the job to be stuck", async () => {
        const { state } = await hub.client.job(id);
        const stored = refused === "objects" || (await readObjects(hub.hub.state)).size > size;
        return state === "publishing" && stored ? state : null;
      });
      await hub.expectUnpublished(repo);
      await hub.kill(victim);
    } finally {
      outage.mend();
    }
    await hub.expectWhole({ online: victim === "compute" });
    await hub.revive(victim);
  });
}

const pool = new HubPool(3);
beforeAll(() => pool.start());
afterAll(() => pool.stop());

describe.concurrent("a merge whose services are killed publishes what an undisturbed one does", () => {
  it.each(spread(MERGE))("$step: $victim", (row) =>
    pool.use(async (hub) => {
      const lambda = (row.number + 1) / 100;
      const [repo, other] = [`faults/merged-${row.number}`, `faults/left-alone-${row.number}`];
      const job = await killed(hub, merge(lambda, repo), row);
      const digest = await hub.expectPublished(job, repo);
      expect(digest).toBe(await hub.undisturbed(merge(lambda, other), other));
    }),
  );

  it.each(spread(PUBLISHING))("publishing, $step: $victim", (row) =>
    pool.use(async (hub) => {
      const lambda = (row.number + 51) / 100;
      const [repo, other] = [`faults/stuck-${row.number}`, `faults/not-stuck-${row.number}`];
      const job = await killedPublishing(hub, merge(lambda, repo), repo, row.refused, row.victim);
      const digest = await hub.expectPublished(job, repo);
      expect(digest).toBe(await hub.undisturbed(merge(lambda, other), other));
    }),
  );
});

describe.concurrent("the other kinds", () => {
  it.each(spread(OTHERS))("$kind, $step: $victim", (row) =>
    pool.use(async (hub) => {
      if (row.kind === "evaluate") {
        const job = await killed(hub, evaluate(row.number), row);
        expect(job).toMatchObject({ state: "succeeded", error: null });
        return;
      }
      const [repo, other] = [`faults/trained-${row.number}`, `faults/trained-alone-${row.number}`];
      const job = await killed(hub, train(row.number, repo), row);
      const digest = await hub.expectPublished(job, repo);
      expect(digest).toBe(await hub.undisturbed(train(row.number, other), other));
    }),
  );
});
