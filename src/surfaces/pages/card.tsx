// The first page of a repository: its card, what it holds, what it was made from, and how to use it.
import { raw } from "hono/html";
import { may } from "../../access/caller";
import { parseRecipeDocument, RECIPE_PATH } from "../../compute/merge/recipe-document";
import { readVerifications } from "../../compute/merge/verifications";
import { splitFrontMatter } from "../../formats/card/front-matter";
import { parseCard } from "../../formats/card/yaml";
import { parametersOf } from "../../hub/facts/facts";
import { computeFacts } from "../../hub/facts/store";
import { findStoredFiles, type StoredFile } from "../../hub/files";
import { readLineage } from "../../hub/lineage";
import { type Overview, readOverview } from "../../hub/overview";
import { findSnapshot, repoName } from "../../hub/repositories";
import { dtypeShares, readTensors, type Tensors } from "../../hub/tensors";
import { parseRevision, type RepoType } from "../../ids";
import { isOpen } from "../../store/scopes";
import { type Ctx, callerOf, originOf, repoIdOf } from "../hf/request";
import { blobAddress, cardAddress, evaluationsAddress, linkOf, resolveAddress, treeAddress } from "./address";
import { scaleOf, Whisker } from "./charts/whisker";
import { readShownText } from "./file-text";
import { type FrontMatter, FrontMatterTable, Tags } from "./front-matter";
import { Gate } from "./gate";
import { answer, Time } from "./layout";
import { LineageLists } from "./lineage";
import { renderCard } from "./markdown";
import { MergeSummary } from "./merge";
import { RepoFrame, RepoName, RevisionMenu } from "./repo-frame";
import { UseIt } from "./snippets";
import { parseTraining, TrainingSummary } from "./training";
import { byteSize, dateTime, metricName, score, shortCount, shortId, wholeNumber } from "./wording";

const README = "README.md";
const WEIGHTS = "model.safetensors";
const TRAINING = "training.json";
/** Longer cards are read in their file. Bytes. */
const MAX_CARD_BYTES = 400_000;
/** A header that costs more than this to read is left to the page of its file. Bytes. */
const MAX_HEADER_BYTES = 1_000_000;

export async function card(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const { platform } = caller;
  const revision = parseRevision(c.req.query("revision") ?? "main");
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), revision);
  const [
    overview,
    lineage,
    [readme = null, weights = null, training = null, recipe = null, config = null, task = null],
  ] = await Promise.all([
    readOverview(caller, snapshot),
    readLineage(caller, snapshot),
    findStoredFiles(
      platform.db,
      [README, WEIGHTS, TRAINING, RECIPE_PATH, "config.json", "task.json"].map((path) => ({ snapshot, path })),
    ),
  ]);
  const { repo, commit } = snapshot;
  const link = linkOf(repo);
  const origin = originOf(c);
  const mayRead = may(caller, { action: "repo.use", repo, purpose: "download" });
  // A record in the tree speaks of this commit only where the hub itself made it.
  const merge = mayRead && lineage.parents.length > 0 ? recipe : null;
  const [text, tensors, record, recipeText, verifications] = await Promise.all([
    readme === null ? null : readShownText(platform, readme, MAX_CARD_BYTES),
    weights === null ? null : readTensors(platform, weights, MAX_HEADER_BYTES),
    training === null || !mayRead ? null : readShownText(platform, training, MAX_CARD_BYTES),
    merge === null ? null : readShownText(platform, merge, MAX_CARD_BYTES),
    merge === null ? null : readVerifications(platform, snapshot),
  ]);
  const data = text === null ? null : shownCardData(text);
  const facts = overview.facts ?? (await computeFacts(platform, snapshot));
  const trained = record === null ? null : parseTraining(record);
  const merged = recipeText === null ? null : parseRecipeDocument(recipeText);
  return answer(c, {
    title: repoName(repo),
    description: `${repoName(repo)} on OWM Hub`,
    children: (
      <RepoFrame repo={repo} revision={revision} tab="card">
        <div class="bar">
          <span class="soft small">
            Changed <Time ms={overview.commit.at} text={dateTime(overview.commit.at)} /> at{" "}
            <code class="pick" title={commit}>
              {shortId(commit)}
            </code>
          </span>
          <RevisionMenu overview={overview} revision={revision} to={(name) => cardAddress(link, name)} />
        </div>
        <div class="columns">
          <div>
            <Tags license={facts.license} tags={facts.tags} />
            {data === null ? null : <FrontMatterTable data={data} />}
            {text === null ? (
              <div class="box pad">
                {readme === null ? (
                  <p>There is no card yet: publish a README.md that tells what this is and how it was made.</p>
                ) : (
                  <p>
                    The card is too long for this page:{" "}
                    <a href={resolveAddress(link, revision, README)}>read README.md itself</a>.
                  </p>
                )}
                <a href={treeAddress(link, revision)}>See the files</a>
              </div>
            ) : (
              <article class="prose">
                {raw(renderCard(splitFrontMatter(text).body, { repo: link, revision, origin }))}
              </article>
            )}
          </div>
          <div class="side">
            <Gate repo={repo} origin={origin} readme={text} />
            {weights === null ? (
              <Parameters count={parametersOf(facts)} />
            ) : (
              <WeightsSummary file={weights} tensors={tensors} href={blobAddress(link, revision, WEIGHTS)} />
            )}
            {overview.score === null ? null : (
              <ScoreSummary score={overview.score} href={evaluationsAddress(link, revision)} />
            )}
            <LineageLists lineage={lineage} weights={overview.weights} />
            {merged === null || verifications === null ? null : (
              <MergeSummary
                recipe={merged}
                verifications={verifications}
                repo={link}
                revision={revision}
                origin={origin}
              />
            )}
            {trained === null ? null : (
              <TrainingSummary record={trained} href={blobAddress(link, revision, TRAINING)} />
            )}
            <UseIt
              repo={link}
              revision={revision}
              origin={origin}
              file={(weights ?? config ?? task ?? readme)?.path ?? README}
              needsToken={!isOpen(repo)}
            />
          </div>
        </div>
      </RepoFrame>
    ),
  });
}

