// How the weights were trained, from the `training.json` beside them: what was set, and the loss as it fell.
import * as z from "zod";
import { Sparkline } from "./charts/sparkline";
import { shortId, wholeNumber } from "./wording";

const Settings = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]));

/** Anyone may write the file: what is not as expected is left out. */
const TrainingRecord = z.object({
  optimizer: Settings.catch({}),
  hyperparameters: Settings.catch({}),
  init: z.string().nullish().catch(null),
  seed: z.number().nullish().catch(null),
  split: z.string().nullish().catch(null),
  n: z.number().nullish().catch(null),
  data_sha256: z.string().nullish().catch(null),
  data: z.object({ sha256: z.string().optional(), rows: z.number().optional() }).nullish().catch(null),
  loss_curve: z.array(z.number()).max(100_000).catch([]),
  training_accuracy: z.number().nullish().catch(null),
});
export type TrainingRecord = z.output<typeof TrainingRecord>;

/** Null where the text is no such record. */
export function parseTraining(text: string): TrainingRecord | null {
  try {
    const parsed = TrainingRecord.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

export function TrainingSummary({ record, href }: { readonly record: TrainingRecord; readonly href: string }) {
  const { optimizer, hyperparameters, init, seed, data, loss_curve: losses, training_accuracy: accuracy } = record;
  const { name, ...settings } = optimizer;
  const samples = record.n ?? data?.rows;
  const digest = record.data_sha256 ?? data?.sha256;
  const facts: readonly (readonly [string, string | null | undefined])[] = [
    ["Optimizer", name === undefined ? null : `${name}${listed(settings)}`],
    ...Object.entries(hyperparameters).map(([key, value]) => [sentence(key), String(value)] as const),
    ["Initialization", init],
    ["Seed", seed?.toString()],
    ["Samples", samples === undefined ? null : wholeNumber(samples)],
    ["Data SHA-256", digest === undefined ? null : `${shortId(digest)}…`],
    ["Training accuracy", accuracy?.toFixed(4)],
  ];
  return (
    <section aria-labelledby="training">
      <h2 id="training">
        <a href={href}>Training record</a>
      </h2>
      <dl class="facts small">
        {facts.map(([key, value]) =>
          value === null || value === undefined ? null : (
            <>
              <dt>{key}</dt>
              <dd>{value}</dd>
            </>
          ),
        )}
      </dl>
      {losses.length < 2 ? null : <Sparkline values={losses} label="Loss" unit="epoch" />}
    </section>
  );
}

const listed = (settings: z.output<typeof Settings>): string => {
  const parts = Object.entries(settings).map(([key, value]) => `${key} ${value}`);
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
};

const sentence = (key: string): string => (key.charAt(0).toUpperCase() + key.slice(1)).replaceAll("_", " ");
