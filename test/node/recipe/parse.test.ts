// Recipes as people write them: what is read, and what is told of those that can't be.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { FormatError } from "../../../src/formats/format-error";
import { canonicalRecipe, canonicalText, toMergekitYaml } from "../../../src/formats/recipe/canonical";
import { parseRecipe, parseRecipeObject } from "../../../src/formats/recipe/parse";
import { referencesOf } from "../../../src/formats/recipe/references";
import { nearest } from "../../../src/formats/recipe/suggest";
import { mergeDocument } from "./arbitraries";

const TWO = "models: [{model: a/one, parameters: {weight: 1}}, {model: a/two, parameters: {weight: 1}}]";

/** What a sender is told, as "line 3: field: problem: fix". */
function refusal(text: string): string {
  try {
    parseRecipe(text);
    return "accepted";
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    const { line, field, message } = error;
    return `${line === undefined ? "" : `line ${line}: `}${field === undefined ? "" : `${field}: `}${message}`;
  }
}

/** The same with the keys of every mapping the other way round. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).map(([key, member]) => [key, reversed(member)]);
  return Object.fromEntries(members.reverse());
}

const REFUSED: readonly (readonly [recipe: string, told: string])[] = [
  [`merge_metod: linear\n${TWO}`, "line 1: merge_metod: is not known here: did you mean `merge_method`?"],
  [`merge_method: liner\n${TWO}`, 'line 1: merge_method: there is no method "liner": did you mean `linear`?'],
  [`${TWO}`, "line 1: the recipe has no `merge_method`: name one, like linear"],
  ["merge_method: linear", "line 1: the recipe names no models: give exactly one of models, slices and modules"],
  [
    `merge_method: linear\n${TWO}\nslices: []`,
    "line 1: the recipe has models and slices: give exactly one of models, slices and modules",
  ],
  [
    `merge_method: linear\n${TWO}\nnormalise: false`,
    "line 3: normalise: is not known here: write `normalize` under `parameters`",
  ],
  [
    `merge_method: linear\n${TWO}\nparameters: {normalise: false}`,
    "line 3: parameters.normalise: linear has no such parameter: did you mean `normalize`?",
  ],
  [
    `merge_method: linear\n${TWO}\nparameters: {normalize: 2}`,
    "line 3: parameters.normalize: is 2: write true or false",
  ],
  [
    `merge_method: linear\n${TWO}\nparameters: {normalize: "yes"}`,
    'line 3: parameters.normalize: is "yes": write true or false',
  ],
  [
    `merge_method: linear\n${TWO}\nnormalize: false`,
    "line 3: normalize: is not known here: write `normalize` under `parameters`",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, weight: 1}]",
    "line 2: models[0].weight: is not known here: write `weight` under `parameters`",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, layer_range: [0, 1]}]",
    "line 2: models[0].layer_range: is not known here: layers are chosen in `slices`",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {weight: .nan}}]",
    "line 2: models[0].parameters.weight: is NaN: write a finite number",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {weight: .inf}}]",
    "line 2: models[0].parameters.weight: is Infinity: write a finite number",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {weight: 1e10}}]",
    "line 2: models[0].parameters.weight: is 10000000000: `weight` is from -1000000000 to 1000000000",
  ],
  [
    'merge_method: linear\nmodels: [{model: a/one, parameters: {weight: "0.5"}}]',
    'line 2: models[0].parameters.weight: is "0.5", not a number: write it without quotes',
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {weight: [0, [1]]}}]",
    "line 2: models[0].parameters.weight: mixes numbers with other things: list numbers alone, or mappings of filter and value",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {weight: []}}]",
    "line 2: models[0].parameters.weight: has 0 items: give 1 to 1000",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {weight: [{filter: mlp}]}}]",
    "line 2: models[0].parameters.weight[0]: has no `value`: give a number or a list of numbers",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {weight: [{filtre: mlp, value: 1}]}}]",
    "line 2: models[0].parameters.weight[0].filtre: is not known here: did you mean `filter`?",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {weight: [{filter: 3, value: 1}]}}]",
    "line 2: models[0].parameters.weight[0].filter: is 3, not a text: put it in quotes",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {normalize: true}}]",
    "line 2: models[0].parameters.normalize: linear takes one `normalize` for all models: move it to the recipe's `parameters`",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one}, {model: a/two, parameters: {weight: 1}}]",
    "line 2: models[0]: linear needs `weight` of a/one: add it to models[0].parameters, or to `parameters` for all models",
  ],
  [
    `merge_method: linear\n${TWO}\nbase_model: a/three`,
    "line 3: base_model: linear needs `weight` of a/three: list it under `models` with its `weight`, or remove base_model",
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one, parameters: {weight: 1}}, {model: a/one, parameters: {weight: 1}}]",
    "line 2: models[1]: a/one stands twice: list it once, with its weights added up",
  ],
  [
    "merge_method: linear\nmodels: [{model: ./one, parameters: {weight: 1}}]",
    'line 2: models[0].model: "./one" is a path on a disk: push the model to the hub and name it owner/name',
  ],
  [
    "merge_method: linear\nmodels: [{model: one, parameters: {weight: 1}}]",
    'line 2: models[0].model: "one" is neither a model nor a document of this recipe: write owner/name',
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one@x@y, parameters: {weight: 1}}]",
    'line 2: models[0].model: "a/one@x@y" has more than one @: write owner/name@revision',
  ],
  [
    "merge_method: linear\nmodels: [{model: a/one+a/two+a/three, parameters: {weight: 1}}]",
    'line 2: models[0].model: "a/one+a/two+a/three" has more than one +: apply one adapter to a model',
  ],
  [
    "merge_method: linear\nmodels: [{model: {model: {path: a/one}, override_architecture: LlamaForCausalLM}, parameters: {weight: 1}}]",
    "line 2: models[0].model.override_architecture: tensors are merged by their names, whatever the architecture is called: remove it",
  ],
  ["merge_method: linear\nmodels: [{parameters: {weight: 1}}]", "line 2: models[0]: has no `model`: write owner/name"],
  ["merge_method: linear\nmodels: a/one", 'line 2: models: is "a/one", not a list: write each item after a `-`'],
  ["merge_method: linear\nmodels: []", "line 2: models: has 0 items: give 1 to 63"],
  ["merge_method: linear\nmodels: [{model: 3}]", "line 2: models[0].model: is 3, not a model: write owner/name"],
  [
    "merge_method: ties\nmodels: [{model: a/one, parameters: {weight: 1}}]",
    "line 1: ties needs a base model: give `base_model`",
  ],
  [
    "merge_method: ties\nbase_model: a/base\nmodels: [{model: a/base}]",
    "line 1: ties takes 1 or more models besides the base model, not 0: list more models",
  ],
  [
    "merge_method: ties\nbase_model: a/base\nmodels: [{model: a/one, parameters: {weight: 1, density: 1.5}}]",
    "line 3: models[0].parameters.density: is 1.5: `density` is from 0 to 1",
  ],
  [
    "merge_method: slerp\nbase_model: a/one\nmodels: [{model: a/one}, {model: a/two}]",
    "line 1: slerp needs `t`: add it to `parameters`",
  ],
  [
    "merge_method: slerp\nbase_model: a/one\nmodels: [{model: a/one}, {model: a/two}, {model: a/three}]\nparameters: {t: 0.5}",
    "line 1: slerp takes 1 model besides the base model, not 2: list fewer models",
  ],
  [
    "merge_method: slerp\nbase_model: a/one\nmodels: [{model: a/one}, {model: a/two}]\nparameters: {t: 1.5}",
    "line 4: parameters.t: is 1.5: `t` is from 0 to 1",
  ],
  [
    "merge_method: passthrough\nslices: [{sources: [{model: a/one}]}]",
    "line 2: slices[0].sources[0]: has no `layer_range`: write [first, end], the end not included",
  ],
  [
    "merge_method: passthrough\nslices: [{sources: [{model: a/one, layer_range: [4, 4]}]}]",
    "line 2: slices[0].sources[0].layer_range: [4, 4] is no range of layers: write [first, end], the end not included",
  ],
  [
    "merge_method: passthrough\nslices: [{sources: [{model: a/one, layer_range: [0, 4, 5]}]}]",
    "line 2: slices[0].sources[0].layer_range: has 3 items: give 1 to 2",
  ],
  [
    "merge_method: passthrough\nslices: [{sources: [{model: a/one, layer_range: [0, 4]}, {model: a/two, layer_range: [0, 3]}]}]",
    "line 2: slices[0].sources[1].layer_range: has 3 layers, the first source 4: give ranges of one length",
  ],
  [
    "merge_method: passthrough\nslices: [{source: [{model: a/one, layer_range: [0, 4]}]}]",
    "line 2: slices[0].source: is not known here: did you mean `sources`?",
  ],
  [
    "merge_method: task_arithmetic\nbase_model: a/base\nslices: [{sources: [{model: a/one, layer_range: [0, 4], parameters: {weight: 1}}]}]",
    "line 3: slices[0]: the base model a/base is none of the sources: add it with its layer_range",
  ],
  [
    `merge_method: linear\n${TWO}\ndtype: int64`,
    "line 3: dtype: weights can't be merged as int64: integer tensors keep their dtype: leave this away",
  ],
  [
    `merge_method: linear\n${TWO}\ndtype: bf16`,
    'line 3: dtype: is "bf16": use one of float32, float16, bfloat16, float64',
  ],
  [
    `merge_method: linear\n${TWO}\nout_shard_size: 5X`,
    "line 3: out_shard_size: 5X is no size: write bytes, or like 500M or 5B",
  ],
  [`merge_method: linear\n${TWO}\nseed: -1`, "line 3: seed: is -1: write an integer from 0 to 9007199254740991"],
  [`merge_method: linear\n${TWO}\nseed: 1.5`, "line 3: seed: is 1.5: write an integer from 0 to 9007199254740991"],
  [
    `merge_method: linear\n${TWO}\ntokenizer_source: unoin`,
    'line 3: tokenizer_source: "unoin" is no source of a tokenizer: use union, base or owner/name',
  ],
  [
    `merge_method: linear\n${TWO}\ntokenizer_source: union\ntokenizer: {source: base}`,
    "line 3: tokenizer_source: says the same as `tokenizer`: keep `tokenizer` alone",
  ],
  [
    `merge_method: linear\n${TWO}\ntokenizer: {tokens: {"<x>": {source: {kind: model_token, model: a/one}}}}`,
    'line 3: tokenizer.tokens."<x>".source: has to say which row: give either token or token_id',
  ],
  [
    `merge_method: linear\n${TWO}\ntokenizer: {tokens: {"<x y>": {sorce: a/one}}}`,
    'line 3: tokenizer.tokens."<x y>".sorce: is not known here: did you mean `source`?',
  ],
  [`merge_method: linear\n${TWO}\nchat_template: chatlm`, 'line 3: chat_template: is "chatlm": did you mean `chatml`?'],
  [
    `merge_method: linear\n${TWO}\nalign: {spec: {"fc.weight": ["a*0"]}}`,
    "line 3: align.spec.fc.weight[0]: is no group of units: write a name, name*n for n numbers a unit, or null",
  ],
  [`merge_method: linear\n${TWO}\nname: a b`, 'line 3: name: "a b" is no name: write letters, digits, . _ and -'],
  [`merge_method: linear\n${TWO}\nmodels: []`, "line 3: Map keys must be unique: this one comes twice"],
  [
    `merge_method: linear\n${TWO}\ntokenizer: !!python/object:os.system {}`,
    "line 3: Unresolved tag: tag:yaml.org,2002:python/object:os.system: write plain YAML",
  ],
  ["a: &a [*a]", "line 1: The YAML holds too much, its aliases filled in: write less, and without them"],
  ["- 3", "line 1: is 3, not a mapping: write its fields as `key: value`"],
  [
    `merge_method: linear\nname: x\n${TWO}\n---\nmerge_method: linear\nname: y\n${TWO}`,
    "every document has a name: leave the name of the output away",
  ],
  [
    `merge_method: linear\n${TWO}\n---\nmerge_method: linear\n${TWO}`,
    "line 3: documents[1]: is the second document without a `name`: name all but the output",
  ],
  [
    `merge_method: linear\nname: x\n${TWO}\n---\nmerge_method: linear\n${TWO}`,
    'line 2: documents[0].name: no document takes "x" as a model: use it or remove it',
  ],
  [
    "name: x\nmerge_method: passthrough\nmodels: [y]\n---\nname: y\nmerge_method: passthrough\nmodels: [x]\n---\nmerge_method: passthrough\nmodels: [x]",
    "line 7: documents[1].models[0].model: x → y → x is a circle: no document may need its own result",
  ],
  [
    "name: x\nmerge_method: passthrough\nmodels: [a/one]\n---\nmerge_method: passthrough\nmodels: [xx]",
    'line 6: documents[1].models[0].model: "xx" is neither a model nor a document of this recipe: did you mean `x`?',
  ],
  [
    "name: x\nmerge_method: passthrough\nmodels: [a/one]\n---\nname: x\nmerge_method: passthrough\nmodels: [a/one]\n---\nmerge_method: passthrough\nmodels: [x]",
    'line 5: documents[1].name: "x" names two documents: give each its own name',
  ],
  [
    "name: x\nconvert: {model: a/one}\n---\nmerge_method: passthrough\nmodels: [x]",
    "line 1: documents[0].name: only a merge can be a model of another document: remove the name",
  ],
  [
    "extract_lora: {model: a/one, base_model: a/base, include_regex: [x]}",
    "line 1: extract_lora.include_regex: is not known here: list parts of tensor names under `include` or `exclude`",
  ],
  ["extract_lora: {model: a/one}", "line 1: extract_lora: has to say what changed: give both model and base_model"],
  [
    "convert: {model: a/one+a/two}",
    "line 1: convert.model: only a repository can be converted: write owner/name@revision",
  ],
  [
    "base_model: a/b\nexperts: [{source_model: a/one, positive_promts: [x]}]",
    "line 2: experts[0].positive_promts: is not known here: did you mean `positive_prompts`?",
  ],
  [
    "merge_method: linear\nmodules: {vision_tower: {}}",
    "line 2: modules.vision_tower: has to say what it is made of: give either models or slices",
  ],
  ["merge_method: linear\nmodules: {}", "line 2: modules: has 0 modules: give 1 to 63"],
  [
    "merge_method: della\nbase_model: a/b\nmodels: [{model: a/one, parameters: {weight: 1, epsilon: [0.1, 0.2]}}]\nparameters: {normalize: [0, 1]}",
    "line 4: parameters.normalize: `normalize` can't change gradually: give one value, or values by filter",
  ],
  ["", "the recipe has 0 documents: write 1 to 32"],
  [
    "merge_method: linear\n<<: {a: 1}",
    'line 2: "<<": is not known here: use one of merge_method, models, slices, modules, base_model, parameters, tokenizer, tokenizer_source, dtype, chat_template, seed, align, name, out_dtype, out_shard_size',
  ],
];

/** Everything that a recipe can say of a merge. */
const FULL = `
merge_method: dare_ties
base_model: a/base@v1.0
slices:
  - sources:
      - model: a/base@v1.0
        layer_range: [0, 8]
      - model: a/one@0123abc+a/lora@main
        layer_range: [0, 8]
        parameters:
          weight: [0, 0.5, 1]
          density:
            - filter: self_attn
              value: 0.5
            - value: [0.9, 0.1]
    parameters:
      lambda: 0.5
  - sources:
      - model: {model: {path: a/two, revision: dev}, lora: {path: a/lora}}
        layer_range: [4, 12]
        parameters: {weight: {value: 0.3}}
      - model: a/base@v1.0
        layer_range: [4, 12]
    base_model: a/base@v1.0
parameters:
  normalize: true
  int8_mask: true
  density: 0.7
dtype: float32
out_dtype: bfloat16
tokenizer:
  source: union
  pad_to_multiple_of: 64
  tokens:
    <|start|>: {source: a/two@dev, force: true}
    <|zero|>: {source: {kind: zero}}
    <|seven|>: {source: {kind: model_token, model: a/base@v1.0, token_id: 7}}
    <|new|>: {}
chat_template: chatml
seed: 42
align:
  reference: a/base@v1.0
  spec: {fc.weight: [hidden, null], head.weight: [null, hidden*4]}
out_shard_size: 500M
`;

