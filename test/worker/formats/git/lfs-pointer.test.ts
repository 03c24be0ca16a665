// LFS pointers: one exact text, everything else is refused.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeLfsPointer, looksLikeLfsPointer, parseLfsPointer } from "../../../../src/formats/git/lfs-pointer";
import { blobId } from "../../../../src/formats/git/objects";
import { parseSha256 } from "../../../../src/ids";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
const text = `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize 12345\n`;

test("the specification's example", () => {
  const pointer = { sha256: parseSha256(oid, "oid"), size: 12345 };
  expect(encodeLfsPointer(pointer)).toBe(text);
  expect(parseLfsPointer(utf8(text))).toEqual(pointer);
  expect(looksLikeLfsPointer(utf8(text))).toBe(true);
  expect(blobId(utf8(text))).toMatch(/^[0-9a-f]{40}$/);
});

test("any digest and size come back", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.maxSafeNat(), (digest, size) => {
      const pointer = { sha256: parseSha256(digest.toHex(), "oid"), size };
      expect(parseLfsPointer(utf8(encodeLfsPointer(pointer)))).toEqual(pointer);
    }),
  );
});

describe("refused", () => {
  test.each([
    ["empty", ""],
    ["no last line feed", text.slice(0, -1)],
    ["CRLF", text.replaceAll("\n", "\r\n")],
    ["upper-case digest", text.replace(oid, oid.toUpperCase())],
    ["digest that is not hex", text.replace(oid, "g".repeat(64))],
    ["short digest", text.replace(oid, oid.slice(1))],
    ["other hash", text.replace("sha256", "sha512")],
    ["negative size", text.replace("12345", "-1")],
    ["size with leading zero", text.replace("12345", "012345")],
    ["size beyond 2^53", text.replace("12345", "9007199254740993")],
    ["size of 40 digits", text.replace("12345", "1".repeat(40))],
    ["fraction", text.replace("12345", "1.5")],
    ["extension line", text.replace("oid", "ext-0-foo sha256:00\noid")],
    ["line after", `${text}x`],
    ["old version", text.replace("git-lfs.github.com", "hawser.github.com")],
  ])("%s", (_, bad) => {
    expect(() => parseLfsPointer(utf8(bad))).toThrow(expect.objectContaining({ code: "lfs.pointer" }));
  });

  test("one megabyte", () => {
    const bytes = utf8(text + "x".repeat(1_000_000));
    expect(() => parseLfsPointer(bytes)).toThrow(expect.objectContaining({ code: "lfs.pointer_too_large" }));
    expect(looksLikeLfsPointer(bytes)).toBe(false);
  });

  test("ordinary text does not look like a pointer; a damaged pointer does", () => {
    expect(looksLikeLfsPointer(utf8("version 2 of my model\n".repeat(10)))).toBe(false);
    expect(looksLikeLfsPointer(utf8(text.replace(oid, "xyz")))).toBe(true);
  });
});
