// Unified diffs as git writes them: of one file each, with its modes, for programs and people that know `git diff`.
import type { GitId } from "../../ids";
import { decodeUtf8 } from "../text";
import { changedRuns, type Run } from "./changed-lines";
import type { TreeMode } from "./tree";

export type DiffSide = {
  readonly mode: Exclude<TreeMode, "40000">;
  readonly id: GitId;
  /** Null for what is not to be shown as text. */
  readonly text: string | null;
};
export type FileDiff = { readonly path: string; readonly before: DiffSide | null; readonly after: DiffSide | null };

/** Lines shown around each change. */
const CONTEXT = 3;
/** Where git looks for the NUL byte that makes a file binary. */
const SNIFFED_BYTES = 8000;

/** The text of a file as a diff can show it; null for what git calls binary, and for what is no UTF-8. */
export function diffableText(bytes: Uint8Array): string | null {
  if (bytes.subarray(0, SNIFFED_BYTES).includes(0)) return null;
  try {
    return decodeUtf8(bytes, "diff", "is not UTF-8");
  } catch {
    return null;
  }
}

/** A file and a symbolic link of one name are a deletion and an addition, as for git. */
export function fileDiff({ path, before, after }: FileDiff): string {
  if (before !== null && after !== null && (before.mode === "120000") !== (after.mode === "120000"))
    return fileDiff({ path, before, after: null }) + fileDiff({ path, before: null, after });
  const lines = [`diff --git ${quoted(`a/${path}`)} ${quoted(`b/${path}`)}`];
  if (before === null && after !== null) lines.push(`new file mode ${after.mode}`);
  if (before !== null && after === null) lines.push(`deleted file mode ${before.mode}`);
  if (before !== null && after !== null && before.mode !== after.mode)
    lines.push(`old mode ${before.mode}`, `new mode ${after.mode}`);
  if (before?.id !== after?.id) {
    const mode = before !== null && before.mode === after?.mode ? ` ${before.mode}` : "";
    lines.push(`index ${short(before)}..${short(after)}${mode}`);
    lines.push(...contentDiff(path, before, after));
  }
  return `${lines.join("\n")}\n`;
}

const short = (side: DiffSide | null): string => (side === null ? "0000000000" : side.id.slice(0, 10));

function contentDiff(path: string, before: DiffSide | null, after: DiffSide | null): string[] {
  const names = [
    before === null ? "/dev/null" : quoted(`a/${path}`),
    after === null ? "/dev/null" : quoted(`b/${path}`),
  ];
  if (before?.text === null || after?.text === null) return [`Binary files ${names[0]} and ${names[1]} differ`];
  const [old, now] = [linesOf(before?.text ?? ""), linesOf(after?.text ?? "")];
  const hunks = hunksOf(changedRuns(old, now), old.length, now.length);
  if (hunks.length === 0) return [];
  // A tab ends names with spaces, as tools would else take the name to end there.
  const [from, to] = names.map((name) => (name.includes(" ") ? `${name}\t` : name));
  return [`--- ${from}`, `+++ ${to}`, ...hunks.flatMap((hunk) => hunkLines(hunk, old, now))];
}

/** Lines with their line feeds; the last may have none. */
const linesOf = (text: string): string[] => text.match(/[^\n]*\n|[^\n]+$/g) ?? [];

/** Changes so near to each other that what is shown around them meets. */
type Hunk = { readonly runs: readonly Run[]; readonly before: number; readonly after: number };

function hunksOf(runs: readonly Run[], oldLines: number, newLines: number): Hunk[] {
  const groups: Run[][] = [];
  for (const run of runs) {
    const last = groups.at(-1);
    const previous = last?.at(-1);
    if (last !== undefined && previous !== undefined && run.from - previous.to <= 2 * CONTEXT) last.push(run);
    else groups.push([run]);
  }
  return groups.map((group) => {
    const [first, last] = [group[0], group.at(-1)];
    return {
      runs: group,
      before: Math.min(CONTEXT, first?.from ?? 0),
      after: Math.min(CONTEXT, oldLines - (last?.to ?? oldLines), newLines - (last?.newTo ?? newLines)),
    };
  });
}

function hunkLines({ runs, before, after }: Hunk, old: readonly string[], now: readonly string[]): string[] {
  const [first, last] = [runs[0], runs.at(-1)];
  if (first === undefined || last === undefined) return [];
  const [from, to] = [first.from - before, last.to + after];
  const [newFrom, newTo] = [first.newFrom - before, last.newTo + after];
  const lines = [`@@ -${extent(from, to)} +${extent(newFrom, newTo)} @@`];
  let at = from;
  for (const run of runs) {
    for (const line of old.slice(at, run.from)) lines.push(...shown(" ", line));
    for (const line of old.slice(run.from, run.to)) lines.push(...shown("-", line));
    for (const line of now.slice(run.newFrom, run.newTo)) lines.push(...shown("+", line));
    at = run.to;
  }
  for (const line of old.slice(at, to)) lines.push(...shown(" ", line));
  return lines;
}

/** Lines count from 1; of none, the line before is named. */
const extent = (from: number, to: number): string => {
  const count = to - from;
  return count === 1 ? `${from + 1}` : `${count === 0 ? from : from + 1},${count}`;
};

const shown = (sign: string, line: string): string[] =>
  line.endsWith("\n") ? [sign + line.slice(0, -1)] : [sign + line, "\\ No newline at end of file"];

const ESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\" };

/** In quotes where git would read the name otherwise. */
function quoted(name: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is written otherwise
  const special = /[\x00-\x1f\x7f"\\]/g;
  if (!special.test(name)) return name;
  const escaped = name.replace(special, (one) => ESCAPES[one] ?? `\\${one.charCodeAt(0).toString(8).padStart(3, "0")}`);
  return `"${escaped}"`;
}