const FULL_CANONICAL = {
  merge_method: "dare_ties",
  base_model: "a/base@v1.0",
  slices: [
    {
      sources: [
        { model: "a/base@v1.0", layer_range: [0, 8] },
        {
          model: "a/one@0123abc+a/lora@main",
          layer_range: [0, 8],
          parameters: {
            weight: [0, 0.5, 1],
            density: [{ filter: "self_attn", value: 0.5 }, { value: [0.9, 0.1] }],
          },
        },
      ],
      parameters: { lambda: 0.5 },
    },
    {
      sources: [
        { model: "a/two@dev+a/lora", layer_range: [4, 12], parameters: { weight: 0.3 } },
        { model: "a/base@v1.0", layer_range: [4, 12] },
      ],
      base_model: "a/base@v1.0",
    },
  ],
  parameters: { density: 0.7, normalize: true, rescale: true, lambda: 1 },
  dtype: "float32",
  out_dtype: "bfloat16",
  tokenizer: {
    source: "union",
    pad_to_multiple_of: 64,
    tokens: {
      "<|new|>": {},
      "<|seven|>": { source: { kind: "model_token", model: "a/base@v1.0", token_id: 7 } },
      "<|start|>": { source: { kind: "model_token", model: "a/two@dev", token: "<|start|>" }, force: true },
      "<|zero|>": { source: { kind: "zero" } },
    },
  },
  chat_template: "chatml",
  seed: 42,
  align: { reference: "a/base@v1.0", spec: { "fc.weight": ["hidden", null], "head.weight": [null, "hidden*4"] } },
  out_shard_size: 500_000_000,
};

