// One evaluation in full: its metrics, its confusion matrix, and everything needed to compute it again.
import type { Metric } from "../../hub/overview";
import type { Score } from "../../hub/scores";
import { commitAddress } from "./address";
import { Confusion, MAX_CLASSES } from "./charts/confusion";
import { scaleOf, scaleText, Whisker } from "./charts/whisker";
import { Time } from "./layout";
import { RepoName } from "./repo-frame";
import { dateTime, metricName, score as scoreText, shortId, wholeNumber } from "./wording";

export type DetailProps = { readonly score: Score; readonly origin: string; readonly heading: string };

export function EvaluationDetail({ score, origin, heading }: DetailProps) {
  const { record } = score;
  return (
    <section class="group">
      <h2>{heading}</h2>
      <div class="two">
        <div>
          <MetricTable metrics={record.results} />
          <Facts score={score} />
        </div>
        {record.confusion.length === 0 || record.confusion.length > MAX_CLASSES ? null : (
          <figure>
            <div class="scroll" tabindex={0}>
              <Confusion counts={record.confusion} classes={record.classes} />
            </div>
            <figcaption class="small soft">
              Rows are true classes, columns predictions; shade is the share of the row.
            </figcaption>
          </figure>
        )}
      </div>
      <Recompute score={score} origin={origin} />
    </section>
  );
}

function MetricTable({ metrics }: { readonly metrics: readonly Metric[] }) {
  const scale = scaleOf(metrics);
  return (
    <div class="scroll" tabindex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Metric</th>
            <th scope="col" class="num">
              Value
            </th>
            <th scope="col">95 % interval</th>
            <th scope="col">{scaleText(scale)}</th>
          </tr>
        </thead>
        <tbody>
          {metrics.map((metric) => (
            <tr>
              <th scope="row">{metricName(metric.metric)}</th>
              <td class="num">{scoreText(metric.value)}</td>
              <td class="nowrap">
                {metric.ci ? (
                  <>
                    {scoreText(metric.ci.lo)} – {scoreText(metric.ci.hi)}{" "}
                    <span class="soft small">{metric.ci.method}</span>
                  </>
                ) : (
                  "–"
                )}
              </td>
              <td>
                <Whisker metric={metric} scale={scale} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Facts({ score }: { readonly score: Score }) {
  const { model, dataset, split, record, at } = score;
  const { engine, device, threads } = record.env;
  return (
    <dl class="facts small">
      <dt>Model</dt>
      <dd>
        <RepoName repo={model.repo} />{" "}
        <a class="mono" href={commitAddress(model.repo, model.commit)}>
          {shortId(model.commit)}
        </a>
      </dd>
      <dt>Data</dt>
      <dd>
        <RepoName repo={dataset.repo} />{" "}
        <a class="mono" href={commitAddress(dataset.repo, dataset.commit)}>
          {shortId(dataset.commit)}
        </a>
        , split {split}
      </dd>
      <dt>Samples</dt>
      <dd>
        {wholeNumber(record.dataset.n)}
        {record.samples === null ? null : (
          <>
            {" "}
            · <a href={`/api/v1/evaluations/${encodeURIComponent(score.id)}/samples`}>output of each</a>
          </>
        )}
      </dd>
      <dt>Computed in</dt>
      <dd>
        {record.model.compute_dtype}, seed {record.task.seed}
      </dd>
      <dt>By</dt>
      <dd>
        {engine.name} {engine.version}
        {engine.torch === null ? "" : `, torch ${engine.torch}`}, {device}, {threads}{" "}
        {threads === 1 ? "thread" : "threads"}
      </dd>
      <dt>When</dt>
      <dd>
        <Time ms={at} text={dateTime(at)} />
      </dd>
    </dl>
  );
}

/** The job that gives this record again: revisions by commit, everything that matters spelled out. */
function Recompute({ score, origin }: { readonly score: Score; readonly origin: string }) {
  const { model, dataset, split, record } = score;
  const request = {
    kind: "evaluate",
    model: `${model.repo.name}@${model.commit}`,
    dataset: `${dataset.repo.name}@${dataset.commit}`,
    split,
    seed: record.task.seed,
    compute_dtype: record.model.compute_dtype,
    batch_size: record.env.batch_size,
  };
  return (
    <>
      <h3>How to recompute it</h3>
      <p class="small">
        The identity covers model, data, task, seed and engine by digest; equal identities are comparable:{" "}
        <code class="pick">sha256:{score.identity}</code>
      </p>
      <pre tabindex={0}>
        <code class="pick">{`POST ${origin}/api/v1/jobs\n${JSON.stringify(request, null, 2)}`}</code>
      </pre>
    </>
  );
}
