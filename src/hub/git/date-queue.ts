// A queue that gives the newest commit first.
export class DateQueue {
  readonly #heap: number[] = [];
  readonly #dateOf: (commit: number) => number;

  constructor(dateOf: (commit: number) => number) {
    this.#dateOf = dateOf;
  }

  get size(): number {
    return this.#heap.length;
  }

  peek(): number | undefined {
    return this.#heap[0];
  }

  push(commit: number): void {
    const heap = this.#heap;
    let at = heap.push(commit) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!this.#isNewer(at, above)) break;
      this.#swap(at, above);
      at = above;
    }
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    heap[0] = last;
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      const newer = left + 1 < heap.length && this.#isNewer(left + 1, left) ? left + 1 : left;
      if (newer >= heap.length || !this.#isNewer(newer, at)) return first;
      this.#swap(at, newer);
      at = newer;
    }
  }

  #date(at: number): number {
    return this.#dateOf(this.#heap[at] ?? 0);
  }

  #isNewer(a: number, b: number): boolean {
    return this.#date(a) > this.#date(b);
  }

  #swap(a: number, b: number): void {
    const heap = this.#heap;
    [heap[a], heap[b]] = [heap[b] ?? 0, heap[a] ?? 0];
  }
}
