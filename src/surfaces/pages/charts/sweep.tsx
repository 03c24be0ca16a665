// A metric over the share of one model in a merge, each point with its interval.
import type { Metric } from "../../../hub/overview";
import { score, weightText } from "../wording";
import { intervalText, scaleOf } from "./whisker";

export type SweepPoint = {
  readonly share: number;
  readonly metric: Metric;
  readonly href: string;
  /** The share of what `main` holds. */
  readonly chosen: boolean;
};

const WIDTH = 640;
const HEIGHT = 280;
const LEFT = 48;
const RIGHT = 16;
const TOP = 18;
const BOTTOM = 44;
const TICKS = 5;

export type SweepProps = { readonly points: readonly SweepPoint[]; readonly label: string; readonly axis: string };

export function Sweep({ points, label, axis }: SweepProps) {
  const scale = scaleOf(points.map((point) => point.metric));
  const shares = points.map((point) => point.share);
  const low = Math.min(0, ...shares);
  const high = Math.max(1, ...shares);
  const x = (share: number): number => LEFT + ((share - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number): number =>
    HEIGHT - BOTTOM - ((value - scale.from) / (scale.to - scale.from)) * (HEIGHT - TOP - BOTTOM);
  const at = (value: number): string => value.toFixed(1);
  const ticks = Array.from({ length: TICKS + 1 }, (_, i) => i / TICKS);
  const best = points.reduce<SweepPoint | undefined>(
    (top, point) => (top === undefined || point.metric.value > top.metric.value ? point : top),
    undefined,
  );
  return (
    <svg class="chart sweep" viewBox={`0 0 ${WIDTH} ${HEIGHT}`}>
      <title>{`${label} over ${axis}`}</title>
      <desc>
        {`${points.length} merges${best === undefined ? "" : `; the highest value, ${score(best.metric.value)}, is at ${weightText(best.share)}`}.`}
      </desc>
      {ticks.map((part) => {
        const value = scale.from + part * (scale.to - scale.from);
        return (
          <>
            <line class="grid" x1={LEFT} x2={WIDTH - RIGHT} y1={at(y(value))} y2={at(y(value))} />
            <text class="dim" x={LEFT - 8} y={at(y(value) + 4)} text-anchor="end">
              {value.toFixed(2)}
            </text>
            <text class="dim" x={at(x(low + part * (high - low)))} y={HEIGHT - BOTTOM + 20} text-anchor="middle">
              {weightText(low + part * (high - low))}
            </text>
          </>
        );
      })}
      <text class="dim" x={at(x((low + high) / 2))} y={HEIGHT - 4} text-anchor="middle">
        {axis}
      </text>
      <polyline
        class="ring"
        stroke-width="1.5"
        stroke-opacity="0.5"
        points={points.map(({ share, metric }) => `${at(x(share))},${at(y(metric.value))}`).join(" ")}
      />
      {points.map(({ share, metric, href, chosen }) => (
        <a href={href} aria-label={`${weightText(share)}: ${score(metric.value)}, ${intervalText(metric)}`}>
          <title>{`${axis} ${weightText(share)}: ${score(metric.value)}, ${intervalText(metric)}`}</title>
          {metric.ci ? (
            <path
              class="mark"
              stroke-width="1.5"
              d={`M${at(x(share))} ${at(y(metric.ci.lo))}V${at(y(metric.ci.hi))}m-4 0h8M${at(x(share) - 4)} ${at(y(metric.ci.lo))}h8`}
            />
          ) : null}
          <circle class="mark" cx={at(x(share))} cy={at(y(metric.value))} r="4" />
          {chosen ? <circle class="ring" cx={at(x(share))} cy={at(y(metric.value))} r="8" stroke-width="1.5" /> : null}
        </a>
      ))}
    </svg>
  );
}
