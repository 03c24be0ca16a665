// Prints: the machine, the load, and tables with aligned columns.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, loadavg, release, totalmem } from "node:os";
import * as z from "zod";
import { GIB } from "./bytes.ts";
import type { MemoryWatch } from "./processes.ts";
import { median, type Results, rate, ratio, samplesOf, spread } from "./rounds.ts";

const versionOf = (name: string): string => {
  const path = createRequire(import.meta.url).resolve(`${name}/package.json`);
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(path, "utf8"))).version;
};

export function printMachine(): void {
  const [cpu] = cpus();
  const memory = `${(totalmem() / 2 ** 30).toFixed(0)} GiB`;
  console.log(
    `${new Date().toISOString()}  ${cpus().length} × ${cpu?.model ?? "unknown CPU"}, ${memory}, ${release()}`,
  );
  console.log(`node ${process.versions.node}, workerd ${versionOf("workerd")}, miniflare ${versionOf("miniflare")}`);
}

export function printHeading(title: string): void {
  const load = loadavg().map((value) => value.toFixed(2));
  console.log(`\n${title}\nload average at the start: ${load.join(" ")}`);
}

/** The first column to the left, the others to the right. */
export function printTable(columns: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = columns.map((column, i) => Math.max(column.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  ");
  console.log(line(columns));
  console.log(widths.map((width) => "-".repeat(width)).join("  "));
  for (const row of rows) console.log(line(row));
}

/** Transfers of bytes, each beside `base`. */
export function printTransfers(results: Results, base: string): void {
  printTable(
    ["", "MB/s", "spread", "beside bare", "CPU s/GiB"],
    [...results.keys()].map((name) => {
      const samples = samplesOf(results, name);
      return [
        name,
        (median(samples.map(rate)) / 1e6).toFixed(0),
        spread(samples, 1e6),
        ratio(results, name, base).toFixed(2),
        median(samples.map((sample) => sample.cpuSeconds / (sample.work / GIB))).toFixed(2),
      ];
    }),
  );
}

export function printMemory(of: Record<string, MemoryWatch>): void {
  for (const [name, { beforeMiB, peakMiB }] of Object.entries(of))
    console.log(
      `memory of ${name}, node and workerd: ${beforeMiB.toFixed(0)} MiB before, ${peakMiB().toFixed(0)} at most`,
    );
}
