// Ranges: the RFC's examples, hostile headers, and a model that every answer must agree with.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { contentRange, ifRangeMatches, parseRange, selectRange } from "../../../src/streams/ranges";

const range = (start: number, end: number) => ({ kind: "range", start, end });
const full = { kind: "full" };
const unsatisfiable = { kind: "unsatisfiable" };

test.each([
  [null, full],
  [undefined, full],
  ["", full],
  ["bytes=0-499", range(0, 499)],
  ["bytes=500-999", range(500, 999)],
  ["bytes=-500", range(9500, 9999)],
  ["bytes=9500-", range(9500, 9999)],
  ["bytes=0-0", range(0, 0)],
  ["bytes=0-", range(0, 9999)],
  ["bytes=9999-", range(9999, 9999)],
  ["bytes=0-99999", range(0, 9999)],
  ["bytes=-99999", range(0, 9999)],
  ["bytes=-1", range(9999, 9999)],
  ["BYTES=1-2", range(1, 2)],
  ["bytes= 1-2 ", range(1, 2)],
  ["bytes=,1-2,,", range(1, 2)],
  ["bytes=000001-0002", range(1, 2)],
  ["bytes=0-18446744073709551615", range(0, 9999)],
  [`bytes=-${"9".repeat(400)}`, range(0, 9999)],
  ["bytes=10000-", unsatisfiable],
  ["bytes=10000-10001", unsatisfiable],
  ["bytes=18446744073709551616-", unsatisfiable],
  ["bytes=-0", unsatisfiable],
  ["bytes=9-1", full],
  ["bytes=9007199254740993-9007199254740992", full],
  ["bytes=", full],
  ["bytes=,", full],
  ["bytes=-", full],
  ["bytes=--1", full],
  ["bytes=a-b", full],
  ["bytes=1", full],
  ["bytes=1-2-3", full],
  ["bytes=1 - 2", full],
  ["bytes=0x1-2", full],
  ["bytes=+1-2", full],
  ["bytes=1.5-2", full],
  ["bytes=\u0661-", full],
  ["bytes:1-2", full],
  ["bytes 1-2", full],
  ["items=1-2", full],
  ["1-2", full],
  ["bytes=0-1,4-5", full],
  ["bytes=0-1,0-1", full],
  ["bytes=0-1,9-1", full],
  [`bytes=${"0-1,".repeat(1000)}`, full],
  [`bytes=${"1".repeat(100_000)}-`, full],
])("%j of 10000 bytes", (header, expected) => {
  expect(parseRange(header, 10_000)).toEqual(expected);
});

test.each([
  ["bytes=0-", unsatisfiable],
  ["bytes=0-0", unsatisfiable],
  ["bytes=-1", full],
  ["bytes=-0", unsatisfiable],
])("%j of an empty file", (header, expected) => {
  expect(parseRange(header, 0)).toEqual(expected);
});

describe("properties", () => {
  const number = fc.oneof(fc.nat(30), fc.maxSafeNat());
  test("int ranges select what slice selects", () => {
    fc.assert(
      fc.property(fc.nat(30), number, fc.option(number), (size, first, last) => {
        const result = parseRange(`bytes=${first}-${last ?? ""}`, size);
        const bytes = Array.from({ length: size }, (_, at) => at);
        const selected = bytes.slice(first, last === null ? undefined : last + 1);
        const served = result.kind === "range" ? bytes.slice(result.start, result.end + 1) : [];
        if (last !== null && last < first) expect(result).toEqual(full);
        else if (selected.length === 0) expect(result).toEqual(unsatisfiable);
        else expect(served).toEqual(selected);
      }),
      { numRuns: 1000 },
    );
  });

  test("suffixes select the last bytes", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e6 }), fc.integer({ min: 1, max: 2e6 }), (size, suffix) => {
        expect(parseRange(`bytes=-${suffix}`, size)).toEqual(range(Math.max(0, size - suffix), size - 1));
      }),
    );
  });

  test("whatever the header, a range lies inside the file", () => {
    const header = fc.oneof(
      fc.string(),
      fc
        .array(fc.constantFrom("bytes", "=", "-", ",", " ", "0", "1", "9", "99"), { maxLength: 12 })
        .map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(header, fc.nat(100), (text, size) => {
        const result = parseRange(text, size);
        if (result.kind !== "range") return;
        expect(result.start).toBeGreaterThanOrEqual(0);
        expect(result.end).toBeGreaterThanOrEqual(result.start);
        expect(result.end).toBeLessThan(size);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("If-Range", () => {
  const lastModified = new Date("2026-11-22T10:00:00.750Z");
  const current = { etag: '"abc"', lastModified };
  test.each([
    [null, true],
    ['"abc"', true],
    [' "abc" ', true],
    ['"ABC"', false],
    ['W/"abc"', false],
    ['"abc", "def"', false],
    ["*", false],
    ["abc", false],
    ["", false],
    ["Sun, 22 Nov 2026 10:00:00 GMT", true],
    ["Sun, 22 Nov 2026 10:00:01 GMT", false],
    ["Sun, 22 Nov 2026 09:59:59 GMT", false],
    ["2026-11-22T10:00:00Z", false],
    ["0", false],
  ])("%j", (header, expected) => {
    expect(ifRangeMatches(header, current)).toBe(expected);
  });

  test("a weak tag of ours never matches, nor a date where none is known", () => {
    expect(ifRangeMatches('W/"abc"', { etag: 'W/"abc"' })).toBe(false);
    expect(ifRangeMatches('"abc"', { etag: 'W/"abc"' })).toBe(false);
    expect(ifRangeMatches("Sun, 22 Nov 2026 10:00:00 GMT", { etag: '"abc"' })).toBe(false);
  });

  test("decides whether the range counts", () => {
    const select = (headers: Record<string, string>) => selectRange(new Headers(headers), 100, current);
    expect(select({ range: "bytes=0-9" })).toEqual(range(0, 9));
    expect(select({ range: "bytes=0-9", "if-range": '"abc"' })).toEqual(range(0, 9));
    expect(select({ range: "bytes=0-9", "if-range": '"old"' })).toEqual(full);
    // Also a range beyond the new file is no error when the client asked about the old one.
    expect(select({ range: "bytes=500-", "if-range": '"old"' })).toEqual(full);
    expect(select({ range: "bytes=500-" })).toEqual(unsatisfiable);
    expect(select({ "if-range": '"abc"' })).toEqual(full);
  });
});

test("Content-Range", () => {
  expect(contentRange({ kind: "range", start: 0, end: 9 }, 100)).toBe("bytes 0-9/100");
  expect(contentRange({ kind: "unsatisfiable" }, 100)).toBe("bytes */100");
});
