// One job: where it is, what it was asked, what it reads, what it made, and its log; followed live where scripts run.
import * as z from "zod";
import { type JobEvent, readJobEvents } from "../../compute/job-events";
import { findJob, hasEnded, type Job } from "../../compute/jobs";
import { Plan, sourcesOf, type VerifyPlan } from "../../compute/plan";
import { HubError } from "../../errors";
import type { RepoLink } from "../../hub/overview";
import { parseJobId } from "../../ids";
import { type Ctx, callerOf } from "../hf/request";
import { cardAddress, commitAddress, evaluationAddress } from "./address";
import { Sparkline } from "./charts/sparkline";
import { answer, Time } from "./layout";
import { clock, dateTime, shortId, wholeNumber } from "./wording";

/** A page shows the first so many events; the feed has all. */
const MAX_EVENTS = 500;

const Progress = z.object({ done: z.number(), total: z.number(), unit: z.string().default("") });
const Failure = z.object({ code: z.string(), message: z.string(), fix: z.string().optional() });
const Measured = z.object({ evaluation: z.string() });
const Verified = z.object({
  verified: z.boolean(),
  determinism: z.string(),
  files: z.array(z.object({ path: z.string(), expected: z.string(), got: z.string().nullable(), equal: z.boolean() })),
});
const Published = z.object({ repo: z.string(), commit: z.string(), branch: z.string().optional() });

const titles = { merge: "Merge", verify: "Verification", evaluate: "Evaluation", train: "Training" } as const;

export async function job(c: Ctx): Promise<Response> {
  const caller = callerOf(c);
  const text = c.req.param("id") ?? "";
  const missing = new HubError("job_not_found", { id: text.slice(0, 60) });
  // Who is not signed in sees no job, and learns of none.
  if (caller.actor.kind !== "user") throw missing;
  if (!/^job_[0-9a-z]{26}$/.test(text)) throw missing;
  const found = await findJob(caller, parseJobId(text, "id"));
  const events = await readJobEvents(caller.platform, found.id, 0, MAX_EVENTS);
  const ended = hasEnded(found.state);
  const plan = Plan.safeParse(found.spec);
  const losses = events.flatMap(({ type, data }) => {
    const metric = type === "metric" ? MetricData.safeParse(data) : null;
    return metric?.success && metric.data.name === "loss" ? [metric.data.value] : [];
  });
  return answer(c, {
    title: `${titles[found.kind]} ${found.state} · OWM Hub`,
    live: !ended,
    children: (
      <div
        data-job-events={ended ? undefined : `/api/v1/jobs/${found.id}/events`}
        data-job-seen={String(events.at(-1)?.seq ?? 0)}
      >
        <div class="title">
          <h1>{titles[found.kind]}</h1>
          <span class={`badge ${found.state === "failed" ? "bad" : "on"}`} data-job-state aria-live="polite">
            {found.state}
          </span>
        </div>
        <p class="mono soft pick">{found.id}</p>
        {ended ? null : <Running job={found} href={c.req.path} />}
        <Failed error={found.error} />
        <div class="columns">
          <div>
            <Made job={found} plan={plan.success ? plan.data : null} />
            {losses.length < 2 ? null : <Sparkline values={losses} label="Loss" unit="epoch" />}
            <h2>Log</h2>
            <ol class="log box pad" data-job-log>
              {events.map((event) => (
                <li>
                  <span class="soft">{clock(event.at)}</span> {eventText(event)}
                </li>
              ))}
            </ol>
          </div>
          <div class="side">
            <section>
              <h2>Reads</h2>
              <ul class="parents">
                {(plan.success ? sourcesOf(plan.data) : []).map(({ type, repo, commit, files }) => (
                  <li>
                    <a href={cardAddress({ type, name: repo })}>{repo}</a>{" "}
                    <a class="mono" href={commitAddress({ type, name: repo }, commit)}>
                      {shortId(commit)}
                    </a>
                    <div class="soft small">{files.map((file) => file.path).join(", ")}</div>
                  </li>
                ))}
              </ul>
            </section>
            <Times job={found} />
          </div>
        </div>
        <h2>Asked</h2>
        <pre tabindex={0}>
          <code class="pick">{JSON.stringify(found.request, null, 2)}</code>
        </pre>
      </div>
    ),
  });
}

function Running({ job: { progress, state }, href }: { readonly job: Job; readonly href: string }) {
  const known = Progress.safeParse(progress);
  const { done, total } = known.success ? known.data : { done: 0, total: 0 };
  return (
    <div class="bar">
      <div class="progress">
        <span data-job-amount>{known.success ? amount(known.data) : `The job is ${state}`}</span>
        {total > 0 ? <progress aria-label="Progress" max={total} value={done} /> : <progress aria-label="Progress" />}
      </div>
      <a href={href} data-job-refresh>
        Refresh
      </a>
    </div>
  );
}

