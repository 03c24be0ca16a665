// File paths: what a commit may write, and why the rest is refused.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkFilePath, checkPathSet, pathKey } from "../../../src/formats/paths";

const code = (rule: string) => expect.objectContaining({ name: "FormatError", code: `path.${rule}`, field: "path" });
const utf8Length = (text: string): number => new TextEncoder().encode(text).length;

test.each([
  "README.md",
  ".gitattributes",
  ".gitignore",
  ".github/workflows/ci.yml",
  "a/b/c.safetensors",
  "file with spaces.txt",
  "-dash",
  "~tilde",
  "model:q4.gguf",
  "日本語/é\u{1f600}.json",
  "console.txt",
  "common/aux1.py",
  "...hidden",
  "a".repeat(255),
  `${"é".repeat(127)}a`,
  Array.from({ length: 32 }, () => "d").join("/"),
])("%j is fine", (path) => {
  expect(() => checkFilePath(path)).not.toThrow();
});

describe("refused", () => {
  test.each([
    ["", "empty"],
    ["/etc/passwd", "absolute"],
    ["//server/share", "absolute"],
    ["C:/x", "absolute"],
    ["c:x", "absolute"],
    ["C:\\x", "backslash"],
    ["\\\\server\\share", "backslash"],
    ["a\\b", "backslash"],
    ["..", "segment"],
    ["../x", "segment"],
    ["a/../b", "segment"],
    ["a/..", "segment"],
    ["./a", "segment"],
    ["a/.", "segment"],
    ["a//b", "segment"],
    ["a/", "segment"],
    ["a\0b", "control"],
    ["a\nb", "control"],
    ["a\u007f", "control"],
    ["a\u0085", "control"],
    ["gpj.\u202eexe", "bidi"],
    ["\u2066a", "bidi"],
    [".git/config", "git"],
    [".GiT", "git"],
    ["sub/.git/hooks/x", "git"],
    [".git./config", "git"],
    [".git /config", "git"],
    ["GIT~1/config", "git"],
    [".g\u200cit/config", "git"],
    [".git::$INDEX_ALLOCATION/config", "git"],
    ["a./b", "trailing"],
    ["a.", "trailing"],
    ["a ", "trailing"],
    ["...", "trailing"],
    ["CON", "reserved"],
    ["a/nul", "reserved"],
    ["nul.txt", "reserved"],
    ["aux.tar.gz", "reserved"],
    ["Com1", "reserved"],
    ["lpt9.md", "reserved"],
    ["com\u00b9", "reserved"],
    ["con .txt", "reserved"],
    ["nul:x", "reserved"],
    ["CONIN$", "reserved"],
    ["e\u0301", "normal_form"],
    ["\u212b", "normal_form"],
    ["\ud800", "encoding"],
    ["a".repeat(256), "segment_too_long"],
    ["é".repeat(128), "segment_too_long"],
    [`${"a".repeat(200)}/`.repeat(6), "too_long"],
    ["a".repeat(1_000_000), "too_long"],
    [Array.from({ length: 33 }, () => "d").join("/"), "too_deep"],
  ])("%j", (path, rule) => {
    expect(() => checkFilePath(path)).toThrow(code(rule));
  });
});

test("every refusal says what to do, on one line without hidden characters", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 60 }), (path) => {
      try {
        checkFilePath(path);
      } catch (error) {
        expect(error).toMatchObject({ name: "FormatError", field: "path", fix: expect.stringMatching(/./) });
        expect(String(error)).not.toMatch(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
      }
    }),
  );
});

test("an accepted path stays inside, whatever it is made of", () => {
  const pieces = fc.array(
    fc.constantFrom("a", ".", "..", "/", "\\", ".git", "é", "e\u0301", "CON", " ", ":", "C:", "\0"),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(pieces, (list) => {
      const path = list.join("");
      try {
        checkFilePath(path);
      } catch {
        return;
      }
      expect(new URL(path.split("/").map(encodeURIComponent).join("/"), "http://h/root/").pathname).toBe(
        `/root/${path.split("/").map(encodeURIComponent).join("/")}`,
      );
      expect(path).not.toMatch(/\\|(^|\/)(\.{0,2}|\.git)(\/|$)/i);
      expect(utf8Length(path)).toBeLessThanOrEqual(1024);
    }),
  );
});

describe("a set of paths", () => {
  test.each([
    [["A.txt", "a.txt"]],
    [["é", "e\u0301"]],
    [["x", "x/y"]],
    [["x/y/z", "x/y"]],
    [["X", "x/y"]],
    [["stra\u00dfe", "STRASSE"]],
    [["\u03c3", "\u03c2"]],
  ])("%j clashes", (paths) => {
    expect(() => checkPathSet(paths)).toThrow(code("clash"));
    expect(() => checkPathSet(paths.toReversed())).toThrow(code("clash"));
  });

  test("that can be checked out is fine", () => {
    expect(() => checkPathSet(["a", "b/a", "b/c", "a.b", "ab/c", "B.txt"])).not.toThrow();
    expect(pathKey("Model/É.TXT")).toBe("model/é.txt");
  });
});
