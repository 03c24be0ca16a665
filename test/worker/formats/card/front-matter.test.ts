// Front matter: where it starts, where it ends, and when there is none.
import fc from "fast-check";
import { expect, test } from "vitest";
import { MAX_FRONT_MATTER_LENGTH, splitFrontMatter } from "../../../../src/formats/card/front-matter";

test.each([
  ["---\nlicense: mit\n---\n# Title\n", "license: mit\n", "# Title\n"],
  ["---\r\nlicense: mit\r\n---\r\nText", "license: mit\r\n", "Text"],
  ["\n\n---\na: 1\n---\n", "a: 1\n", ""],
  ["\ufeff---\na: 1\n---\n", "a: 1\n", ""],
  ["---\na: 1\n---", "a: 1\n", ""],
  ["---  \na: 1\n--- \nText", "a: 1\n", "Text"],
  ["---\n---\nText", "", "Text"],
  ["---\na: |\n  ---\nb: 2\n---\nText", "a: |\n  ---\nb: 2\n", "Text"],
  ["---\na: 1\n----\nb: 2\n---\nText", "a: 1\n----\nb: 2\n", "Text"],
  ["---\na: 1\n---\nText\n---\nMore", "a: 1\n", "Text\n---\nMore"],
])("%j has front matter", (text, yaml, body) => {
  expect(splitFrontMatter(text)).toMatchObject({ yaml, body });
});

test.each([
  "",
  "# Title",
  "---",
  "---\n",
  "---\nno end\n",
  "----\na: 1\n---\n",
  "Text\n---\na: 1\n---\n",
  "--- a\n---\n",
])("%j has none", (text) => {
  expect(splitFrontMatter(text)).toMatchObject({ yaml: undefined, body: text });
});

test("nothing of the text is lost", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom("---", "\n", "\r\n", "a: 1", " ", "-"), { maxLength: 20 }), (parts) => {
      const text = parts.join("");
      const { yaml, body } = splitFrontMatter(text);
      expect(text.endsWith(body)).toBe(true);
      if (yaml !== undefined) expect(text).toContain(yaml);
    }),
  );
});

test("the length is bounded", () => {
  const card = (length: number) => `---\n${"#".repeat(length - 1)}\n---\n`;
  expect(splitFrontMatter(card(MAX_FRONT_MATTER_LENGTH)).yaml).toHaveLength(MAX_FRONT_MATTER_LENGTH);
  expect(() => splitFrontMatter(card(MAX_FRONT_MATTER_LENGTH + 1))).toThrow(
    expect.objectContaining({ code: "card.front_matter_too_long" }),
  );
});
