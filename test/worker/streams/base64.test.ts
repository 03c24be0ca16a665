// Base64: what comes back, and what each wrong text is told.
import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeBase64 } from "../../../src/streams/base64";

test("any bytes come back", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(decodeBase64(bytes.toBase64(), "content")).toEqual(bytes);
    }),
  );
});

test.each([
  ["AA", "multiple of 4"],
  ["AAA", "multiple of 4"],
  ["A===", "padding"],
  ["AA==AAAA", "padding"],
  ["AAAA====", "padding"],
  ["====", "padding"],
  ["AB==", "last character"],
  ["AAB=", "last character"],
  ["AA==\n", "character 4"],
  ["AA AA===", "character 2"],
  [" AAA", "character 0"],
  ["-_==", 'holds "-"'],
  ["AA_A", 'holds "_"'],
  ["ÿAAA", "character 0"],
  ["AAA\u0000", "\\u0000"],
  ["\ud83d\ude00AA", "character 0"],
  ["data:text/plain;base64,AAAA", "character 4"],
])("%j is refused", (text, reason) => {
  expect(() => decodeBase64(text, "operations[3].content")).toThrow(
    expect.objectContaining({
      name: "FormatError",
      code: "base64",
      field: "operations[3].content",
      message: expect.stringContaining(reason),
    }),
  );
});

test("accepts exactly what the strict built-in decoder accepts, white space aside", () => {
  const text = fc
    .array(fc.constantFrom("A", "B", "/", "+", "=", "-", "z"), { maxLength: 9 })
    .map((parts) => parts.join(""));
  fc.assert(
    fc.property(text, (candidate) => {
      const attempt = (decode: () => Uint8Array): Uint8Array | undefined => {
        try {
          return decode();
        } catch {
          return undefined;
        }
      };
      expect(attempt(() => decodeBase64(candidate, "x"))).toEqual(
        attempt(() => Uint8Array.fromBase64(candidate, { lastChunkHandling: "strict" })),
      );
    }),
    { numRuns: 2000 },
  );
});

test("ten megabytes take a fraction of a second", () => {
  const text = "QUJD".repeat(3_500_000);
  const started = performance.now();
  expect(decodeBase64(text, "content").length).toBe(10_500_000);
  expect(performance.now() - started).toBeLessThan(1000);
});
