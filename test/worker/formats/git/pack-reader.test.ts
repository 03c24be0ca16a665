// Packs against those that real git makes; whatever else they hold, reading one ends, within its bounds, and with an error that says why.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../../../src/formats/format-error";
import { ByteSource } from "../../../../src/formats/git/byte-source";
import { applyDelta } from "../../../../src/formats/git/delta";
import { readPack } from "../../../../src/formats/git/pack-reader";
import { type GitObject, Unpacker } from "../../../../src/formats/git/unpack";
import { blob, checksummed, deltaOf, type Item, idOf, packOf, type Whole } from "../../../kit/git-push";
import vectors from "../../../vectors/git-packs.json";

const LIMITS = { objects: 1000, objectBytes: 100_000, totalBytes: 10_000_000 };
const bases = new Map<string, GitObject>(
  vectors.bases.map(({ id, type, base64 }) => {
    const known = (["commit", "tree", "blob", "tag"] as const).find((one) => one === type);
    return [id, { type: known ?? expect.fail(`unknown type ${type}`), content: Uint8Array.fromBase64(base64) }];
  }),
);

/** The ids and contents of a pack that arrives in pieces of `step` bytes, commits and trees before files. */
async function unpacked(pack: Uint8Array, { step = 1000, workBytes = 10_000_000, cacheBytes = 20_000 } = {}) {
  let at = 0;
  const source = new ByteSource(async () => {
    const piece = pack.subarray(at, at + step);
    at += step;
    return piece.length === 0 ? undefined : piece;
  });
  const kept: Uint8Array[] = [];
  const entries = await readPack(source, LIMITS, (part) => void kept.push(part.slice()));
  const whole = Buffer.concat(kept);
  const unpacker = new Unpacker(entries, {
    read: async (offset, end) => whole.subarray(offset, end),
    knownType: (id) => bases.get(id)?.type,
    known: async (id) => bases.get(id) ?? expect.fail(`asked for ${id}`),
    objectBytes: LIMITS.objectBytes,
    cacheBytes,
    workBytes,
  });
  const objects: { id: string; type: string; content: Uint8Array | null }[] = [];
  for await (const one of unpacker.structure()) objects.push(one);
  const structure = objects.length;
  for await (const one of unpacker.blobs()) objects.push(one);
  expect(objects.slice(0, structure).some(({ type }) => type === "blob")).toBe(false);
  expect(objects.slice(structure).every(({ type }) => type === "blob")).toBe(true);
  return objects;
}

describe("packs of real git", () => {
  test.each(vectors.packs)("$name", async ({ base64, objects }) => {
    const pack = Uint8Array.fromBase64(base64);
    for (const step of [1, 7, 4096, 1_000_000])
      expect((await unpacked(pack, { step })).map(({ id }) => id).sort()).toEqual(objects);
    // With no room to keep anything every chain is followed anew.
    expect(await unpacked(pack, { cacheBytes: 0 })).toHaveLength(objects.length);
  });

  test("damaged at any byte, cut anywhere: an error, and never other objects", async () => {
    const known = new Set([...vectors.packs.flatMap(({ objects }) => objects)]);
    const packs = vectors.packs.map(({ base64 }) => Uint8Array.fromBase64(base64));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...packs),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        fc.boolean(),
        async (pack, place, flip, cuts, mends) => {
          const at = place % pack.length;
          const changed = cuts
            ? pack.slice(0, at)
            : Uint8Array.from(pack, (byte, i) => (i === at ? byte ^ flip : byte));
          // A checksum that is right again lets the damage through to the objects.
          const given = mends && changed.length > 20 ? checksummed(changed.subarray(0, -20)) : changed;
          try {
            const objects = await unpacked(given);
            // Only what no checksum covers of an object can change unseen, as the level that zlib notes.
            if (!mends) expect(objects.every(({ id }) => known.has(id))).toBe(true);
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError);
          }
        },
      ),
      { numRuns: 400 },
    );
  });
});

