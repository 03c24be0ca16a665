// Random Xet files: chunks of all sizes and schemes, terms in any order, overlapping or twice, and the ranges worth asking for.
import fc from "fast-check";
import { expect } from "vitest";
import type { Scheme } from "../../../../src/formats/xet/chunk";
import type { ByteRange, Platform } from "../../../../src/platform/platform";
import { type Part, type StoredFile, storeFile, storeXorb } from "../../../kit/stored-xet";
import { randomBytes } from "../../../kit/xet";

const SCHEMES: readonly Scheme[] = [0, 1, 2];

const chunkPlan = fc.record({
  length: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 5000 }), fc.constant(131_072)),
  scheme: fc.constantFrom(...SCHEMES),
  packs: fc.boolean(),
});

export const filePlan = fc.record({
  seed: fc.integer({ min: 0, max: 1_000_000 }),
  xorbs: fc.array(fc.array(chunkPlan, { minLength: 1, maxLength: 9 }), { minLength: 1, maxLength: 4 }),
  /** Which xorb, where it begins and how much of the rest it takes; `follows` goes on where the term before ended. */
  terms: fc.array(
    fc.record({ xorb: fc.nat(3), start: fc.nat(8), count: fc.integer({ min: 1, max: 9 }), follows: fc.boolean() }),
    { minLength: 1, maxLength: 12 },
  ),
});
export type FilePlan = typeof filePlan extends fc.Arbitrary<infer Plan> ? Plan : never;

const contentOf = (seed: number, length: number, packs: boolean): Uint8Array =>
  packs ? randomBytes(seed, length).map((byte, at) => (at % 4 === 3 ? byte : 7)) : randomBytes(seed, length);

export async function layOut(platform: Platform, plan: FilePlan): Promise<{ file: StoredFile; parts: Part[] }> {
  const xorbs = await Promise.all(
    plan.xorbs.map((chunks, i) =>
      storeXorb(
        platform,
        chunks.map(({ length, scheme, packs }, j) => ({
          bytes: contentOf(plan.seed + 100 * i + j, length, packs),
          scheme,
        })),
      ),
    ),
  );
  const parts: Part[] = [];
  for (const { xorb: which, start, count, follows } of plan.terms) {
    const before = parts.at(-1);
    const xorb = follows && before !== undefined ? before[0] : xorbs[which % xorbs.length];
    if (xorb === undefined) continue;
    const from = (follows && before !== undefined ? before[2] : start) % xorb.chunks.length;
    parts.push([xorb, from, Math.min(from + count, xorb.chunks.length)]);
  }
  return { file: await storeFile(platform, parts), parts };
}

/** The whole, both ends, around the borders of some chunks, and some that are anywhere. */
export function rangesOf(file: StoredFile, parts: readonly Part[], seed: number): ByteRange[] {
  const { size } = file;
  const borders = [0];
  for (const [xorb, start, end] of parts)
    for (const { bytes } of xorb.chunks.slice(start, end)) borders.push((borders.at(-1) ?? 0) + bytes.length);
  const random = randomBytes(seed, 64);
  const pick = (i: number): number => ((random[2 * i] ?? 0) * 256 + (random[2 * i + 1] ?? 0)) / 65536;
  const borderAt = (i: number): number => borders[Math.floor(pick(i) * borders.length)] ?? 0;
  const spans: [number, number][] = [
    [0, size],
    [0, 1],
    [size - 1, size],
    [Math.floor(pick(0) * size), size],
    [0, Math.ceil(pick(1) * size)],
  ];
  for (let i = 2; i < 8; i++) {
    const border = borderAt(i);
    spans.push([border, borderAt(i + 6)], [border - 1, border + 1], [border, border + 1]);
    spans.push([Math.floor(pick(i + 12) * size), Math.floor(pick(i + 18) * size)]);
  }
  return spans.flatMap(([a, b]) => {
    const start = Math.max(0, Math.min(a, b));
    const end = Math.min(size, Math.max(a, b));
    return start < end ? [{ offset: start, length: end - start }] : [];
  });
}

/** Quicker than a comparison that could print what differs. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.length).toBe(expected.length);
  expect(actual.every((byte, at) => byte === expected[at])).toBe(true);
}
