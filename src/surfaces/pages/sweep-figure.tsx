// The curve of a λ sweep, found from what the evaluated commits were merged from and not from how branches are called.
import type { Overview, RepoLink } from "../../hub/overview";
import type { Score } from "../../hub/scores";
import { evaluationAddress } from "./address";
import { Sweep, type SweepPoint } from "./charts/sweep";
import { RepoName } from "./repo-frame";
import { metricName } from "./wording";

/** Fewer points are no curve. */
const MIN_POINTS = 3;
/** Weights closer than this are the same share, whatever rounding did to them. */
const SAME = 1e-9;

export type SweepFigureProps = {
  readonly scores: readonly Score[];
  /** Of the merge that `main` (or the revision shown) holds. */
  readonly chosenWeights: Overview["weights"];
  readonly repo: RepoLink;
};

/** The share of the first model; null where the weights cancel out. */
function shareOf([a = 0, b = 0]: readonly number[]): number | null {
  const sum = a + b;
  return Math.abs(sum) < SAME ? null : a / sum;
}

export function SweepFigure({ scores, chosenWeights, repo }: SweepFigureProps) {
  const ofTwo = scores.filter((one) => one.shares.length === 2);
  const [first] = ofTwo;
  const [a, b] = first?.shares ?? [];
  const metric = first?.record.results[0]?.metric;
  if (a === undefined || b === undefined || metric === undefined) return null;
  const ofBoth = chosenWeights.filter((weight) => weight !== null);
  const chosen = ofBoth.length === 2 ? shareOf(ofBoth) : null;
  const points = new Map<number, SweepPoint>();
  for (const one of ofTwo) {
    const weights = [a, b].map(({ key }) => one.shares.find((share) => share.key === key)?.weight);
    const result = one.record.results.find((each) => each.metric === metric);
    const known = weights.filter((weight) => weight !== undefined);
    const share = known.length === 2 ? shareOf(known) : null;
    if (share === null || result === undefined) continue;
    const place = Math.round(share / SAME);
    // Scores come newest first: of two evaluations of one share the newer counts.
    if (!points.has(place))
      points.set(place, {
        share,
        metric: result,
        href: evaluationAddress(repo, one.id),
        chosen: chosen !== null && Math.abs(chosen - share) < SAME,
      });
  }
  if (points.size < MIN_POINTS) return null;
  const ordered = [...points.values()].sort((one, other) => one.share - other.share);
  return (
    <figure class="box pad">
      <div class="scroll" tabindex={0}>
        <Sweep points={ordered} label={metricName(metric)} axis="λ" />
      </div>
      <figcaption class="small soft">
        {metricName(metric)} of λ · <RepoName repo={a.repo} /> + (1 − λ) · <RepoName repo={b.repo} />, with 95 %
        intervals.
        {ordered.some((point) => point.chosen) ? " The ring marks the λ of the revision shown." : ""}
      </figcaption>
    </figure>
  );
}