/** Objects of random text, and deltas over the ones before them, by place or id. */
const madePack = fc
  .array(
    fc.record({
      text: fc.string({ maxLength: 300 }),
      kind: fc.constantFrom("whole", "place", "id"),
      base: fc.nat(),
      cut: fc.nat(),
    }),
    { minLength: 1, maxLength: 20 },
  )
  .map((rows) => {
    const made: Whole[] = [];
    const items = rows.map(({ text, kind, base, cut }, i): Item => {
      const from = made[base % Math.max(i, 1)];
      if (kind === "whole" || from === undefined) {
        const whole = blob(text);
        made.push(whole);
        return whole;
      }
      const length = cut % (from.content.length + 1);
      const added = new TextEncoder().encode(text);
      const content = Buffer.concat([from.content.subarray(0, length), added]);
      made.push(blob(content));
      const delta = deltaOf(from.content.length, content.length, length === 0 ? [added] : [{ from: 0, length }, added]);
      return kind === "place" ? { base: base % i, delta } : { baseId: idOf(from), delta };
    });
    return { items, made };
  });

test("deltas over deltas give what they were made of, whichever way they name their base", async () => {
  await fc.assert(
    fc.asyncProperty(
      madePack,
      fc.integer({ min: 1, max: 500 }),
      fc.nat({ max: 2000 }),
      async ({ items, made }, step, cacheBytes) => {
        const objects = await unpacked(packOf(items), { step, cacheBytes });
        expect(objects.map(({ id }) => id).sort()).toEqual(made.map(idOf).sort());
      },
    ),
    { numRuns: 100 },
  );
});

test("bases may come after what builds on them", async () => {
  const [last, middle, first] = [blob("abc"), blob("ab"), blob("a")];
  const items = [
    { baseId: idOf(middle), delta: deltaOf(2, 3, [{ from: 0, length: 2 }, "c"]) },
    { baseId: idOf(first), delta: deltaOf(1, 2, [{ from: 0, length: 1 }, "b"]) },
    first,
  ];
  expect((await unpacked(packOf(items))).map(({ id }) => id).sort()).toEqual([last, middle, first].map(idOf).sort());
});

test("work has an end: many small deltas that each make much", async () => {
  const flat = blob(new Uint8Array(10_000));
  const wide = {
    base: 0,
    delta: deltaOf(
      10_000,
      90_000,
      Array.from({ length: 9 }, () => ({ from: 0, length: 10_000 })),
    ),
  };
  const bomb = packOf([flat, ...Array.from({ length: 200 }, () => wide)]);
  expect(bomb.length).toBeLessThan(20_000);
  await expect(unpacked(bomb)).rejects.toThrow("takes too much work");
});

test("a blob beyond the bound is known by its id only", async () => {
  const large = blob(crypto.getRandomValues(new Uint8Array(60_000)));
  const twice = blob(Buffer.concat([large.content, large.content, large.content]));
  for (const step of [1, 977, 1_000_000]) {
    const [one, two] = await unpacked(packOf([twice, blob("x")]), { step });
    expect(one).toMatchObject({ id: idOf(twice), content: null, size: 180_000 });
    expect(two?.id).toBe(idOf(blob("x")));
  }
  const over = { base: 0, delta: deltaOf(180_000, 1, ["a"]) };
  await expect(unpacked(packOf([twice, over]))).rejects.toThrow("belong in Git LFS");
});

test("whatever a delta says, it makes what it claims or an error", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 50 }),
      fc.uint8Array({ maxLength: 60 }),
      fc.boolean(),
      (base, tail, isFramed) => {
        const delta = isFramed ? Uint8Array.from([base.length, 40, ...tail]) : tail;
        try {
          expect(applyDelta(base, delta, 1000).length).toBeLessThanOrEqual(1000);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      },
    ),
    { numRuns: 2000 },
  );
});
