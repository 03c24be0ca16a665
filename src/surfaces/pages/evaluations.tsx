// Evaluations of a model or on a dataset: tables with intervals, the curve of a sweep of merges, and each evaluation in full.
import { HubError } from "../../errors";
import { type Overview, readOverview } from "../../hub/overview";
import { findSnapshot, type Repository, repoName } from "../../hub/repositories";
import { listScores, type Score } from "../../hub/scores";
import { parseRevision, type RepoType } from "../../ids";
import { type Ctx, callerOf, originOf, repoIdOf } from "../hf/request";
import { commitAddress, evaluationAddress, evaluationsAddress, linkOf } from "./address";
import { type Scale, scaleOf, scaleText, Whisker } from "./charts/whisker";
import { EvaluationDetail } from "./evaluation-detail";
import { answer, Time } from "./layout";
import { RepoFrame, RepoName, RevisionMenu } from "./repo-frame";
import { jobCommand } from "./snippets";
import { SweepFigure } from "./sweep-figure";
import { day, metricName, score, shortId, weightText, wholeNumber } from "./wording";

const MAIN = parseRevision("main");

export async function evaluations(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const asked = c.req.query("revision");
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), asked === undefined ? MAIN : parseRevision(asked));
  const { repo } = snapshot;
  const [overview, scores] = await Promise.all([
    readOverview(caller, snapshot),
    listScores(caller, repo, asked === undefined ? {} : { commit: snapshot.commit }),
  ]);
  const link = linkOf(repo);
  const headline = scores.find((one) => one.model.commit === snapshot.commit) ?? scores[0];
  return answer(c, {
    title: `Evaluations · ${repoName(repo)}`,
    children: (
      <RepoFrame repo={repo} revision={asked ?? "main"} tab="evaluations">
        <div class="bar">
          <span class="soft">
            {asked === undefined ? (
              "All revisions"
            ) : (
              <>
                Only {asked} · <a href={evaluationsAddress(link)}>all revisions</a>
              </>
            )}
          </span>
          <RevisionMenu overview={overview} revision={asked ?? "all"} to={(name) => evaluationsAddress(link, name)} />
        </div>
        {scores.length === 0 ? <NoScores c={c} repo={repo} /> : null}
        {groupsOf(scores).map((group) => (
          <Group group={group} repo={repo} overview={overview} />
        ))}
        {headline === undefined || repo.type !== "model" ? null : (
          <EvaluationDetail
            score={headline}
            origin={originOf(c)}
            heading={`Newest evaluation of ${headline.names[0] ?? shortId(headline.model.commit)}`}
          />
        )}
      </RepoFrame>
    ),
  });
}

export async function evaluation(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const id = c.req.param("id") ?? "";
  const snapshot = await findSnapshot(caller, repoIdOf(c, type), MAIN);
  const [found] = await listScores(caller, snapshot.repo, { id });
  if (found === undefined) throw new HubError("evaluation_not_found", { id: id.slice(0, 60) });
  return answer(c, {
    title: `Evaluation · ${repoName(snapshot.repo)}`,
    children: (
      <RepoFrame repo={snapshot.repo} revision="main" tab="evaluations">
        <p class="small">
          <a href={evaluationsAddress(linkOf(snapshot.repo))}>All evaluations</a>
        </p>
        <EvaluationDetail
          score={found}
          origin={originOf(c)}
          heading={`${found.model.repo.name} on ${found.dataset.repo.name}, split ${found.split}`}
        />
      </RepoFrame>
    ),
  });
}

/** Scores that may stand in one table: the same data, the same task. */
type ScoreGroup = { readonly key: string; readonly scores: readonly [Score, ...Score[]] };

