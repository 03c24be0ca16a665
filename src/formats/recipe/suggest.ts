// Which known name a misspelt one was meant to be.

/** How to mend a name that is not known. */
export function didYouMean(name: string, known: readonly string[]): string {
  const suggestion = nearest(name, known);
  if (suggestion !== null) return `did you mean \`${suggestion}\`?`;
  return known.length === 0 ? "remove it" : `use one of ${known.join(", ")}`;
}

/** The known name that is near enough to be meant. */
export function nearest(name: string, known: readonly string[]): string | null {
  let best: string | null = null;
  // A third of the letters may be wrong: more, and the suggestion is a guess.
  let least = Math.max(1, Math.floor(Math.min(name.length, 64) / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name, candidate, least);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

/** Letters to insert, delete, replace or swap with their neighbour; `most` or more comes back as `most`. */
function editDistance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) >= most) return most;
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min((above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (above[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1);
      row.push(cost);
    }
    if (Math.min(...row) >= most) return most;
    before = above;
    above = row;
  }
  return above[b.length] ?? most;
}