describe("a recipe that can't be read", () => {
  it.each(REFUSED)("%s", (recipe, told) => {
    expect(refusal(recipe)).toBe(told);
  });

  it("is too long", () => {
    expect(refusal(`# ${"x".repeat(1_000_000)}`)).toBe("the recipe has 1000002 characters: write at most 1000000");
  });

  it("is told of without a line where it was JSON", () => {
    const sent = { merge_method: "linear", models: [{ model: "a/one", parameters: { weigth: 1 } }] };
    expect(() => parseRecipeObject(sent)).toThrow(
      expect.objectContaining({
        code: "recipe.parameter",
        field: "models[0].parameters.weigth",
        line: undefined,
        message: "linear has no such parameter: did you mean `weight`?",
      }),
    );
  });

  it("is an error of the format, whatever was sent", () => {
    const keys = fc.constantFrom(
      "merge_method",
      "models",
      "slices",
      "sources",
      "model",
      "parameters",
      "weight",
      "value",
      "filter",
      "layer_range",
      "base_model",
      "tokenizer",
      "tokens",
      "modules",
      "experts",
      "convert",
      "extract_lora",
      "align",
      "spec",
      "name",
      "__proto__",
    );
    const words = fc.constantFrom("linear", "ties", "slerp", "a/one", "a/two@x", "union", "x", "5B", "float32");
    const { document } = fc.letrec((tie) => ({
      document: fc.oneof(
        { maxDepth: 6 },
        words,
        fc.integer({ min: -2, max: 9 }),
        fc.double(),
        fc.boolean(),
        fc.constant(null),
        fc.string(),
        fc.array(tie("document"), { maxLength: 4 }),
        fc.dictionary(fc.oneof(keys, fc.string()), tie("document"), { maxKeys: 6 }),
      ),
    }));
    fc.assert(
      fc.property(document, (value) => {
        try {
          parseRecipeObject(value);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 500 },
    );
  }, 60_000);

  it("is guessed at without trouble, whatever it holds", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.array(fc.string(), { maxLength: 5 }), (name, known) => {
        const found = nearest(name, known);
        expect(found === null || known.includes(found)).toBe(true);
        expect(nearest(name, [...known, name])).toBe(name);
      }),
    );
  });
});