/** The front matter where it can be read: a card with a broken one is still shown. */
function shownCardData(text: string): FrontMatter | null {
  const parsed = parseCard(text);
  return "card" in parsed && Object.keys(parsed.card.data).length > 0 ? parsed.card.data : null;
}

type ScoreProps = { readonly score: NonNullable<Overview["score"]>; readonly href: string };

function ScoreSummary({ score: { results, dataset, split }, href }: ScoreProps) {
  const scale = scaleOf(results);
  return (
    <section aria-labelledby="score">
      <h2 id="score">
        Evaluated on <RepoName repo={dataset} />, split {split}
      </h2>
      <table class="tight">
        <tbody>
          {results.map((metric) => (
            <tr>
              <th scope="row">{metricName(metric.metric)}</th>
              <td class="num">{score(metric.value)}</td>
              <td>
                <Whisker metric={metric} scale={scale} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="small">
        <a href={href}>Intervals, confusion matrix, how to recompute</a>
      </p>
    </section>
  );
}

/** Of weights in several files, or of another format. */
function Parameters({ count }: { readonly count: number | null }) {
  return count === null ? null : (
    <section aria-labelledby="weights">
      <h2 id="weights">Weights</h2>
      <dl class="facts">
        <dt>Parameters</dt>
        <dd>{shortCount(count)}</dd>
      </dl>
    </section>
  );
}

type WeightsProps = { readonly file: StoredFile; readonly tensors: Tensors | null; readonly href: string };

function WeightsSummary({ file, tensors, href }: WeightsProps) {
  return (
    <section aria-labelledby="weights">
      <h2 id="weights">Weights</h2>
      <dl class="facts">
        {tensors?.kind === "read" ? (
          <>
            <dt>Parameters</dt>
            <dd>{shortCount(tensors.header.parameters)}</dd>
            <dt>Types</dt>
            <dd>
              {dtypeShares(tensors.header)
                .map(({ dtype, parameters }, _, all) =>
                  all.length === 1 ? dtype : `${dtype} ${shortCount(parameters)}`,
                )
                .join(", ")}
            </dd>
            <dt>Tensors</dt>
            <dd>
              <a href={href}>{wholeNumber(tensors.header.tensors.size)}</a>
            </dd>
          </>
        ) : null}
        <dt>Size</dt>
        <dd>{byteSize(file.size)}</dd>
      </dl>
      {tensors?.kind === "invalid" ? <p class="small">The header can't be read: it {tensors.problem}.</p> : null}
    </section>
  );
}
