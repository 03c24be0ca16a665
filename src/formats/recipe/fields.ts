// Reading untyped documents strictly: every value has its place, and a key that is not known is an error with a suggestion.
import { FormatError } from "../format-error";
import { quote } from "../text";
import { didYouMean } from "./suggest";

type Line = (path: readonly (string | number)[]) => number | undefined;

/** Where a value stands. */
export class Place {
  readonly #prefix: string;
  readonly #lineOf: Line;
  readonly #path: readonly (string | number)[];
  /** All places of the document that were looked at. */
  readonly #known: Map<string, Place>;
  /** Within its document: `slices[0].sources[1]`. */
  readonly local: string;

  private constructor(
    prefix: string,
    lineOf: Line,
    path: readonly (string | number)[],
    local: string,
    known: Map<string, Place>,
  ) {
    this.#prefix = prefix;
    this.#lineOf = lineOf;
    this.#path = path;
    this.#known = known;
    this.local = local;
    known.set(local, this);
  }

  /** The document itself; `prefix` stands before all fields in it. */
  static of(prefix: string, lineOf: Line): Place {
    return new Place(prefix, lineOf, [], "", new Map());
  }

  at(key: string | number): Place {
    const part = typeof key === "number" ? `[${key}]` : `${this.local === "" ? "" : "."}${shown(key)}`;
    return new Place(this.#prefix, this.#lineOf, [...this.#path, key], this.local + part, this.#known);
  }

  /** The place that goes by this text, or this one where none does. */
  find(local: string): Place {
    return this.#known.get(local) ?? this;
  }

  get field(): string {
    return (this.#prefix + this.local).replace(/\.$/, "");
  }

  fail(code: string, problem: string, fix: string): FormatError {
    const line = this.#lineOf(this.#path);
    return new FormatError(`recipe.${code}`, problem, {
      ...(this.field === "" ? {} : { field: this.field }),
      ...(line === undefined ? {} : { line }),
      fix,
    });
  }
}

/** Keys come from outside: what is no plain name is quoted. */
const shown = (key: string): string => (/^[\w.-]{1,80}$/.test(key) ? key : quote(key));

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const kindOf = (value: unknown): string =>
  value === null || value === undefined
    ? "nothing"
    : Array.isArray(value)
      ? "a list"
      : isMapping(value)
        ? "a mapping"
        : typeof value === "string"
          ? quote(value)
          : String(value);

/** The members of a mapping; those that say null are left out, as if they were not there. */
export function readMapping(value: unknown, place: Place): Map<string, unknown> {
  if (!isMapping(value))
    throw place.fail("type", `is ${kindOf(value)}, not a mapping`, "write its fields as `key: value`");
  return new Map(Object.entries(value).filter(([, member]) => member !== null && member !== undefined));
}

/** The same, where only these keys may be; `hint` may know better where another one belongs. */
export function readFields(
  value: unknown,
  place: Place,
  known: readonly string[],
  hint: (key: string) => string | undefined = () => undefined,
): Map<string, unknown> {
  if (!isMapping(value)) throw place.fail("type", `is ${kindOf(value)}, not a mapping`, `give ${known.join(", ")}`);
  for (const key of Object.keys(value))
    if (!known.includes(key))
      throw place.at(key).fail("unknown_key", "is not known here", hint(key) ?? didYouMean(key, known));
  return readMapping(value, place);
}

export function readText(value: unknown, place: Place, most = 1000): string {
  if (typeof value !== "string")
    throw place.fail(
      "type",
      `is ${kindOf(value)}, not a text`,
      typeof value === "object" ? "write a text" : "put it in quotes",
    );
  if (value === "" || value.length > most)
    throw place.fail("value", `has ${value.length} characters`, `write 1 to ${most}`);
  return value;
}

export function readFlag(value: unknown, place: Place): boolean {
  if (typeof value === "boolean") return value;
  throw place.fail("type", `is ${kindOf(value)}, not a boolean`, "write true or false");
}

export function readNumber(value: unknown, place: Place): number {
  if (typeof value !== "number") {
    const fix =
      typeof value === "string" && value.trim() !== "" && !Number.isNaN(Number(value))
        ? "write it without quotes"
        : "write a number";
    throw place.fail("type", `is ${kindOf(value)}, not a number`, fix);
  }
  if (!Number.isFinite(value)) throw place.fail("value", `is ${value}`, "write a finite number");
  return value;
}

export function readInteger(value: unknown, place: Place, least: number, most: number): number {
  const number = readNumber(value, place);
  if (!Number.isInteger(number) || number < least || number > most)
    throw place.fail("value", `is ${number}`, `write an integer from ${least} to ${most}`);
  return number;
}

export function readOneOf<T extends string>(value: unknown, place: Place, options: readonly T[]): T {
  const text = readText(value, place);
  const found = options.find((option) => option === text);
  if (found === undefined) throw place.fail("value", `is ${quote(text)}`, didYouMean(text, options));
  return found;
}

/** The items of a list that is not empty, each with its place. */
export function readList(value: unknown, place: Place, most: number): (readonly [item: unknown, place: Place])[] {
  if (!Array.isArray(value)) throw place.fail("type", `is ${kindOf(value)}, not a list`, "write each item after a `-`");
  if (value.length === 0 || value.length > most)
    throw place.fail("value", `has ${value.length} items`, `give 1 to ${most}`);
  return value.map((item: unknown, i) => [item, place.at(i)]);
}
