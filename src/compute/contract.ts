// What the compute service says, by the contract: checked before any of it is believed.
import * as z from "zod";
import { parseSha256 } from "../ids";

const sha256 = z.string().transform((text) => parseSha256(text, "sha256"));

const OutputFile = z.object({ path: z.string().min(1).max(1024), sha256, size: z.int().min(0) });
export type OutputFile = z.output<typeof OutputFile>;

const Engine = z.object({
  name: z.string(),
  version: z.string(),
  torch: z.string().nullish(),
  device: z.string().nullish(),
});
export type Engine = z.output<typeof Engine>;

const ComputeError = z.object({
  code: z.string().min(1).max(100),
  message: z.string().max(4000),
  field: z.string().max(1000).nullish(),
  fix: z.string().max(2000).nullish(),
  retryable: z.boolean().default(false),
});

/** As many shards as a program may have, and the records beside them. */
const MAX_OUTPUT_FILES = 1100;

const Result = z.object({
  files: z.array(OutputFile).max(MAX_OUTPUT_FILES),
  record: z.record(z.string(), z.unknown()),
  engine: Engine,
});

/** What a job made, as the compute service says. */
export type Result = z.output<typeof Result>;

/** How an attempt ended, as reported by the callback or found by asking. */
export const Report = z.discriminatedUnion("state", [
  z.object({ attempt: z.int().min(1), state: z.literal("succeeded"), result: Result }),
  z.object({ attempt: z.int().min(1), state: z.enum(["failed", "cancelled"]), error: ComputeError.nullish() }),
]);
export type Report = z.output<typeof Report>;

export const Progress = z.object({
  attempt: z.int().min(1),
  events: z
    .array(
      z.object({
        seq: z.int().min(1),
        ts: z.iso.datetime({ offset: true }),
        type: z.enum(["state", "progress", "metric", "log"]),
        data: z.record(z.string(), z.unknown()),
      }),
    )
    .max(1000),
});
export type Progress = z.output<typeof Progress>;

/** The job as the compute service holds it; what an end needs more is read as a `Report`. */
export const ComputeJob = z.object({
  id: z.string(),
  attempt: z.int(),
  state: z.enum(["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]),
});
export type ComputeJob = z.output<typeof ComputeJob>;

export const ComputeProblem = z.object({
  code: z.string(),
  detail: z.string().nullish(),
  title: z.string().nullish(),
  field: z.string().nullish(),
  fix: z.string().nullish(),
});
