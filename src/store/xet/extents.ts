// Sets of stored bytes: which ranges of which objects, so that what two revisions share is counted once.

/** Bytes [start, end) of one object. */
export type Extent = { readonly object: string; readonly start: number; readonly end: number };

/** Disjoint ranges in order, as start, end, start, end, … */
type Ranges = readonly number[];

/** Sorted and merged. `pairs`: start, end. */
function merged(pairs: readonly (readonly [number, number])[]): Ranges {
  const ranges: number[] = [];
  for (const [start, end] of pairs.toSorted((a, b) => a[0] - b[0])) {
    if (end <= start) continue;
    const last = ranges.at(-1);
    if (last !== undefined && start <= last) ranges[ranges.length - 1] = Math.max(last, end);
    else ranges.push(start, end);
  }
  return ranges;
}

const pairsOf = (ranges: Ranges): [number, number][] =>
  Array.from({ length: ranges.length / 2 }, (_, i) => [ranges[2 * i] ?? 0, ranges[2 * i + 1] ?? 0]);

/** What is left of one set of ranges without another. */
function difference(from: Ranges, without: Ranges): Ranges {
  const left: number[] = [];
  let next = 0;
  for (const [start, end] of pairsOf(from)) {
    let at = start;
    while (next < without.length && (without[next + 1] ?? 0) <= at) next += 2;
    for (let i = next; i < without.length && (without[i] ?? 0) < end; i += 2) {
      if ((without[i] ?? 0) > at) left.push(at, without[i] ?? 0);
      at = Math.max(at, without[i + 1] ?? 0);
    }
    if (at < end) left.push(at, end);
  }
  return left;
}

export class Extents {
  readonly #objects: ReadonlyMap<string, Ranges>;

  private constructor(objects: ReadonlyMap<string, Ranges>) {
    this.#objects = objects;
  }

  static of(extents: Iterable<Extent>): Extents {
    const pairs = new Map<string, [number, number][]>();
    for (const { object, start, end } of extents) {
      const known = pairs.get(object);
      if (known === undefined) pairs.set(object, [[start, end]]);
      else known.push([start, end]);
    }
    return new Extents(new Map(Array.from(pairs, ([object, all]) => [object, merged(all)])));
  }

  /** Bytes. */
  get size(): number {
    let size = 0;
    for (const ranges of this.#objects.values()) for (const [start, end] of pairsOf(ranges)) size += end - start;
    return size;
  }

  union(other: Extents): Extents {
    const objects = new Map(this.#objects);
    for (const [object, ranges] of other.#objects)
      objects.set(object, merged([...pairsOf(objects.get(object) ?? []), ...pairsOf(ranges)]));
    return new Extents(objects);
  }

  minus(other: Extents): Extents {
    const objects = new Map<string, Ranges>();
    for (const [object, ranges] of this.#objects) {
      const left = difference(ranges, other.#objects.get(object) ?? []);
      if (left.length > 0) objects.set(object, left);
    }
    return new Extents(objects);
  }
}
