// Collects a program: sources, settings and operations in tables without duplicates, tensors with their sizes, and what is wrong.
import { quote } from "../text";
import { bytesOf, compareNatural, countOf, cutBySize, shardName, WEIGHTS } from "./layout";
import { findMethod, type Method } from "./methods";
import type { Component, ModelFacts, OutputFile, Problem, TensorFact } from "./models";
import {
  MAX_SOURCES,
  type Operation,
  type OutputSpec,
  type Program,
  type Settings,
  type SourceSpec,
  type TensorOp,
} from "./program";
import type { Dtype, Note } from "./recipe";
import type { Resolved } from "./settings";

/** A model of the program: of the hub, or the result of another document. */
export type Model = Omit<ModelFacts, "format"> & {
  readonly format: ModelFacts["format"] | "program";
  readonly program: Program | null;
  /** Key of the model of the hub whose configuration it has, and what is replaced in that. */
  readonly donor: string;
  readonly configPatch: Readonly<Record<string, unknown>>;
};

/** A tensor of a model that an operation reads. */
export type Operand = { readonly model: Model; readonly name: string; readonly fact: TensorFact };

export const FLOATS = new Set(["F64", "F32", "F16", "BF16"]);
export const INTEGERS = new Set(["BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64"]);

export const PROGRAM_DTYPES = {
  float64: "F64",
  float32: "F32",
  float16: "F16",
  bfloat16: "BF16",
} as const satisfies Record<Dtype, string>;

const MAX_MESSAGES = 50;
const MAX_FILES = 1000;
const ROOT: readonly Component[] = [{ folder: "", file: WEIGHTS, weights: [] }];
/** Buffers of the engine, the interpreter and the libraries that it calls. */
const CONSTANT_MEMORY = 512 * 2 ** 20;

/** Messages, those that differ only in a layer's number as one. */
class Messages<T extends { readonly code: string; readonly field: string; readonly message: string }> {
  readonly #groups = new Map<string, { readonly first: T; more: number }>();
  /** How many were left out. */
  left = 0;

  add(message: T): void {
    const key = `${message.code} ${message.field} ${message.message.replace(/\d+/g, "#")}`;
    const group = this.#groups.get(key);
    if (group !== undefined) group.more++;
    else if (this.#groups.size < MAX_MESSAGES) this.#groups.set(key, { first: message, more: 0 });
    else this.left++;
  }

  list(): T[] {
    return [...this.#groups.values()].map(({ first, more }) =>
      more === 0 ? first : { ...first, message: `${first.message} (and ${more} more like it)` },
    );
  }
}

export class Problems {
  readonly #messages = new Messages<Problem>();

  add(problem: Problem): void {
    this.#messages.add(problem);
  }

  get some(): boolean {
    return this.list().length > 0;
  }

  list(): Problem[] {
    const { left } = this.#messages;
    const rest = {
      code: "more_problems",
      field: "",
      message: `${left} more problems were found`,
      fix: "solve these first",
    };
    return left === 0 ? this.#messages.list() : [...this.#messages.list(), rest];
  }
}

type Tensor = {
  readonly op: TensorOp;
  readonly fact: TensorFact;
  readonly bytes: number;
  readonly read: number;
};

type Emission = {
  readonly name: string;
  readonly method: Method;
  readonly models: readonly Operand[];
  readonly base: Operand | null;
  readonly settings: Resolved;
  /** What operands are cropped to. */
  readonly crop?: readonly number[];
  /** Of the result, where that is not the operands'. */
  readonly shape?: readonly number[];
};

export class Builder {
  readonly problems = new Problems();
  readonly #notes = new Messages<Note>();
  readonly #outDtype: Dtype | null;
  readonly #sources = new Map<string, { readonly index: number; readonly model: Model; readonly spec: SourceSpec }>();
  readonly #settings = new Table<Settings>();
  readonly #operations = new Table<Operation>();
  readonly #tensors = new Map<string, Tensor>();
  #largestMatrix = 0;

  constructor(outDtype: Dtype | null) {
    this.#outDtype = outDtype;
  }

  note(note: Note): void {
    this.#notes.add(note);
  }

  notes(): Note[] {
    return this.#notes.list();
  }