function groupsOf(scores: readonly Score[]): ScoreGroup[] {
  const groups = new Map<string, [Score, ...Score[]]>();
  for (const one of scores) {
    const { dataset, split, record } = one;
    const key = [dataset.repo.name, dataset.commit, split, record.task.id, record.task.version].join(" ");
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return [...groups].map(([key, group]) => ({ key, scores: group }));
}

type GroupProps = { readonly group: ScoreGroup; readonly repo: Repository; readonly overview: Overview };

function Group({ group: { scores }, repo, overview }: GroupProps) {
  const [first] = scores;
  const metrics = [...new Set(scores.flatMap((one) => one.record.results.map((result) => result.metric)))];
  const columns = metrics.map(
    (name): Column => ({ name, scale: scaleOf(scores.flatMap((one) => resultsOf(one, name))) }),
  );
  const [main] = metrics;
  const ranked = [...scores].sort((a, b) => metricOf(b, main) - metricOf(a, main) || b.at - a.at);
  return (
    <section class="group">
      <h2>
        <RepoName repo={first.dataset.repo} />, split {first.split}
      </h2>
      <p class="soft small">
        {first.record.task.id} {first.record.task.version} · {wholeNumber(first.record.dataset.n)} samples · data at{" "}
        <a class="mono" href={commitAddress(first.dataset.repo, first.dataset.commit)}>
          {shortId(first.dataset.commit)}
        </a>{" "}
        · dots are values, lines their 95 % intervals, each column on its own scale
      </p>
      {repo.type === "model" ? (
        <SweepFigure scores={scores} chosenWeights={overview.weights} repo={linkOf(repo)} />
      ) : null}
      <div class="box scroll" tabindex={0}>
        <table>
          <thead>
            <tr>
              <th scope="col">{repo.type === "model" ? "Revision" : "Model"}</th>
              {columns.map(({ name, scale }) => (
                <th scope="col">
                  {metricName(name)} <span class="scale">{scaleText(scale)}</span>
                </th>
              ))}
              <th scope="col">Details</th>
            </tr>
          </thead>
          <tbody>
            {ranked.map((one) => (
              <ScoreRow one={one} columns={columns} repo={repo} />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

type Column = { readonly name: string; readonly scale: Scale };

const resultsOf = (one: Score, metric: string | undefined) =>
  one.record.results.filter((result) => result.metric === metric);
const metricOf = (one: Score, metric: string | undefined): number => resultsOf(one, metric)[0]?.value ?? 0;

type RowProps = {
  readonly one: Score;
  readonly columns: readonly Column[];
  readonly repo: Repository;
};

function ScoreRow({ one, columns, repo }: RowProps) {
  const [share] = one.shares;
  return (
    <tr>
      <th scope="row" class="nowrap">
        {repo.type === "model" ? null : (
          <div>
            <RepoName repo={one.model.repo} />
          </div>
        )}
        {one.names.slice(0, 3).map((name) => (
          <>
            <span class="badge on">{name}</span>{" "}
          </>
        ))}
        <a class="mono" href={commitAddress(one.model.repo, one.model.commit)}>
          {shortId(one.model.commit)}
        </a>
        {share === undefined || one.shares.length !== 2 ? null : (
          <div class="soft small">λ = {weightText(share.weight)}</div>
        )}
      </th>
      {columns.map(({ name, scale }) => {
        const [metric] = resultsOf(one, name);
        return (
          <td>
            {metric === undefined ? (
              "–"
            ) : (
              <>
                {score(metric.value)}
                <Whisker metric={metric} scale={scale} />
              </>
            )}
          </td>
        );
      })}
      <td>
        <a href={evaluationAddress(linkOf(repo), one.id)}>
          <Time ms={one.at} text={day(one.at)} />
        </a>
      </td>
    </tr>
  );
}

function NoScores({ c, repo }: { readonly c: Ctx; readonly repo: Repository }) {
  const [model, dataset] = repo.type === "model" ? [repoName(repo), "owner/dataset"] : ["owner/model", repoName(repo)];
  const request = { kind: "evaluate", model, dataset, split: "test" };
  return (
    <div class="box pad">
      <p>Nothing was evaluated yet. Ask for it:</p>
      <pre tabindex={0}>
        <code class="pick">{jobCommand(originOf(c), request)}</code>
      </pre>
    </div>
  );
}
