// Cards: what is wrong is told by key, line and remedy; what merely is unusual is a warning; nothing makes the reader fail or grow without bound.
import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { checkCard } from "../../../../src/formats/card/validate";
import { parseCard } from "../../../../src/formats/card/yaml";

const card = (...lines: string[]): string => `---\n${lines.join("\n")}\n---\n# A model\n`;
const model = (...lines: string[]) => checkCard("model", card(...lines));
const dataset = (...lines: string[]) => checkCard("dataset", card(...lines));
const NONE = { errors: [], warnings: [] };

it("lets cards through that follow the conventions", () => {
  expect(
    model(
      "language: [en, de, zh-Hant, multilingual]",
      "license: other",
      "license_name: my-licence",
      "license_link: LICENSE",
      "library_name: transformers",
      "pipeline_tag: text-generation",
      "tags: [chat]",
      "datasets: [ada/digits]",
      "metrics: [accuracy]",
      "base_model: [meta-llama/Llama-3.1-8B, gpt2]",
      "base_model_relation: merge",
      "new_version: ada/next",
      "widget: [{text: Hello}]",
      "inference: {parameters: {temperature: 1}}",
      "co2_eq_emissions: {emissions: 12.5, source: code carbon}",
      "extra_gated_fields: {Name: text, Where: country, Use: {type: select, options: [work, {label: o, value: o}]}}",
      "extra_gated_eu_disallowed: true",
      "model-index: [{name: m, results: [{task: {type: t}, dataset: {name: d, type: d}, metrics: [{type: a, value: 1}]}]}]",
      "anything_else: {of: [any, 1, true, null]}",
    ),
  ).toEqual(NONE);
  expect(
    dataset(
      "license: [mit, apache-2.0]",
      "pretty_name: Digits",
      "size_categories: [1K<n<10K]",
      "task_categories: [image-classification]",
      "configs: [{config_name: default, data_files: [{split: train, path: '*.parquet'}]}]",
      "dataset_info: {features: [{name: a, dtype: int64}]}",
      "viewer: false",
    ),
  ).toEqual(NONE);
  expect(checkCard("model", "# No front matter\n")).toEqual({
    errors: [],
    warnings: [{ line: 1, message: expect.stringMatching(/^There is no metadata/) }],
  });
  expect(model("license:", "tags: null")).toEqual(NONE);
});