describe("a recipe that can be read", () => {
  it("has one spelling, with every default", () => {
    expect(canonicalRecipe(parseRecipe(FULL))).toEqual(FULL_CANONICAL);
  });

  it("names each model once, in the order of the recipe", () => {
    expect(referencesOf(parseRecipe(FULL))).toEqual([
      { key: "a/base@v1.0", repo: "a/base", revision: "v1.0", path: "slices[0].sources[0].model" },
      {
        key: "a/one@0123abc+a/lora@main",
        repo: "a/one",
        revision: "0123abc",
        path: "slices[0].sources[1].model",
        adapter: { repo: "a/lora", revision: "main" },
      },
      {
        key: "a/two@dev+a/lora",
        repo: "a/two",
        revision: "dev",
        path: "slices[1].sources[0].model",
        adapter: { repo: "a/lora", revision: null },
      },
      { key: "a/two@dev", repo: "a/two", revision: "dev", path: "tokenizer.tokens.<|start|>.source" },
    ]);
  });

  it("notes what mergekit takes without effect", () => {
    expect(parseRecipe(FULL).notes).toEqual([
      {
        code: "parameter_ignored",
        field: "parameters.int8_mask",
        message: "`int8_mask` never changes what dare_ties gives: it is ignored",
      },
    ]);
  });

  it("notes values that never count", () => {
    const recipe = parseRecipe(`merge_method: passthrough
models: [{model: a/one, parameters: {scale: [{value: 2}, {filter: mlp, value: 3}]}}]`);
    expect(recipe.notes.map(({ field, message }) => `${field} ${message}`)).toEqual([
      "models[0].parameters.scale[1] comes after a value for all tensors: it never counts",
    ]);
  });

  it.each([
    ["as JSON", JSON.stringify(FULL_CANONICAL)],
    ["with the value of a weight in a list", FULL.replace("{value: 0.3}", "[{value: 0.3}]")],
    ["with a filter for all", FULL.replace("{value: 0.3}", '[{filter: "*", value: 3e-1}]')],
    ["with equal points of a gradient", FULL.replace("{value: 0.3}", "[0.3, 0.30]")],
    ["with numbers for booleans", FULL.replace("normalize: true", "normalize: 1.0")],
    ["with a default spelt out", FULL.replace("normalize: true", "normalize: true\n  rescale: true")],
    ["with bytes for a size", FULL.replace("500M", "500000000")],
    ["without what has no effect", FULL.replace("  int8_mask: true\n", "")],
    ["as the only one of a list", `- ${FULL.trim().replaceAll("\n", "\n  ")}`],
  ])("has the same digest %s", (_, text) => {
    expect(canonicalText(parseRecipe(text))).toBe(canonicalText(parseRecipe(FULL)));
  });

  it("is what its canonical form says, and the same as YAML and in any order of keys", () => {
    fc.assert(
      fc.property(mergeDocument, (document) => {
        const text = canonicalText(parseRecipeObject(document));
        expect(canonicalText(parseRecipeObject(JSON.parse(text)))).toBe(text);
        expect(canonicalText(parseRecipe(stringify(document)))).toBe(text);
        expect(canonicalText(parseRecipeObject(reversed(document)))).toBe(text);
      }),
      { numRuns: 100 },
    );
  }, 60_000);

  it("has the same digest with a tokenizer by its older name", () => {
    const recipe = `merge_method: linear\n${TWO}\n`;
    expect(canonicalText(parseRecipe(`${recipe}tokenizer_source: a/one`))).toBe(
      canonicalText(parseRecipe(`${recipe}tokenizer: {source: a/one}`)),
    );
  });

  it("has another digest with another model, weight or seed", () => {
    const texts = [FULL, FULL.replace("a/two", "a/three"), FULL.replace("0.3", "0.4"), FULL.replace("42", "43")];
    expect(new Set(texts.map((text) => canonicalText(parseRecipe(text)))).size).toBe(4);
  });

  it("orders its documents by who takes whom", () => {
    const recipe = parseRecipe(`
merge_method: slerp
base_model: first
models: [{model: first}, {model: second}]
parameters: {t: 0.5}
---
name: second
merge_method: linear
models: [{model: first, parameters: {weight: 1}}, {model: a/two, parameters: {weight: 1}}]
---
name: first
merge_method: passthrough
models: [a/one]
`);
    expect(recipe.documents.map(({ name }) => name)).toEqual(["first", "second", null]);
    expect(referencesOf(recipe).map(({ key, path }) => [key, path])).toEqual([
      ["a/one", "documents[2].models[0].model"],
      ["a/two", "documents[1].models[1].model"],
    ]);
  });

  it("may extract an adapter, convert weights or assemble experts", () => {
    expect(
      canonicalRecipe(parseRecipe("extract_lora: {model: a/one, base_model: a/base, exclude: [lm_head]}")),
    ).toEqual({
      extract_lora: { model: "a/one", base_model: "a/base", max_rank: 128, sv_epsilon: 0, exclude: ["lm_head"] },
      out_shard_size: 5_000_000_000,
    });
    const convert = parseRecipe("convert: {model: a/keras@v1, weights: [model.h5]}");
    expect(referencesOf(convert)).toEqual([
      { key: "a/keras@v1#model.h5", repo: "a/keras", revision: "v1", path: "convert.model", weights: ["model.h5"] },
    ]);
    const experts = parseRecipe(`
base_model: a/base
gate_mode: random
dtype: bfloat16
experts:
  - source_model: a/one
    positive_prompts: [code]
  - source_model: a/two
    positive_prompts: [poems]
    negative_prompts: [code]
`);
    expect(canonicalRecipe(experts)).toMatchObject({
      gate_mode: "random",
      experts_per_token: 2,
      out_dtype: "bfloat16",
    });
    expect(referencesOf(experts).map(({ key }) => key)).toEqual(["a/base", "a/one", "a/two"]);
  });
});

