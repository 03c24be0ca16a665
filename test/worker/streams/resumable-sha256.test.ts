// SHA-256 that stops and goes on: the same digest as in one go, however often it was saved and whoever else hashes meanwhile.
import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { FormatError } from "../../../src/formats/format-error";
import { ResumableSha256 } from "../../../src/streams/resumable-sha256";

const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

test("any pieces, saved and resumed between them, give the digest of the whole", () => {
  const piece = fc.uint8Array({ maxLength: 200 });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
      let hash = ResumableSha256.start();
      let whole = Buffer.alloc(0);
      for (const part of pieces) {
        hash.update(part);
        whole = Buffer.concat([whole, part]);
        expect(hash.digest()).toBe(digestOf(whole));
        const saved = hash.save();
        expect(saved.length).toBeLessThanOrEqual(140);
        hash = ResumableSha256.resume(saved);
        expect(hash.save()).toBe(saved);
        expect(hash.size).toBe(whole.length);
      }
      expect(hash.digest()).toBe(digestOf(whole));
    }),
    { numRuns: 100 },
  );
});

test("lengths around blocks, padding and the module's buffer", () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 128, 16_383, 16_384, 16_385, 100_000]) {
    const bytes = new Uint8Array(length).fill(length & 255);
    const hash = ResumableSha256.start();
    hash.update(bytes);
    expect(hash.digest()).toBe(digestOf(bytes));
  }
});

test("several may interleave, and one may branch off another", () => {
  const files = [1, 2, 3].map((fill) => new Uint8Array(1000).fill(fill));
  const hashes = files.map(() => ResumableSha256.start());
  for (let at = 0; at < 1000; at += 70)
    for (const [index, hash] of hashes.entries()) hash.update(files[index]?.subarray(at, at + 70) ?? new Uint8Array());
  const branch = ResumableSha256.resume(hashes[0]?.save() ?? "");
  branch.update(Uint8Array.of(9));
  expect(hashes.map((hash) => hash.digest())).toEqual(files.map(digestOf));
  expect(branch.digest()).toBe(digestOf(Uint8Array.of(...(files[0] ?? []), 9)));
});

test("the count goes on beyond 32 bits", () => {
  const hash = ResumableSha256.start();
  hash.update(new Uint8Array(64));
  const state = Buffer.from(hash.save(), "base64");
  state.writeBigUInt64LE(2n ** 40n, 32);
  const large = ResumableSha256.resume(state.toString("base64"));
  large.update(Uint8Array.of(1, 2, 3));
  expect(large.size).toBe(2 ** 40 + 3);
  expect(ResumableSha256.resume(large.save()).digest()).toBe(large.digest());
});

test.each([
  ["nothing", ""],
  ["no base64", "?".repeat(56)],
  ["too short", Buffer.alloc(39).toString("base64")],
  ["another length than its count says", Buffer.alloc(41).toString("base64")],
  ["a count beyond all files", Buffer.alloc(40, 0xff).toString("base64")],
  ["stray characters", ` ${Buffer.alloc(40).toString("base64")}`],
])("a state that is %s is refused", (_, saved) => {
  expect(() => ResumableSha256.resume(saved)).toThrow(FormatError);
});