describe("an error names the key, the line and what would be right:", () => {
  test.each<[string[], number, RegExp]>([
    [["tags: [a]", "license: asdf"], 3, /^"license" must be one of \[apache-2\.0, .*write "other".*\(line 3\)$/],
    [["license:", "  - mit", "  - asdf"], 4, /^"license\[1\]" must be one of/],
    [["tags: chat"], 2, /^"tags" must be an array/],
    [["tags:", "- a", "- 2024"], 4, /^"tags\[1\]" must be a string: put 2024 in quotes/],
    [["pipeline_tag: [a]"], 2, /^"pipeline_tag" must be a string/],
    [["base_model: {name: a}"], 2, /^"base_model" must be a string/],
    [["base_model_relation: child"], 2, /^"base_model_relation" must be one of \[adapter, merge/],
    [["co2_eq_emissions:", "  emissions: lots"], 3, /^"co2_eq_emissions\.emissions" must be a number/],
    [
      ["extra_gated_fields:", "  Name: text", "  Age: number"],
      4,
      /^"extra_gated_fields\.Age" must be one of .*not "number"/,
    ],
    [["extra_gated_fields:", "  Use: {type: select}"], 3, /needs `options`/],
    [["extra_gated_eu_disallowed: maybe"], 2, /true or false/],
    [["model-index: {name: m}"], 2, /^"model-index" must be an array/],
  ])("%j", (lines, line, message) => {
    const { errors } = model(...lines);
    expect(errors).toHaveLength(1);
    expect(errors[0]?.line).toBe(line);
    expect(errors[0]?.message).toMatch(message);
  });
  test.each<[string[], number, RegExp]>([
    [["configs:", "- data_files: '*.csv'"], 3, /^"configs\[0\]" needs `config_name`/],
    [["configs: {}"], 2, /^"configs" must be an array/],
    [["dataset_info: 3"], 2, /^"dataset_info" must be an object/],
  ])("of a dataset, %j", (lines, line, message) => {
    const { errors } = dataset(...lines);
    expect(errors).toEqual([{ line, message: expect.stringMatching(message) }]);
  });
});

test.each<[string[], RegExp]>([
  [["pipeline_tag: mind-reading"], /"pipeline_tag" is "mind-reading", which no client knows/],
  [["language: English"], /"language" is "English": use a code of ISO 639/],
  [["license: other"], /`license_name`, and `license_link`/],
  [["base_model: /home/ada/model"], /"base_model" is "\/home\/ada\/model", which names no repository/],
  [["model-index: [{name: m, results: [{task: {type: t}}]}]"], /"model-index\[0\]\.results\[0\]" has no `dataset`/],
])("%j is a warning", (lines, message) => {
  const { errors, warnings } = model(...lines);
  expect(errors).toEqual([]);
  expect(warnings[0]?.message).toMatch(message);
});

describe("YAML that can't be read is an error with its line:", () => {
  const nested = (open: string, depth: number): string => open.repeat(depth);
  const bomb = ["a: &a [x, x, x, x, x, x, x, x, x]"];
  for (let i = 1; i < 12; i++) bomb.push(`k${i}: &a${i} [${`*a${i === 1 ? "" : i - 1}, `.repeat(9)}]`);
  test.each<[string, string, number, RegExp]>([
    ["an open bracket", card("license: mit", "tags: [a"), 4, /./],
    ["a key that comes twice", card("license: mit", "tags: [a]", "license: gpl"), 4, /unique/],
    ["a list in place of a mapping", card("- a"), 2, /must be a mapping/],
    ["a second document", card("a: 1", "...", "--- {}"), 4, /second YAML document/],
    ["brackets that nest without end", card(`tags: ${nested("[", 50_000)}`), 2, /nested more than 32 deep/],
    ["lists that nest without end", card(nested("- ", 5000)), 2, /nested more than 32 deep/],
    ["aliases that multiply", card(...bomb), 2, /alias/],
    ["values without end", card(`a: [${"x,".repeat(250_000)}]`), 2, /holds too much/],
    [
      "keys that come twice among many",
      card(...Array.from({ length: 20_000 }, (_, i) => `k${i % 19_999}: v`)),
      20_001,
      /unique/,
    ],
    ["an alias of itself", card("a: &a [*a]"), 2, /./],
    ["an alias of nothing", card("a: *b"), 2, /./],
    ["a name that objects treat specially", card("__proto__: {tags: [a]}"), 2, /__proto__/],
    ["front matter without end", card(`a: ${"x".repeat(1_000_001)}`), 1, /more than 1000000 characters/],
    ["a line that starts the file late", `\n\n${card("license: [")}`, 5, /./],
  ])("%s", (_, readme, line, message) => {
    const [error] = checkCard("model", readme).errors;
    expect(error?.message).toMatch(message);
    expect(error?.message).toContain(`(line ${error?.line})`);
    expect(error?.line).toBe(line);
  });
});

it("reads the core schema only: no dates, no merges, no objects", () => {
  const parsed = parseCard(card("a: 2024-01-01", "b: 0o17", "c: yes", "d: !!js/regexp /x/", "<<: {e: 1}"));
  expect("card" in parsed ? parsed.card.data : parsed).toEqual({
    a: "2024-01-01",
    b: 15,
    c: "yes",
    d: "/x/",
    "<<": { e: 1 },
  });
});

test("no text makes the check fail, and every line it names is in the text", () => {
  const piece = fc.constantFrom(
    ..."license tags base_model extra_gated_fields widget configs : - [ ] { } , & * ! | > ' \" # % @ ` a mit 1 ~ \n".split(
      " ",
    ),
    "\n",
    "  ",
    ": ",
    "- ",
    "&a ",
    "*a",
    "---\n",
    "...\n",
    "? ",
    "\t",
    "é",
    "\u0000",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), fc.constantFrom("model", "dataset"), (pieces, type) => {
      const readme = `---\n${pieces.join("")}\n---\n`;
      const { errors, warnings } = checkCard(type, readme);
      const lines = readme.split("\n").length;
      for (const { line, message } of [...errors, ...warnings]) {
        expect(line).toBeGreaterThanOrEqual(1);
        expect(line).toBeLessThanOrEqual(lines);
        expect(message).not.toBe("");
      }
    }),
    { numRuns: 2000 },
  );
});
