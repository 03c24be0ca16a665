// Hashes of Xet against published values, and the streaming tree against one that holds everything.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chunkHash, keyedHash, NODE_KEY } from "../../../../src/formats/xet/blake3";
import { endsGroup, isDedupEligible, xetHashBytes, xetHashOf } from "../../../../src/formats/xet/hash";
import { fileHash, MerkleBuilder, rangeHash } from "../../../../src/formats/xet/merkle";
import { parseXetHash } from "../../../../src/ids";
import vectors from "../../../vectors/xet.json";
import { codeOf, join, splitMix64 } from "./samples";

type Chunk = readonly [hash: string, length: number];
type Tree = { chunks: Chunk[]; xorb: string; file: string };
// TypeScript makes one type per literal array in the JSON; the vectors' own type is wider.
const { pair, trees }: { pair: { chunks: Chunk[]; node: string; range: string }; trees: Tree[] } = JSON.parse(
  JSON.stringify(vectors),
);

const raw = (text: string): Uint8Array => xetHashBytes(parseXetHash(text, "hash"));

function rootOf(chunks: Iterable<Chunk>): Uint8Array {
  const tree = new MerkleBuilder();
  for (const [hash, length] of chunks) tree.add(raw(hash), length);
  return tree.root();
}

describe("the text form", () => {
  test("reverses the bytes of each word", () => {
    const bytes = Uint8Array.fromHex(vectors.text.bytes);
    expect(xetHashOf(bytes)).toBe(vectors.text.hash);
    expect(raw(vectors.text.hash)).toEqual(bytes);
  });

  test("is of 32 bytes only", async () => {
    expect(await codeOf(() => xetHashOf(new Uint8Array(31)))).toBe("xet.hash");
  });

  test("its last word decides on groups and deduplication", () => {
    const ending = (digits: string): Uint8Array => raw(digits.padStart(64, "f"));
    expect(endsGroup(ending("0000000000000004"))).toBe(true);
    expect(endsGroup(ending("fffffffffffffffe"))).toBe(false);
    expect(isDedupEligible(ending("fffffffffffffc00"))).toBe(true);
    expect(isDedupEligible(ending("fffffffffffffd00"))).toBe(false);
    expect(isDedupEligible(ending("fffffffffffffc01"))).toBe(false);
    expect(isDedupEligible(join(new Uint8Array(7), ending("0000000000000400")), 7)).toBe(true);
  });
});

describe("published values", () => {
  test("a chunk", () => {
    expect(xetHashOf(chunkHash(new TextEncoder().encode(vectors.chunk.text)))).toBe(vectors.chunk.hash);
  });

  test("a node and a range of two chunks", () => {
    expect(xetHashOf(rootOf(pair.chunks))).toBe(pair.node);
    expect(xetHashOf(rangeHash(join(...pair.chunks.map(([hash]) => raw(hash)))))).toBe(pair.range);
  });

  test.each(trees.map((tree) => [tree.chunks.length, tree] as const))("a tree of %i chunks", (_, tree) => {
    const root = rootOf(tree.chunks);
    expect(xetHashOf(root)).toBe(tree.xorb);
    // One vector has a chunk whose hash is zero, which no bytes have; its file is not told from the empty one.
    if (tree.chunks.length === 0 || root.some((byte) => byte !== 0)) expect(xetHashOf(fileHash(root))).toBe(tree.file);
  });
});

test("a key has 32 bytes", async () => {
  expect(await codeOf(() => keyedHash(new Uint8Array(31), new Uint8Array()))).toBe("xet.key");
});

/** The rule as it is stated, on whole levels. */
function plainRoot(hashes: readonly Uint8Array[]): Uint8Array {
  let level = hashes.map((hash, index) => ({ hash, length: index + 1 }));
  while (level.length > 1) {
    const parents = [];
    for (let start = 0; start < level.length; ) {
      let end = Math.min(start + 9, level.length);
      for (let child = start + 2; child < end; child++)
        if (endsGroup(level[child]?.hash ?? new Uint8Array())) end = child + 1;
      const group = level.slice(start, end);
      const text = group.map(({ hash, length }) => `${xetHashOf(hash)} : ${length}\n`).join("");
      const length = group.reduce((sum, node) => sum + node.length, 0);
      parents.push({ hash: keyedHash(NODE_KEY, new TextEncoder().encode(text)), length });
      start = end;
    }
    level = parents;
  }
  return level[0]?.hash ?? new Uint8Array(32);
}

test("the streaming tree is the plain one at every count", () => {
  const pool = Array.from({ length: 300 }, (_, seed) => splitMix64(32, seed));
  const tree = new MerkleBuilder();
  for (const [index, hash] of pool.entries()) {
    tree.add(hash, index + 1);
    expect(tree.root()).toEqual(plainRoot(pool.slice(0, index + 1)));
  }
});

test("the streaming tree is the plain one for any mixture of group ends", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 120 }), fc.nat(), (ends, seed) => {
      const tree = new MerkleBuilder();
      const hashes = ends.map((end, index) => {
        const hash = splitMix64(32, seed + index);
        hash[24] = end ? 4 : 5;
        return hash;
      });
      for (const [index, hash] of hashes.entries()) tree.add(hash, index + 1);
      expect(tree.root()).toEqual(plainRoot(hashes));
    }),
    { numRuns: 60 },
  );
});