  /** Index of a model among the sources. */
  source(model: Model): number {
    const known = this.#sources.get(model.key);
    if (known !== undefined) return known.index;
    const weights = model.components.find(({ folder }) => folder === "")?.weights ?? [];
    const folders = model.components.filter((one) => one.folder !== "" && one.weights.length > 0);
    const spec: SourceSpec = {
      label: model.label.slice(0, 600),
      ...(model.format === "safetensors" ? {} : { format: model.format }),
      ...(weights.length === 0 ? {} : { weights: [...weights] }),
      ...(folders.length === 0
        ? {}
        : { folders: Object.fromEntries(folders.map((one) => [one.folder, [...one.weights]])) }),
      ...(model.program === null ? {} : { program: model.program }),
      ...(model.configName === null ? {} : { config: model.configName }),
      ...(model.adapter === null
        ? {}
        : { adapter: { config: model.adapter.configName, weights: [...model.adapter.weights] } }),
      ...(Object.keys(model.tokenizer).length === 0 ? {} : { tokenizer: { ...model.tokenizer } }),
    };
    const index = this.#sources.size;
    this.#sources.set(model.key, { index, model, spec });
    return index;
  }

  /** Adds a tensor to the output. Operands agree in dtype and, once cropped, in shape: the caller has seen to it. */
  emit({ name, method, models, base, settings, crop, shape }: Emission): void {
    const operands = base === null ? models : [...models, base];
    const [first] = operands;
    if (first === undefined) return;
    const stored = (base ?? first).fact.dtype;
    const dtype = this.#outDtype === null || !FLOATS.has(stored) ? null : PROGRAM_DTYPES[this.#outDtype];
    const names = operands.map((operand) => operand.name);
    const same = names.every((one) => one === names[0]);
    const op: TensorOp = {
      name,
      operation: this.operation(method, models, base, settings),
      ...(same ? (names[0] === name ? {} : { names: names.slice(0, 1) }) : { names }),
      ...(dtype === null ? {} : { dtype }),
      ...(crop === undefined ? {} : { shape: [...crop] }),
    };
    const result = { dtype: dtype ?? stored, shape: shape ?? crop ?? first.fact.shape };
    if (method.matrix)
      this.#largestMatrix = Math.max(this.#largestMatrix, countOf(first.fact.shape) * (2 * operands.length + 2));
    this.#tensors.set(name, {
      op,
      fact: result,
      bytes: bytesOf(result.dtype, result.shape),
      read: operands.reduce((sum, { fact }) => sum + (fact.bytes ?? bytesOf(fact.dtype, fact.shape)), 0),
    });
  }

  operation(method: Method, models: readonly Operand[], base: Operand | null, { values, each }: Resolved): number {
    const settings = this.#settings.add({
      ...(Object.keys(values).length === 0 ? {} : { values: { ...values } }),
      ...(Object.keys(each).length === 0
        ? {}
        : { each: Object.fromEntries(Object.entries(each).map(([name, numbers]) => [name, [...numbers]])) }),
    });
    return this.#operations.add({
      method: method.name,
      models: models.map(({ model }) => this.source(model)),
      ...(base === null ? {} : { base: this.source(base.model) }),
      settings,
    });
  }

  /** Copies a tensor of one model. */
  copy(name: string, operand: Operand): void {
    const method = this.method("passthrough", "");
    if (method !== null) this.emit({ name, method, models: [operand], base: null, settings: defaultsOf(method) });
  }

  /** The method of that name; where the table has none, that is a problem of the recipe. */
  method(name: string, field: string): Method | null {
    const method = findMethod(name);
    if (method === undefined)
      this.problems.add({
        code: "unknown_method",
        field,
        message: `the service has no method ${quote(name)}`,
        fix: "use one that it has",
      });
    return method ?? null;
  }

  /** Those that the output is made of, in the order of the sources. */
  get models(): Model[] {
    return [...this.#sources.values()].map(({ model }) => model);
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** Of the output, by name. */
  get tensors(): ReadonlyMap<string, TensorFact> {
    return new Map([...this.#tensors].map(([name, { fact }]) => [name, fact]));
  }

  /** The same as operands of a later document: what they cost to read is what computing them reads. */
  get computed(): ReadonlyMap<string, TensorFact> {
    return new Map([...this.#tensors].map(([name, { fact, read }]) => [name, { ...fact, bytes: read }]));
  }

  /** Operations, settings and sources so far, with files of these tensors. */
  program(files: readonly OutputSpec[], rest: Partial<Program>): Program {
    const settings = this.#settings.items;
    return {
      schema: "owm.merge-program/1",
      ...rest,
      sources: [...this.#sources.values()].map(({ spec }) => spec),
      settings: settings.length === 0 ? [{}] : [...settings],
      operations: [...this.#operations.items],
      files: [...files],
    };
  }

  /** The tensors in files, in the folders and under the names of `components`; `whole` where a file may not be cut. */
  layout(
    shardSize: number,
    field: string,
    { components = ROOT, whole = false }: { readonly components?: readonly Component[]; readonly whole?: boolean } = {},
  ): { specs: OutputSpec[]; files: OutputFile[] } {
    const sorted = [...this.#tensors.values()].sort((a, b) => compareNatural(a.op.name, b.op.name));
    const cut = components.flatMap(({ folder, file }) => {
      const prefix = folder === "" ? "" : `${folder}/`;
      const own = sorted.filter(({ op }) => op.name.startsWith(prefix));
      const shards = whole ? [own] : cutBySize(own, shardSize);
      return shards.map((tensors, i) => ({ path: prefix + shardName(file, i, shards.length), tensors }));
    });
    const laid = new Set(cut.flatMap(({ tensors }) => tensors));
    const stray = sorted.find((tensor) => !laid.has(tensor));
    if (stray !== undefined)
      this.problems.add({
        code: "folder_missing",
        field,
        message: `tensor ${tensorText(stray.op.name)} lies in no folder of the model that gives the configuration`,
        fix: "name a base_model of the same folders",
        tensor: stray.op.name,
      });
    if (sorted.length === 0 && !this.problems.some)
      this.problems.add({
        code: "no_tensors",
        field,
        message: "the output has no tensors",
        fix: "name models that have some",
      });
    if (cut.length > MAX_FILES)
      this.problems.add({
        code: "too_many_files",
        field: "out_shard_size",
        message: `the output would have ${cut.length} files of weights, at most ${MAX_FILES} are written`,
        fix: "raise out_shard_size",
      });
    if (this.#sources.size > MAX_SOURCES)
      this.problems.add({
        code: "too_many_models",
        field,
        message: `the recipe names ${this.#sources.size} models, at most ${MAX_SOURCES} are read`,
        fix: "merge in two steps",
      });
    return {
      specs: cut.map(({ path, tensors }) => ({ path, tensors: tensors.map(({ op }) => op) })),
      files: cut.map(({ path, tensors }) => ({
        path,
        tensors: tensors.length,
        bytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0),
      })),
    };
  }

  totals() {
    const tensors = [...this.#tensors.values()];
    const sum = (of: (tensor: Tensor) => number): number => tensors.reduce((total, tensor) => total + of(tensor), 0);
    return {
      tensors: tensors.length,
      parameters: sum(({ fact }) => countOf(fact.shape)),
      bytesRead: sum(({ read }) => read),
      bytesWritten: sum(({ bytes }) => bytes),
      memoryBytes: CONSTANT_MEMORY + this.#largestMatrix * 4,
    };
  }
}

/** Items in the order in which they came, equal ones once. */
class Table<T> {
  readonly items: T[] = [];
  readonly #known = new Map<string, number>();

  add(item: T): number {
    const key = JSON.stringify(item);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    this.#known.set(key, this.items.length);
    return this.items.push(item) - 1;
  }
}

/** What a method is called with when a recipe says nothing. */
export function defaultsOf(method: Method, values: Readonly<Record<string, number>> = {}): Resolved {
  const own = method.parameters.filter((parameter) => !parameter.each);
  const each = method.parameters.filter((parameter) => parameter.each);
  return {
    values: Object.fromEntries(own.map(({ name, default: value }) => [name, values[name] ?? value ?? 0])),
    each: Object.fromEntries(each.map(({ name, default: value }) => [name, [values[name] ?? value ?? 0]])),
  };
}

export const shapeText = (shape: readonly number[]): string => `[${shape.join(", ")}]`;
export const tensorText = (name: string): string => quote(name, 200);
