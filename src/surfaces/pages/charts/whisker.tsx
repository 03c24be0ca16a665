// A value with its interval as a dot on a line, on a scale shared by a whole table.
import type { Metric } from "../../../hub/overview";
import { metricName, score } from "../wording";

export type Scale = { readonly from: number; readonly to: number };

const WIDTH = 110;
const HEIGHT = 14;
const EDGE = 4;
const STEP = 0.05;

/** The smallest span of whole steps that holds every interval. */
export function scaleOf(metrics: readonly Metric[]): Scale {
  const values = metrics.flatMap(({ value, ci }) => [value, ...(ci ? [ci.lo, ci.hi] : [])]);
  if (values.length === 0) return { from: 0, to: 1 };
  const from = Math.floor(Math.min(...values) / STEP + 1e-9) * STEP;
  const to = Math.ceil(Math.max(...values) / STEP - 1e-9) * STEP;
  return { from, to: to > from ? to : from + STEP };
}

export const scaleText = ({ from, to }: Scale): string => `${from.toFixed(2)}–${to.toFixed(2)}`;

export const intervalText = ({ ci }: Metric): string =>
  ci ? `${Math.round(ci.level * 100)} % interval ${score(ci.lo)} to ${score(ci.hi)} (${ci.method})` : "no interval";

export function Whisker({ metric, scale }: { readonly metric: Metric; readonly scale: Scale }) {
  const x = (value: number): string =>
    (EDGE + ((value - scale.from) / (scale.to - scale.from)) * (WIDTH - 2 * EDGE)).toFixed(1);
  const middle = HEIGHT / 2;
  const { value, ci } = metric;
  return (
    <svg class="whisker" width={WIDTH} height={HEIGHT} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img">
      <title>{`${metricName(metric.metric)} ${score(value)}, ${intervalText(metric)}`}</title>
      <line class="grid" x1={EDGE} x2={WIDTH - EDGE} y1={middle} y2={middle} />
      {ci ? (
        <path
          class="mark"
          fill="none"
          stroke-width="1.5"
          d={`M${x(ci.lo)} ${middle}H${x(ci.hi)}M${x(ci.lo)} ${middle - 4}v8M${x(ci.hi)} ${middle - 4}v8`}
        />
      ) : null}
      <circle class="mark" cx={x(value)} cy={middle} r="3" />
    </svg>
  );
}
