// Kills the compute service, the Worker or both at every step of a job: each job ends once, with the result of an undisturbed run.
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  ANNOUNCE,
  COMPLETE,
  type FaultHub,
  HubPool,
  INPUT,
  PART,
  PROGRESS,
  RESULT,
  type Step,
  SUBMIT,
  type Victim,
} from "./fault-hub";
import { evaluate, merge, seeded, train } from "./materials";

type Row = Step & { readonly step: string; readonly victims: readonly Victim[]; readonly delayMs?: number };

const ALL: readonly Victim[] = ["compute", "worker", "both"];
const WORKER: readonly Victim[] = ["worker"];
const random = seeded(7);

/** In the order in which a job takes them. */
const MERGE: readonly Row[] = [
  { step: "accepted, not yet handed over", on: "toCompute", match: SUBMIT, at: "arrived", victims: ALL },
  { step: "handed over, the answer on its way", on: "toCompute", match: SUBMIT, at: "answered", victims: ALL },
  { step: "an input fetched by half", on: "toHub", match: INPUT, at: "half-answered", victims: ALL },
  { step: "inputs fetched, the merge begins", on: "toHub", match: INPUT, at: "passed", victims: ALL },
  { step: "merged, nothing uploaded", on: "toHub", match: ANNOUNCE, at: "arrived", victims: ALL },
  { step: "the output uploaded by half", on: "toHub", match: PART, at: "half-sent", skip: 1, victims: ALL },
  { step: "the output complete, the answer on its way", on: "toHub", match: COMPLETE, at: "answered", victims: ALL },
  { step: "the result on its way", on: "toHub", match: RESULT, at: "arrived", victims: ALL },
  { step: "the result taken, publishing", on: "toHub", match: RESULT, at: "answered", victims: ALL },
  // Publishing takes some milliseconds and calls nobody: a few kills at moments in it.
  ...Array.from({ length: 3 }, (_, i): Row => {
    const delayMs = Math.round(i * 8 + random() * 8);
    const step = `publishing for ${delayMs} ms`;
    return { step, on: "toHub", match: RESULT, at: "answered", delayMs, victims: WORKER };
  }),
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

const spread = <R extends Row>(rows: readonly R[]) =>
  rows.flatMap((row) => row.victims.map((victim) => ({ ...row, victim }))).map((row, number) => ({ ...row, number }));

/** The step is reached, the victim dies there, and comes back; how the job ended. */
function killed(hub: FaultHub, request: unknown, row: Row & { readonly victim: Victim }) {
  return hub.disturbed(request, row, async (held) => {
    if (row.delayMs !== undefined) {
      held.release();
      await pause(row.delayMs);
    }
    await hub.kill(row.victim);
    held.drop();
    await hub.revive(row.victim);
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
