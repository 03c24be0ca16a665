// The parameters of a merge as a recipe writes them: numbers, gradients and lists of filters, checked against the method.

import { kindOf, type Place, readFields, readList, readMapping, readNumber, readText } from "./fields";
import { isWithoutEffect, type Method, type Parameter } from "./methods";
import { MAX_NUMBER } from "./program";
import type { Note, Parameters, Rule } from "./recipe";
import { didYouMean } from "./suggest";

const MAX_RULES = 1000;
const MAX_GRADIENT = 1000;

/** Where parameters stand: under a model they are that model's own. */
export type Scope = "model" | "all";

/** @throws FormatError for a parameter that the method does not have, or a value it can't take */
export function readParameters(value: unknown, place: Place, method: Method, scope: Scope, notes: Note[]): Parameters {
  const parameters = new Map<string, readonly Rule[]>();
  if (value === undefined || value === null) return parameters;
  for (const [name, setting] of readMapping(value, place)) {
    const at = place.at(name);
    const parameter = method.parameters.find((one) => one.name === name);
    if (parameter !== undefined) {
      if (scope === "model" && !parameter.each)
        throw at.fail(
          "parameter",
          `${method.name} takes one \`${name}\` for all models`,
          "move it to the recipe's `parameters`",
        );
      parameters.set(name, readSetting(setting, at, parameter, notes));
    } else if (isWithoutEffect(method, name)) {
      readSetting(setting, at, { ...NO_EFFECT, name }, notes);
      notes.push({
        code: "parameter_ignored",
        field: at.field,
        message: `\`${name}\` never changes what ${method.name} gives: it is ignored`,
      });
    } else {
      const known = method.parameters.map((one) => one.name);
      throw at.fail("parameter", `${method.name} has no such parameter`, didYouMean(name, known));
    }
  }
  return parameters;
}

const NO_EFFECT: Parameter = {
  name: "",
  kind: "float",
  each: true,
  default: null,
  minimum: null,
  maximum: null,
  note: "",
};

function readSetting(value: unknown, place: Place, parameter: Parameter, notes: Note[]): readonly Rule[] {
  if (!Array.isArray(value) || !value.some((item) => typeof item === "object" && item !== null)) {
    const single = typeof value === "object" && value !== null && !Array.isArray(value);
    return [single ? readRule(value, place, parameter) : { filter: null, values: readValues(value, place, parameter) }];
  }
  const isRule = (item: unknown): boolean => typeof item === "object" && item !== null && !Array.isArray(item);
  if (!value.every(isRule))
    throw place.fail("type", "mixes numbers with other things", "list numbers alone, or mappings of filter and value");
  const rules: Rule[] = [];
  for (const [item, at] of readList(value, place, MAX_RULES)) {
    if (rules.at(-1)?.filter === null) {
      notes.push({
        code: "rule_unreachable",
        field: at.field,
        message: "comes after a value for all tensors: it never counts",
      });
      break;
    }
    rules.push(readRule(item, at, parameter));
  }
  return rules;
}

function readRule(value: unknown, place: Place, parameter: Parameter): Rule {
  const fields = readFields(value, place, ["filter", "value"]);
  const filter = fields.get("filter");
  const text = filter === undefined ? null : readText(filter, place.at("filter"), 512);
  const points = fields.get("value");
  if (points === undefined) throw place.fail("missing", "has no `value`", "give a number or a list of numbers");
  return { filter: text === "*" ? null : text, values: readValues(points, place.at("value"), parameter) };
}

function readValues(value: unknown, place: Place, parameter: Parameter): readonly number[] {
  if (!Array.isArray(value)) return [readValue(value, place, parameter)];
  const values = readList(value, place, MAX_GRADIENT).map(([point, at]) => readValue(point, at, parameter));
  // Equal points are no gradient, however many there are.
  const [first = 0] = values;
  if (values.every((point) => point === first)) return [first];
  if (parameter.kind !== "float")
    throw place.fail("value", `\`${parameter.name}\` can't change gradually`, "give one value, or values by filter");
  return values;
}

function readValue(value: unknown, place: Place, parameter: Parameter): number {
  if (parameter.kind === "bool" && value !== 0 && value !== 1 && typeof value !== "boolean")
    throw place.fail("value", `is ${kindOf(value)}`, "write true or false");
  const number = typeof value === "boolean" ? Number(value) : readNumber(value, place);
  const least = parameter.minimum ?? -MAX_NUMBER;
  const most = parameter.maximum ?? MAX_NUMBER;
  if (number < least || number > most)
    throw place.fail("value", `is ${kindOf(value)}`, boundsText(parameter, least, most));
  if (parameter.kind === "int" && !Number.isInteger(number))
    throw place.fail("value", `is ${number}`, "write an integer");
  // −0 and 0 are one value with two spellings.
  return number === 0 ? 0 : number;
}

const boundsText = ({ name, minimum, maximum }: Parameter, least: number, most: number): string =>
  minimum !== null && maximum === null
    ? `\`${name}\` is at least ${minimum}`
    : maximum !== null && minimum === null
      ? `\`${name}\` is at most ${maximum}`
      : `\`${name}\` is from ${least} to ${most}`;
