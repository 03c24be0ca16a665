// A series as a small line: where it started, where it ended, and how it got there.
import { wholeNumber } from "../wording";

const WIDTH = 320;
const HEIGHT = 84;
const TOP = 6;
const BOTTOM = 24;
/** Longer series are drawn by every so many values. */
const MAX_POINTS = 300;

export type SparklineProps = {
  readonly values: readonly number[];
  readonly label: string;
  readonly unit: string;
};

export function Sparkline({ values, label, unit }: SparklineProps) {
  const step = Math.ceil(values.length / MAX_POINTS);
  const shown = values.map((value, i) => ({ value, i })).filter(({ i }) => i % step === 0 || i === values.length - 1);
  const low = Math.min(...shown.map(({ value }) => value));
  const high = Math.max(...shown.map(({ value }) => value));
  const x = (i: number): string => (4 + (i / (values.length - 1)) * (WIDTH - 8)).toFixed(1);
  const y = (value: number): string =>
    (HEIGHT - BOTTOM - ((value - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const [first = 0] = values;
  const last = values.at(-1) ?? 0;
  const number = (value: number): string => value.toPrecision(4);
  return (
    <svg class="chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img">
      <title>{`${label}: ${number(first)} after the first ${unit}, ${number(last)} after ${wholeNumber(values.length)}`}</title>
      <polyline class="ring" stroke-width="1.5" points={shown.map(({ value, i }) => `${x(i)},${y(value)}`).join(" ")} />
      <circle class="mark" cx={x(values.length - 1)} cy={y(last)} r="3" />
      <text x="4" y={HEIGHT - 4}>
        {`${label} ${number(first)} → ${number(last)}`}
      </text>
      <text class="dim" x={WIDTH - 4} y={HEIGHT - 4} text-anchor="end">
        {`${unit} ${wholeNumber(values.length)}`}
      </text>
    </svg>
  );
}
