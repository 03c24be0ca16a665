// Of which type the value of each key of a card must be.
import { quote } from "../text";
import { GATED_FIELD_TYPES, LICENSES, RELATIONS } from "./vocabulary";

export type Path = readonly (string | number)[];
export type Report = (path: Path, problem: string) => void;
export type Check = (value: unknown, path: Path, report: Report) => void;

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const text: Check = (value, path, report) => {
  if (typeof value === "string") return;
  const isScalar = typeof value === "number" || typeof value === "boolean";
  report(path, isScalar ? `must be a string: put ${value} in quotes` : "must be a string");
};

const flag: Check = (value, path, report) => {
  if (typeof value !== "boolean") report(path, "must be true or false");
};

const list =
  (item: Check): Check =>
  (value, path, report) => {
    if (!Array.isArray(value)) return report(path, "must be an array: write each of its entries after a `-`");
    for (const [i, one] of value.entries()) item(one, [...path, i], report);
  };

/** One thing, or a list of them. */
const oneOrMore =
  (item: Check): Check =>
  (value, path, report) =>
    Array.isArray(value) ? list(item)(value, path, report) : item(value, path, report);

const mapping =
  (fields: Readonly<Record<string, Check>>, required: readonly string[] = []): Check =>
  (value, path, report) => {
    if (!isMapping(value)) return report(path, "must be an object: write its fields as `key: value` below it");
    for (const key of required) if (value[key] == null) report(path, `needs \`${key}\``);
    for (const [key, check] of Object.entries(fields)) {
      const field = value[key];
      if (field !== undefined && field !== null) check(field, [...path, key], report);
    }
  };

const oneOf =
  (known: ReadonlySet<string>, otherwise: string): Check =>
  (value, path, report) => {
    if (typeof value !== "string") text(value, path, report);
    else if (!known.has(value)) report(path, `must be one of [${[...known].join(", ")}]${otherwise}`);
  };

const anything: Check = () => undefined;

const either =
  (problem: string, ...types: readonly ((value: unknown) => boolean)[]): Check =>
  (value, path, report) => {
    if (!types.some((is) => is(value))) report(path, problem);
  };
const isNumber = (value: unknown): boolean => typeof value === "number" && Number.isFinite(value);

const emissions: Check = (value, path, report) => {
  if (isNumber(value)) return;
  mapping({ emissions: either("must be a number of grams", isNumber), source: text, training_type: text })(
    value,
    path,
    report,
  );
};

/** `text`, or `{type: select, options: […]}`. */
const gatedField: Check = (value, path, report) => {
  const type = isMapping(value) ? value.type : value;
  if (typeof type !== "string" || !GATED_FIELD_TYPES.has(type))
    return report(
      path,
      `must be one of [${[...GATED_FIELD_TYPES].join(", ")}]${typeof type === "string" ? `, not ${quote(type)}` : ""}`,
    );
  if (type !== "select") return;
  const options = isMapping(value) ? value.options : undefined;
  if (!Array.isArray(options) || options.length === 0) report(path, "needs `options`: list what may be chosen");
};

const gatedFields: Check = (value, path, report) => {
  if (!isMapping(value)) return report(path, "must be an object: write each question as `label: type`");
  for (const [label, field] of Object.entries(value)) gatedField(field, [...path, label], report);
};

const COMMON: Readonly<Record<string, Check>> = {
  language: oneOrMore(text),
  license: oneOrMore(
    oneOf(LICENSES, ': for any other licence write "other", with `license_name` and `license_link` beside it'),
  ),
  license_name: text,
  license_link: text,
  tags: list(text),
  thumbnail: text,
  extra_gated_prompt: text,
  extra_gated_heading: text,
  extra_gated_description: text,
  extra_gated_button_content: text,
  extra_gated_fields: gatedFields,
  extra_gated_eu_disallowed: flag,
};

const MODEL: Readonly<Record<string, Check>> = {
  ...COMMON,
  library_name: text,
  pipeline_tag: text,
  datasets: oneOrMore(text),
  metrics: oneOrMore(text),
  base_model: oneOrMore(text),
  base_model_relation: oneOf(new Set(RELATIONS), ""),
  new_version: text,
  model_name: text,
  quantized_by: text,
  mask_token: text,
  instance_prompt: text,
  co2_eq_emissions: emissions,
  widget: either("must be an array of examples, or false", Array.isArray, (value) => value === false),
  inference: either("must be true, false or an object", isMapping, (value) => typeof value === "boolean"),
  "model-index": either("must be an array of `name` and `results`", Array.isArray),
};

const config = mapping({ config_name: text, data_files: anything }, ["config_name"]);

const DATASET: Readonly<Record<string, Check>> = {
  ...COMMON,
  pretty_name: text,
  paperswithcode_id: text,
  annotations_creators: oneOrMore(text),
  language_creators: oneOrMore(text),
  multilinguality: oneOrMore(text),
  size_categories: oneOrMore(text),
  source_datasets: oneOrMore(text),
  task_categories: oneOrMore(text),
  task_ids: oneOrMore(text),
  configs: list(config),
  dataset_info: either("must be an object or an array of objects", isMapping, Array.isArray),
  viewer: flag,
};

export const checks = { model: MODEL, dataset: DATASET } as const;
