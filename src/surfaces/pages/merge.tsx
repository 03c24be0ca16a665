// How a merge was made, from the `recipe.json` beside its weights, and whether computing it again gave the same bytes.
import * as z from "zod";
import { methodsOf, outputDocument, type RecipeDocument } from "../../compute/merge/recipe-document";
import type { Verifications } from "../../compute/merge/verifications";
import type { RepoLink } from "../../hub/overview";
import { blobAddress } from "./address";
import { Time } from "./layout";
import { dateTime } from "./wording";

/** Longer settings (gradients, filters) are read in the recipe. Characters. */
const MAX_SETTING = 60;

export type MergeSummaryProps = {
  readonly recipe: RecipeDocument;
  readonly verifications: Verifications;
  readonly repo: RepoLink;
  readonly revision: string;
  readonly origin: string;
};

export function MergeSummary({ recipe, verifications, repo, revision, origin }: MergeSummaryProps) {
  const facts: readonly (readonly [string, string])[] = [
    ["Method", methodsOf(recipe.recipe).join(", ")],
    ...settingsOf(outputDocument(recipe.recipe)),
    ["Seed", String(recipe.seed)],
    ["Determinism", recipe.determinism],
    ["Engine", `${recipe.engine.name} ${recipe.engine.version}`],
  ];
  return (
    <section aria-labelledby="merge">
      <h2 id="merge">
        <a href={blobAddress(repo, revision, "recipe.json")}>Merge record</a>
      </h2>
      <dl class="facts small">
        {facts.map(([key, value]) =>
          value === "" ? null : (
            <>
              <dt>{key}</dt>
              <dd>{value}</dd>
            </>
          ),
        )}
        <dt>Verified</dt>
        <dd>
          <VerifyState verifications={verifications} />
        </dd>
      </dl>
      <details class="use">
        <summary>Verify it</summary>
        <pre tabindex={0}>
          <code class="pick">{verifyCommand(origin, repo, revision)}</code>
        </pre>
      </details>
    </section>
  );
}

function VerifyState({ verifications: { times, equal, last } }: { readonly verifications: Verifications }) {
  if (last === null) return <>not yet</>;
  const share = equal === times ? (times === 1 ? "once" : `${times} times`) : `${equal} of ${times} times`;
  return (
    <>
      {equal === 0 ? <strong>other bytes</strong> : share}, last <Time ms={last.at} text={dateTime(last.at)} />
      {equal > 0 && !last.verified ? <strong> (other bytes)</strong> : null}
    </>
  );
}

const Settings = z.record(z.string(), z.unknown()).catch({});
/** The parts of a merge's document that hold parameters; other kinds of document have none. */
const Merge = z.object({
  models: z.array(z.object({ model: z.string(), parameters: Settings })).catch([]),
  parameters: Settings,
});

/** Of the whole merge, then of each model; what every model sets for itself is no setting of the whole. */
function settingsOf(document: unknown): [string, string][] {
  const { models, parameters } = Merge.parse(document);
  const own = models.filter(({ parameters: of }) => Object.keys(of).length > 0);
  const ofAll = Object.entries(parameters).filter(
    ([key]) => own.length === 0 || !own.every(({ parameters: of }) => Object.hasOwn(of, key)),
  );
  return [
    ...ofAll.map(([key, value]): [string, string] => [key, settingText(value)]),
    ...own.map(({ model, parameters: of }): [string, string] => [
      model,
      Object.entries(of)
        .map(([key, value]) => `${key} ${settingText(value)}`)
        .join(", "),
    ]),
  ];
}

function settingText(value: unknown): string {
  const text = JSON.stringify(value) ?? "";
  return text.length > MAX_SETTING ? "see the recipe" : text;
}

const verifyCommand = (origin: string, { name }: RepoLink, revision: string): string =>
  `curl -X POST \\\n  -H "Authorization: Bearer $HF_TOKEN" \\\n  ${origin}/api/v1/models/${name}/revisions/${encodeURIComponent(revision)}/verify`;