describe("mergekit's spelling of a recipe", () => {
  it("says the same", () => {
    const recipe = parseRecipe(FULL.replace(/align:\n.*\n.*\n/, ""));
    const yaml = toMergekitYaml(recipe);
    expect(yaml).toContain("merge_method: dare_ties\n");
    expect(yaml).not.toContain("seed");
    const back = parseRecipe(`${yaml}seed: 42\nout_shard_size: 500M\n`);
    expect(canonicalText(back)).toBe(canonicalText(recipe));
  });

  it("keeps documents apart", () => {
    const text = `name: x\nmerge_method: passthrough\nmodels: [a/one]\n---\nmerge_method: linear\nmodels: [{model: x, parameters: {weight: 1}}]`;
    expect(canonicalText(parseRecipe(toMergekitYaml(parseRecipe(text)) ?? ""))).toBe(canonicalText(parseRecipe(text)));
  });

  it.each([
    ["a method of its own", `merge_method: ties_paper\nbase_model: a/base\n${TWO}`],
    ["alignment", `merge_method: linear\n${TWO}\nalign: {}`],
    ["float64", `merge_method: linear\n${TWO}\nout_dtype: float64`],
    [
      "two ranges of one model in a slice",
      "merge_method: linear\nparameters: {weight: 1}\nslices: [{sources: [{model: a/one, layer_range: [0, 1]}, {model: a/one, layer_range: [1, 2]}]}]",
    ],
    ["a conversion", "convert: {model: a/one}"],
  ])("does not exist for %s", (_, text) => {
    expect(toMergekitYaml(parseRecipe(text))).toBeNull();
  });
});
