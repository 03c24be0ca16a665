// Which lines differ between two texts: the shortest edit by Myers' greedy algorithm, given up where it would take too long.

/** Lines `from` to `to` (exclusive) became lines `newFrom` to `newTo`. */
export type Run = { readonly from: number; readonly to: number; readonly newFrom: number; readonly newTo: number };

/** Insertions and deletions that are looked for; texts that differ in more are shown as replaced where they differ. */
const MAX_EDITS = 800;

/** In order, and none of them next to another. */
export function changedRuns(old: readonly string[], now: readonly string[]): Run[] {
  const shorter = Math.min(old.length, now.length);
  let start = 0;
  while (start < shorter && old[start] === now[start]) start++;
  let same = 0;
  while (same < shorter - start && old[old.length - 1 - same] === now[now.length - 1 - same]) same++;
  const [to, newTo] = [old.length - same, now.length - same];
  if (start === to && start === newTo) return [];
  const matches = start === to || start === newTo ? [] : commonLines(old.slice(start, to), now.slice(start, newTo));
  const runs: Run[] = [];
  let [at, newAt] = [start, start];
  for (const { x, y, length } of [...matches, { x: to - start, y: newTo - start, length: 0 }]) {
    if (start + x > at || start + y > newAt) runs.push({ from: at, to: start + x, newFrom: newAt, newTo: start + y });
    [at, newAt] = [start + x + length, start + y + length];
  }
  return runs;
}

type Match = { readonly x: number; readonly y: number; readonly length: number };

/** Stretches of lines that both keep, in order; none where the texts differ too much to tell. */
function commonLines(old: readonly string[], now: readonly string[]): Match[] {
  const most = Math.min(MAX_EDITS, old.length + now.length);
  const offset = most + 1;
  /** By diagonal `x - y`: how far in the old text the edits so far lead. */
  const reach = new Int32Array(2 * offset + 1);
  const rounds: Int32Array[] = [];
  for (let edits = 0; edits <= most; edits++) {
    rounds.push(reach.slice(offset - edits - 1, offset + edits + 2));
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      let x = stepTo((k) => reach[offset + k] ?? 0, diagonal, edits);
      let y = x - diagonal;
      while (x < old.length && y < now.length && old[x] === now[y]) {
        x++;
        y++;
      }
      reach[offset + diagonal] = x;
      if (x >= old.length && y >= now.length) return walkBack(rounds, old.length, now.length);
    }
  }
  return [];
}

type Reach = (diagonal: number) => number;

/** Whether the last edit on a diagonal was an insertion, from the diagonal above: from whichever was further. */
const isInsertion = (reach: Reach, diagonal: number, edits: number): boolean =>
  diagonal === -edits || (diagonal !== edits && reach(diagonal - 1) < reach(diagonal + 1));

/** Where the last edit leads on a diagonal. */
const stepTo = (reach: Reach, diagonal: number, edits: number): number =>
  isInsertion(reach, diagonal, edits) ? reach(diagonal + 1) : reach(diagonal - 1) + 1;

function walkBack(rounds: readonly Int32Array[], oldLength: number, newLength: number): Match[] {
  const matches: Match[] = [];
  let [x, y] = [oldLength, newLength];
  for (let edits = rounds.length - 1; edits >= 0; edits--) {
    const before = rounds[edits];
    const reach: Reach = (k) => before?.[k + edits + 1] ?? 0;
    const diagonal = x - y;
    const start = edits === 0 ? 0 : stepTo(reach, diagonal, edits);
    if (x > start) matches.push({ x: start, y: start - diagonal, length: x - start });
    if (edits === 0) break;
    [x, y] = isInsertion(reach, diagonal, edits) ? [start, start - diagonal - 1] : [start - 1, start - diagonal];
  }
  return matches.reverse();
}
