// The files of the revision that a merge publishes: what the engine made, what the donor gives, and the records of how.
import type { Platform } from "../../platform/platform";
import type { Result } from "../contract";
import type { Job } from "../jobs";
import { entriesOf, type HeldFile, heldFiles, type OutputEntry } from "../outputs";
import type { MergePlan } from "../plan";
import { mergeCard } from "./card";
import { PROVENANCE_PATH, provenance } from "./provenance";
import { PROGRAM_PATH, RECIPE_PATH, RECORD_PATH, recipeDocument } from "./recipe-document";

const MERGEKIT_PATH = "mergekit_config.yml";

/** Records of a merge: those of an earlier one would contradict what the next job writes. */
export const MERGE_RECORDS: readonly string[] = [
  RECIPE_PATH,
  PROGRAM_PATH,
  PROVENANCE_PATH,
  MERGEKIT_PATH,
  RECORD_PATH,
];

/** `made`: the files that the compute service uploaded. `repo`: owner/name of where they go. */
export async function mergedFiles(
  platform: Platform,
  repo: string,
  job: Job,
  plan: MergePlan,
  { engine, files }: Result,
  made: readonly HeldFile[],
): Promise<OutputEntry[]> {
  const { publicUrl } = platform.config;
  const { program, documents } = plan;
  const mergekit = documents.find(({ path }) => path === MERGEKIT_PATH)?.text ?? null;
  const held = await heldFiles(platform, job, [{ ...program, path: PROGRAM_PATH }]);
  const texts = [
    { path: RECIPE_PATH, text: recipeDocument(plan, engine, files) },
    { path: "README.md", text: mergeCard({ publicUrl, repo, plan, engine, mergekit }) },
    ...documents,
  ];
  const written = await entriesOf(platform, [...made, ...held], texts);
  const paths = new Set(written.map(({ path }) => path));
  // What was made for this merge stands in the place of what the donor has.
  const entries = [...plan.copied.filter(({ path }) => !paths.has(path)), ...written];
  const subjects = entries.map(({ path, file }) => ({ path, sha256: file.sha256 }));
  const statement = provenance({ publicUrl, job, plan, engine, finishedAt: platform.now() }, subjects);
  return [...entries, ...(await entriesOf(platform, [], [{ path: PROVENANCE_PATH, text: statement }]))];
}
