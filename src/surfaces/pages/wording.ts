// How pages write figures: sizes, counts, times and scores, the same everywhere.
import type { RepoType } from "../../ids";

const UNITS = ["kB", "MB", "GB", "TB", "PB"];

/** Decimal units, as file listings of the ecosystem show them: 42 bytes, 14.2 kB. */
export function byteSize(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  let value = bytes;
  let unit = "B";
  for (const next of UNITS) {
    if (value < 999.5) break;
    value /= 1000;
    unit = next;
  }
  return `${value.toPrecision(3)} ${unit}`;
}

const whole = new Intl.NumberFormat("en");

export const wholeNumber = (value: number): string => whole.format(value);

/** 4,810 as it is; 7.24 B for what no one counts. */
export function shortCount(value: number): string {
  for (const [size, unit] of [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
  ] as const)
    if (value >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  return wholeNumber(value);
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

const two = (value: number): string => String(value).padStart(2, "0");

/** 19:47:05, where the day is told elsewhere. */
export function clock(ms: number): string {
  const date = new Date(ms);
  return `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
}

/** 22 Nov 2026. */
export function day(ms: number): string {
  const date = new Date(ms);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()}`;
}

/** 22 Nov 2026, 19:47 UTC. */
export function dateTime(ms: number): string {
  const date = new Date(ms);
  return `${day(ms)}, ${two(date.getUTCHours())}:${two(date.getUTCMinutes())} UTC`;
}

/** A share from 0 to 1 as metrics are read: 0.9432. */
export const score = (value: number): string => value.toFixed(4);

/** A weight without the noise of binary fractions: 0.3, not 0.30000000000000004. */
export const weightText = (value: number): string => String(Number(value.toPrecision(6)));

export const shortId = (id: string): string => id.slice(0, 10);

const METRIC_NAMES: Readonly<Record<string, string>> = {
  accuracy: "Accuracy",
  precision: "Precision",
  recall: "Recall",
  f1: "F1",
  roc_auc: "ROC-AUC",
};

export const metricName = (metric: string): string =>
  Object.hasOwn(METRIC_NAMES, metric) ? (METRIC_NAMES[metric] ?? metric) : metric;

export const KIND_NAMES: Record<RepoType, string> = { model: "Models", dataset: "Datasets" };
