// Rounds that visit every target in turn, so that whatever else the machine does falls on all of them alike.
import { cpuSeconds } from "./processes.ts";

/** One timed run: `work` is bytes or requests; the CPU time is that of the serving processes. */
export type Sample = { readonly seconds: number; readonly work: number; readonly cpuSeconds: number };

export type Target = { readonly name: string; readonly run: () => Promise<Sample> };

export type Results = ReadonlyMap<string, readonly Sample[]>;

export const rate = (sample: Sample): number => sample.work / sample.seconds;

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const low = sorted[Math.floor((sorted.length - 1) / 2)];
  const high = sorted[Math.ceil((sorted.length - 1) / 2)];
  if (low === undefined || high === undefined) throw new Error("there is no median of nothing");
  return (low + high) / 2;
}

/** Times `run` and the CPU that the processes `pids` spend meanwhile; `run` tells how much work it did. */
export async function metered(pids: () => number[], run: () => Promise<number>): Promise<Sample> {
  const before = cpuSeconds(pids());
  const started = performance.now();
  const work = await run();
  const seconds = (performance.now() - started) / 1000;
  return { seconds, work, cpuSeconds: cpuSeconds(pids()) - before };
}

/** Every target once a round, each round beginning with another one; one uncounted round comes first. */
export async function interleave(targets: readonly Target[], rounds: number): Promise<Results> {
  const results = new Map<string, Sample[]>(targets.map(({ name }) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    const first = (round + 1) % targets.length;
    for (const target of [...targets.slice(first), ...targets.slice(0, first)]) {
      const sample = await target.run();
      if (round >= 0) results.get(target.name)?.push(sample);
    }
    process.stderr.write(round < 0 ? "  warm" : ` ${round + 1}/${rounds}${round === rounds - 1 ? "\n" : ""}`);
  }
  return results;
}

export function samplesOf(results: Results, name: string): readonly Sample[] {
  const samples = results.get(name);
  if (samples === undefined) throw new Error(`nothing was measured as ${name}`);
  return samples;
}

/** How fast `name` is beside `base`: the median of the quotients within a round. */
export function ratio(results: Results, name: string, base: string): number {
  const other = samplesOf(results, base);
  const quotients = samplesOf(results, name).flatMap((sample, round) => {
    const beside = other[round];
    return beside === undefined ? [] : [rate(sample) / rate(beside)];
  });
  return median(quotients);
}

/** Slowest and fastest round beside each other, for the reader to judge the noise by. */
export function spread(samples: readonly Sample[], unit: number): string {
  const rates = samples.map((sample) => rate(sample) / unit);
  return `${Math.min(...rates).toFixed(0)}–${Math.max(...rates).toFixed(0)}`;
}
