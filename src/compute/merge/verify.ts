// Verification of a merge: the program that its revision holds is run again on the recorded inputs, and every file is compared.
import type { Caller } from "../../access/caller";
import { HubError } from "../../errors";
import { findStoredFiles } from "../../hub/files";
import { repoName } from "../../hub/repositories";
import { parseFilePath } from "../../ids";
import type { Result } from "../contract";
import type { VerifyPlan } from "../plan";
import type { VerifyRequest } from "../requests";
import { type Located, locate, readWhole, sourceOf } from "../sources";
import { PROGRAM_PATH, parseRecipeDocument, RECIPE_PATH, RECORD_PATH, type RecipeDocument } from "./recipe-document";

/** Who asks must have the right to merge the revision and all that it was made from. @throws invalid_field, and what finding a model throws */
export async function planVerification(caller: Caller, request: VerifyRequest): Promise<VerifyPlan> {
  const [subject] = await locate(caller, "merge", [{ type: "model", reference: request.model, field: "model" }]);
  if (subject === undefined) throw new HubError("internal");
  const recipe = await readRecipe(caller, subject);
  const { snapshot } = subject;
  const [program, ...published] = await findStoredFiles(
    caller.platform.db,
    [PROGRAM_PATH, ...recipe.outputs.map(({ path }) => path)].map((path) => ({
      snapshot,
      path: parseFilePath(path, "model"),
    })),
  );
  if (program == null || program.sha256 !== recipe.program.sha256)
    throw unverifiable(subject, `holds no ${PROGRAM_PATH} of the SHA-256 that its ${RECIPE_PATH} names`);
  const { name } = recipe.program;
  if (recipe.inputs.some((input) => input.name === name))
    throw unverifiable(subject, `calls an input of its ${RECIPE_PATH} as it calls the program`);
  return {
    kind: "verify",
    compute: { program: name, dry_run: true },
    subject: sourceOf(subject, [{ name, file: program }]),
    parents: await findParents(caller, subject, recipe),
    files: recipe.outputs.map(({ path, sha256 }, i) => ({
      path,
      recorded: sha256,
      published: published[i]?.sha256 ?? null,
    })),
    determinism: recipe.determinism,
    engine: { name: recipe.engine.name, version: recipe.engine.version },
  };
}

const unverifiable = ({ snapshot }: Located, problem: string): HubError =>
  new HubError("invalid_field", {
    field: "model",
    problem: `${repoName(snapshot.repo)} at ${snapshot.commit.slice(0, 12)} ${problem}: name a revision that a merge published`,
  });

async function readRecipe(caller: Caller, subject: Located): Promise<RecipeDocument> {
  const { platform } = caller;
  const [file] = await findStoredFiles(platform.db, [{ snapshot: subject.snapshot, path: RECIPE_PATH }]);
  if (file === null || file === undefined) throw unverifiable(subject, `has no ${RECIPE_PATH}`);
  const recipe = parseRecipeDocument(new TextDecoder().decode(await readWhole(platform, file, "model")));
  if (recipe === null) throw unverifiable(subject, `has a ${RECIPE_PATH} that is no record of a merge of this hub`);
  return recipe;
}

/** The recorded inputs, where they still are what was recorded. */
async function findParents(
  caller: Caller,
  subject: Located,
  { inputs }: RecipeDocument,
): Promise<VerifyPlan["parents"]> {
  const references = [...new Set(inputs.map(({ repo, commit }) => `${repo}@${commit}`))];
  const located = await locate(
    caller,
    "merge",
    references.map((reference) => ({ type: "model", reference, field: "model" })),
  );
  const files = await findStoredFiles(
    caller.platform.db,
    inputs.flatMap(({ repo, commit, path }) => {
      const parent = located[references.indexOf(`${repo}@${commit}`)];
      return parent === undefined ? [] : [{ snapshot: parent.snapshot, path }];
    }),
  );
  return located.map((parent, i) =>
    sourceOf(
      parent,
      inputs.flatMap(({ name, repo, commit, path, sha256 }, j) => {
        if (`${repo}@${commit}` !== references[i]) return [];
        const file = files[j];
        if (file === null || file === undefined || file.sha256 !== sha256)
          throw unverifiable(subject, `records ${path} of ${repo} under a SHA-256 that is not there at that commit`);
        return [{ name, file }];
      }),
    ),
  );
}

export type Verification = {
  /** Whether every file of the model has the recorded digest, in the revision and computed again. */
  readonly verified: boolean;
  readonly files: readonly {
    readonly path: string;
    /** In recipe.json. */
    readonly expected: string;
    /** Of what the revision holds; null where it holds nothing under that path. */
    readonly published: string | null;
    /** Computed again; null where nothing was made under that path. */
    readonly got: string | null;
    readonly equal: boolean;
  }[];
  readonly determinism: VerifyPlan["determinism"];
  readonly engine: { readonly recorded: VerifyPlan["engine"]; readonly used: Result["engine"] };
};

export function compareOutputs(plan: VerifyPlan, result: Result): Verification {
  const made = new Map(result.files.map(({ path, sha256 }) => [path, sha256]));
  const files = plan.files.map(({ path, recorded: expected, published }) => {
    const got = made.get(path) ?? null;
    return { path, expected, published, got, equal: got === expected && published === expected };
  });
  return {
    // The record tells of the run too: another version of the engine writes another one about the same bytes.
    verified: files.every(({ path, equal }) => equal || path === RECORD_PATH),
    files,
    determinism: plan.determinism,
    engine: { recorded: plan.engine, used: result.engine },
  };
}