function Failed({ error }: { readonly error: unknown }) {
  const known = Failure.safeParse(error);
  return known.success ? (
    <div class="box pad">
      <p>
        <strong>{known.data.message}</strong>
      </p>
      {known.data.fix === undefined ? null : <p>{known.data.fix}</p>}
      <p class="soft small mono">{known.data.code}</p>
    </div>
  ) : null;
}

function Made({ job: { result, output, outputRef }, plan }: { readonly job: Job; readonly plan: Plan | null }) {
  const measured = Measured.safeParse(result);
  if (measured.success && plan?.kind === "evaluate") {
    const model: RepoLink = { type: "model", name: plan.model.repo };
    return (
      <p>
        Measured: <a href={evaluationAddress(model, measured.data.evaluation)}>the evaluation of {model.name}</a>
      </p>
    );
  }
  const verified = Verified.safeParse(result);
  if (plan?.kind === "verify") return <Compared plan={plan} result={verified.success ? verified.data : null} />;
  const published = Published.safeParse(result);
  const branch = outputRef?.replace(/^refs\/heads\//, "");
  const link: RepoLink | null = output === null ? null : { type: "model", name: output.repo };
  if (published.success) {
    const made: RepoLink = { type: "model", name: published.data.repo };
    return (
      <p>
        Made <a href={cardAddress(made, published.data.branch)}>{published.data.repo}</a> at{" "}
        <a class="mono" href={commitAddress(made, published.data.commit)}>
          {shortId(published.data.commit)}
        </a>
        {published.data.branch === undefined ? null : <> on {published.data.branch}</>}
      </p>
    );
  }
  return link === null ? null : (
    <p>
      Writes to <a href={cardAddress(link)}>{link.name}</a>, branch {branch}
    </p>
  );
}

type ComparedProps = { readonly plan: VerifyPlan; readonly result: z.output<typeof Verified> | null };

function Compared({ plan: { subject }, result }: ComparedProps) {
  const model: RepoLink = { type: "model", name: subject.repo };
  const of = (
    <>
      <a href={cardAddress(model)}>{subject.repo}</a> at{" "}
      <a class="mono" href={commitAddress(model, subject.commit)}>
        {shortId(subject.commit)}
      </a>
    </>
  );
  if (result === null) return <p>Computes {of} again, and compares every file</p>;
  return (
    <>
      <p>
        {result.verified ? "Verified: every file of " : "Not the same bytes: "}
        {of}
        {result.verified ? " came out the same" : ` (determinism class ${result.determinism})`}
      </p>
      <div class="scroll" tabindex={0}>
        <table>
          <thead>
            <tr>
              <th scope="col">File</th>
              <th scope="col">Recorded</th>
              <th scope="col">Computed again</th>
            </tr>
          </thead>
          <tbody>
            {result.files.map(({ path, expected, got, equal }) => (
              <tr>
                <th scope="row">{path}</th>
                <td class="mono">{shortId(expected)}</td>
                <td class="mono">{got === null ? "not made" : equal ? "equal" : shortId(got)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Times({ job: { createdAt, startedAt, endedAt } }: { readonly job: Job }) {
  const rows = [
    ["Asked", createdAt],
    ["Started", startedAt],
    ["Ended", endedAt],
  ] as const;
  return (
    <section>
      <h2>When</h2>
      <dl class="facts small">
        {rows.map(([name, at]) =>
          at === null ? null : (
            <>
              <dt>{name}</dt>
              <dd>
                <Time ms={at} text={dateTime(at)} />
              </dd>
            </>
          ),
        )}
      </dl>
    </section>
  );
}

const StateData = z.object({ state: z.string() });
const LogData = z.object({ message: z.string() });
const MetricData = z.object({ name: z.string(), step: z.number(), value: z.number() });

/** One line of the log; what is not as expected is shown as it came. */
function eventText({ type, data }: JobEvent): string {
  const progress = Progress.safeParse(data);
  if (type === "progress" && progress.success) return amount(progress.data);
  const metric = MetricData.safeParse(data);
  if (type === "metric" && metric.success)
    return `${metric.data.name} ${metric.data.step}: ${metric.data.value.toPrecision(5)}`;
  const state = StateData.safeParse(data);
  if (type === "state" && state.success) return `state ${state.data.state}`;
  const log = LogData.safeParse(data);
  return type === "log" && log.success ? log.data.message : `${type} ${JSON.stringify(data)}`;
}

const amount = ({ done, total, unit }: z.output<typeof Progress>): string =>
  `${wholeNumber(done)} of ${wholeNumber(total)} ${unit}`;
