// A confusion matrix as a heat map with its numbers: rows are true classes, columns predictions, shade is the share of the row.
import { wholeNumber } from "../wording";

export type ConfusionProps = {
  readonly counts: readonly (readonly number[])[];
  readonly classes: readonly string[];
};

const CELL = 36;
const LEFT = 84;
const TOP = 46;
/** More classes than this can't be read as a matrix. */
export const MAX_CLASSES = 60;
/** Shade from which ink on the cell needs the other colour. */
const DARK = 0.6;

const labelText = (text: string): string => (text.length > 7 ? `${text.slice(0, 6)}…` : text);

export function Confusion({ counts, classes }: ConfusionProps) {
  const size = counts.length;
  const width = LEFT + size * CELL + 8;
  const height = TOP + size * CELL + 8;
  const middle = (i: number): number => i * CELL + CELL / 2;
  const right = counts.reduce((sum, row, i) => sum + (row[i] ?? 0), 0);
  const total = counts.flat().reduce((sum, count) => sum + count, 0);
  return (
    <svg class="chart matrix" viewBox={`0 0 ${width} ${height}`} role="img">
      <title>Confusion matrix</title>
      <desc>{describe(counts, classes, right, total)}</desc>
      <text class="dim" x={LEFT} y="14">
        Predicted →
      </text>
      <text class="dim" x="0" y={TOP + 14}>
        True ↓
      </text>
      {classes.map((name, i) => (
        <>
          <text x={LEFT + middle(i)} y={TOP - 10} text-anchor="middle">
            {labelText(name)}
          </text>
          <text x={LEFT - 10} y={TOP + middle(i) + 4} text-anchor="end">
            {labelText(name)}
          </text>
        </>
      ))}
      {counts.map((row, i) => {
        const sum = row.reduce((all, count) => all + count, 0);
        return row.map((count, j) => {
          const share = sum === 0 ? 0 : count / sum;
          return (
            <>
              <rect
                class="cell"
                x={LEFT + j * CELL + 1}
                y={TOP + i * CELL + 1}
                width={CELL - 2}
                height={CELL - 2}
                rx="4"
                fill-opacity={count === 0 ? "0.05" : (0.14 + share * 0.86).toFixed(2)}
              />
              {count === 0 ? null : (
                <text
                  class={share > DARK ? "over" : undefined}
                  x={LEFT + middle(j)}
                  y={TOP + middle(i) + 4}
                  text-anchor="middle"
                >
                  {count}
                </text>
              )}
            </>
          );
        });
      })}
    </svg>
  );
}

/** What the picture tells, in words: how much is right, and the confusions that are most frequent. */
function describe(
  counts: ConfusionProps["counts"],
  classes: ConfusionProps["classes"],
  right: number,
  total: number,
): string {
  const mistakes = counts
    .flatMap((row, i) =>
      row.map((count, j) => ({ count, from: classes[i] ?? String(i), to: classes[j] ?? String(j), wrong: i !== j })),
    )
    .filter(({ wrong, count }) => wrong && count > 0)
    .sort((a, b) => b.count - a.count)
    .slice(0, 5)
    .map(({ count, from, to }) => `${from} taken for ${to} ${count} times`);
  const most = mistakes.length === 0 ? "" : ` Most frequent: ${mistakes.join(", ")}.`;
  return `${wholeNumber(right)} of ${wholeNumber(total)} samples are on the diagonal.${most}`;
}
