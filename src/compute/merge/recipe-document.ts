// recipe.json of a merge: everything that decides its bytes, and the digests that recomputing it must give.
import * as z from "zod";
import { HubError } from "../../errors";
import { canonicalJson } from "../../formats/canonical-json";
import { parseFilePath, parseGitId, parseSha256 } from "../../ids";
import { jsonNestsDeeperThan } from "../../streams/ndjson";
import type { Engine, OutputFile } from "../contract";
import { CanonicalRecipe, type MergePlan } from "../plan";

export const RECIPE_PATH = "recipe.json";
/** What the compute service executed, as it executed it. */
export const PROGRAM_PATH = "merge-program.json";

/** Of each tensor what went in and what came out, and of the run that made it. */
export const RECORD_PATH = "merge-record.jsonl";

const MAX_DEPTH = 64;
/** The compute service takes so many for one job. */
const MAX_INPUTS = 2000;
const MAX_OUTPUTS = 1100;

const sha256 = z.string().transform((text) => parseSha256(text, "sha256"));
const gitId = z.string().transform((text) => parseGitId(text, "commit"));
const path = z.string().transform((text) => parseFilePath(text, "path"));
const size = z.int().min(0);

const Revision = z.object({ repo: z.string(), commit: gitId });
const File = z.object({ path, sha256, size });
/** As the program calls it. */
const InputFile = File.extend({ name: path });

const RecipeDocument = z.object({
  schema: z.literal("owm.recipe/2"),
  /** In its canonical form, which `recipe_sha256` is the digest of: a document or several. */
  recipe: CanonicalRecipe,
  recipe_sha256: sha256,
  /** The recipe with every parameter resolved. */
  program: InputFile,
  seed: z.number(),
  /** Files of other revisions; the program calls them by `name`. */
  inputs: z
    .array(InputFile.extend(Revision.shape))
    .min(1)
    .max(MAX_INPUTS)
    .refine((inputs) => new Set(inputs.map(({ name }) => name)).size === inputs.length, "a name stands twice"),
  base_model: Revision.nullable(),
  engine: z.object({ name: z.string(), version: z.string(), torch: z.string().nullish() }),
  /** `exact`: the same bytes on any machine; `tolerance`: equal up to the rounding of the machine's linear algebra. */
  determinism: z.enum(["exact", "tolerance"]),
  /** What recomputing makes. */
  outputs: z.array(File).min(1).max(MAX_OUTPUTS),
  /** What the revision has from one of its parents as it was there. */
  copied: z.array(File),
  license: z.object({ id: z.string(), name: z.string().nullable(), link: z.string().nullable() }).nullable(),
});
export type RecipeDocument = z.output<typeof RecipeDocument>;

export function recipeDocument(plan: MergePlan, engine: Engine, outputs: readonly OutputFile[]): string {
  const document: z.input<typeof RecipeDocument> = {
    schema: "owm.recipe/2",
    recipe: plan.recipe,
    recipe_sha256: plan.recipeSha256,
    program: { ...plan.program, path: PROGRAM_PATH },
    seed: plan.seed,
    inputs: plan.parents.flatMap(({ repo, commit, files }) => files.map((file) => ({ ...file, repo, commit }))),
    base_model: plan.base,
    engine: { name: engine.name, version: engine.version, torch: engine.torch ?? null },
    determinism: plan.determinism,
    outputs: [...outputs],
    copied: plan.copied.map(({ path, file }) => ({ path, sha256: file.sha256, size: file.size })),
    license: plan.licence,
  };
  return canonicalJson(document);
}

/** Null where the text is no such document: anyone may write the file. */
export function parseRecipeDocument(text: string): RecipeDocument | null {
  if (jsonNestsDeeperThan(text, MAX_DEPTH)) return null;
  try {
    const parsed = RecipeDocument.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch (error) {
    // Ids and paths that are none.
    if (error instanceof SyntaxError || error instanceof HubError) return null;
    throw error;
  }
}

/** The document of a canonical recipe whose result is published. */
export function outputDocument(recipe: RecipeDocument["recipe"]): Readonly<Record<string, unknown>> {
  return Array.isArray(recipe) ? (recipe.at(-1) ?? {}) : recipe;
}

/** The methods that a recipe names, those of all its documents. */
export function methodsOf(recipe: unknown): string[] {
  if (typeof recipe !== "object" || recipe === null) return [];
  const found = Object.entries(recipe).flatMap(([key, value]) =>
    key === "merge_method" && typeof value === "string" ? [value] : methodsOf(value),
  );
  return [...new Set(found)];
}
