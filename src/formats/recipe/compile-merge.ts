// Compiles a merge: which tensors of which models make each tensor of the output, with every parameter resolved.
import {
  type Anatomy,
  anatomyOf,
  isAfterLayers,
  isBuffer,
  isCounter,
  isHead,
  isInModule,
  isInputEmbedding,
  isVocabulary,
  layerName,
  mainStack,
  positionOf,
  type Stack,
} from "./architecture";
import { type Builder, FLOATS, INTEGERS, type Model, type Operand, shapeText, tensorText } from "./builder";
import { type LayerRun, layerCount, memberOf } from "./config";
import { countOf } from "./layout";
import { keepsNothing, type Method } from "./methods";
import type { TensorFact } from "./models";
import { type Input, inputsOf, type MergeDocument, type Module, type Parameters, type Slice } from "./recipe";
import { type ModelRef, refKey } from "./references";
import { positionOnGradient, type Resolved, resolveSettings } from "./settings";

export type Merged = {
  /** Whose configuration the output has. */
  readonly donor: Model;
  /** Where slices changed the layers: what they are now. */
  readonly layers: readonly LayerRun[] | null;
  /** Rows of the embeddings, where they were cropped. */
  readonly rows: number | null;
  /** Whether the output has a head of its own where the donor's is its embedding. */
  readonly untied: boolean;
  /** Tensors of the models with a row a token. */
  readonly vocabulary: readonly string[];
};

/** A model as the recipe lists it, found. */
type Source = { readonly input: Input; readonly model: Model; readonly anatomy: Anatomy };

type NamedStack = { readonly name: string; readonly stack: Stack };

type Candidate = { readonly source: Source; readonly name: string };

/** How one tensor of the output is asked for. */
type Wanted = {
  readonly name: string;
  readonly t: number;
  readonly scopes: readonly Parameters[];
  readonly candidates: readonly Candidate[];
  /** Key of the base model, where the method tells it from the others. */
  readonly base: string | null;
  readonly field: string;
};

/** Null where a model is not to be had: the problem is noted. */
export function compileMerge(
  document: MergeDocument,
  method: Method,
  find: (ref: ModelRef, field: string) => Model | null,
  builder: Builder,
): Merged | null {
  return new MergeCompiler(document, method, find, builder).run();
}

class MergeCompiler {
  readonly #document: MergeDocument;
  readonly #method: Method;
  readonly #find: (ref: ModelRef, field: string) => Model | null;
  readonly #builder: Builder;
  readonly #modules: readonly (string | null)[];
  readonly #anatomies = new Map<string, Anatomy>();
  readonly #stacks = new Map<Source, NamedStack | null>();
  #layers: LayerRun[] | null = null;
  #rows: number | null = null;
  #untied = false;
  readonly #vocabulary = new Set<string>();

  constructor(
    document: MergeDocument,
    method: Method,
    find: (ref: ModelRef, field: string) => Model | null,
    builder: Builder,
  ) {
    this.#document = document;
    this.#method = method;
    this.#find = find;
    this.#builder = builder;
    this.#modules = document.modules.map(({ name }) => name);
  }

  run(): Merged | null {
    const listed = this.#document.modules.map((module) => ({ module, parts: this.#partsOf(module) }));
    const found = listed.flatMap(({ parts }) => parts);
    if (found.some(({ sources, inputs }) => sources.length < inputs.length)) return null;
    // In the order of the recipe, whatever the order of tensors: appended tokens follow it.
    for (const { sources } of found) for (const { model } of sources) this.#builder.source(model);
    const { base } = this.#document;
    const first = found[0]?.sources[0]?.model;
    const donor = base === null ? first : this.#find(base, "base_model");
    if (donor === undefined || donor === null) return null;
    for (const { module, parts } of listed) {
      this.#checkModule(module, parts[0]?.sources ?? []);
      if ("models" in module.body) for (const part of parts) this.#whole(module, part.sources);
      else
        this.#slices(
          module,
          module.body.slices,
          parts.map((part) => part.sources),
        );
    }
    const untied = this.#untied && memberOf(donor.config, "tie_word_embeddings") === true;
    return { donor, layers: this.#layers, rows: this.#rows, untied, vocabulary: [...this.#vocabulary] };
  }

  #partsOf({ name, body }: Module): { inputs: readonly Input[]; sources: Source[] }[] {
    const lists = "models" in body ? [inputsOf(this.#document, body.models)] : body.slices.map(({ inputs }) => inputs);
    return lists.map((inputs) => ({
      inputs,
      sources: inputs.flatMap((input) => {
        const model = this.#find(input.model, input.field === "base_model" ? "base_model" : `${input.field}.model`);
        return model === null ? [] : [{ input, model, anatomy: this.#anatomy(model, name) }];
      }),
    }));
  }

  #anatomy(model: Model, module: string | null): Anatomy {
    const key = `${module} ${model.key}`;
    const anatomy = this.#anatomies.get(key) ?? anatomyOf(this.#namesOf(model, module));
    this.#anatomies.set(key, anatomy);
    return anatomy;
  }

  /** `default` takes what no other module does. */
  #namesOf(model: Model, module: string | null): Iterable<string> {
    if (module === null) return model.tensors.keys();
    const others = this.#modules.filter((name) => name !== null && name !== "default");
    const belongs = (name: string): boolean =>
      module === "default"
        ? !others.some((other) => other !== null && isInModule(name, other))
        : isInModule(name, module);
    return [...model.tensors.keys()].filter(belongs);
  }

  /** That the module has tensors, and that no tensor of its models is left without one. */
  #checkModule({ name, field }: Module, sources: readonly Source[]): void {
    if (name === null) return;
    const names = this.#modules.filter((one) => one !== null);
    if (sources.every(({ anatomy }) => anatomy.stacks.size === 0 && anatomy.rest.length === 0))
      this.#builder.problems.add({
        code: "module_empty",
        field,
        message: `no tensor belongs to the module ${tensorText(name)}`,
        fix: "name a part of tensor names, like vision_tower",
      });
    if (names.includes("default")) return;
    for (const { model } of sources)
      for (const tensor of model.tensors.keys())
        if (!names.some((one) => isInModule(tensor, one)))
          this.#builder.problems.add({
            code: "tensor_without_module",
            field: "modules",
            message: `tensor ${tensorText(tensor)} of ${model.label} belongs to no module`,
            fix: "add a module `default` for what the others leave",
            tensor,
          });
  }

  /** All layers of every model, tensor by tensor. */
  #whole(module: Module, sources: readonly Source[]): void {
    const base = this.#baseKey(this.#document.base);
    const uneven = this.#unevenStacks(sources);
    const counts = new Map<string, number>();
    for (const { anatomy } of sources)
      for (const [stack, { count }] of anatomy.stacks) counts.set(stack, Math.max(count, counts.get(stack) ?? 0));
    const scopes = [module.parameters, this.#document.parameters];
    const want = (name: string, t: number): void =>
      this.#emit({
        name,
        t,
        scopes,
        candidates: sources.map((source) => ({ source, name })),
        base,
        field: module.field,
      });
    for (const name of new Set(sources.flatMap(({ anatomy }) => anatomy.rest))) want(name, 0);
    for (const [stack, count] of counts) {
      if (uneven.has(stack)) continue;
      for (let layer = 0; layer < count; layer++) {
        const names = new Set(sources.flatMap(({ anatomy }) => anatomy.stacks.get(stack)?.layers.get(layer) ?? []));
        for (const name of names) want(name, positionOnGradient(layer, count));
      }
    }
  }

  #unevenStacks(sources: readonly Source[]): Set<string> {
    const uneven = new Set<string>();
    const first = new Map<string, { readonly count: number; readonly source: Source }>();
    for (const source of sources)
      for (const [stack, { count }] of source.anatomy.stacks) {
        const known = first.get(stack);
        if (known === undefined) first.set(stack, { count, source });
        else if (known.count !== count && !uneven.has(stack)) {
          uneven.add(stack);
          this.#builder.problems.add({
            code: "layer_count",
            field: source.input.field,
            message: `${source.model.label} has ${count} layers in ${tensorText(stack)}, ${known.source.model.label} has ${known.count}`,
            fix: "choose layers with `slices`",
          });
        }
      }
    return uneven;
  }

  /** Layers of the slices one after another; what comes before them from the first slice, what comes after from the last. */
  #slices(module: Module, slices: readonly Slice[], sources: readonly (readonly Source[])[]): void {
    const donor = sources[0]?.[0];
    const donorStack = donor === undefined ? null : this.#stackOf(donor);
    if (donor === undefined || donorStack === null) return;
    let offset = 0;
    const runs: LayerRun[] = [];
    for (const [i, slice] of slices.entries()) {
      const parts = (sources[i] ?? []).map((source) => ({ source, stack: this.#stackOf(source) }));
      const base = this.#baseKey(slice.base ?? this.#document.base);
      const scopes = [slice.parameters, module.parameters, this.#document.parameters];
      const [first, end] = slice.inputs[0]?.range ?? [0, 0];
      for (let k = 0; k < end - first; k++) {
        const t = positionOnGradient(k, end - first);
        const suffixes = new Set(parts.flatMap(({ source, stack }) => suffixesAt(source, stack, k)));
        for (const suffix of suffixes)
          this.#emit({
            name: layerName(donorStack.name, offset + k, suffix),
            t,
            scopes,
            candidates: parts.map(({ source, stack }) => ({
              source,
              name: layerName(stack?.name ?? donorStack.name, (source.input.range?.[0] ?? 0) + k, suffix),
            })),
            base,
            field: slice.field,
          });
      }
      const model = parts[0]?.source.model;
      if (model !== undefined) runs.push({ config: model.config, first, end });
      offset += end - first;
      const outside = new Set(parts.flatMap(({ source, stack }) => outsideOf(source.anatomy, stack?.name)));
      for (const name of outside)
        if (isAfterLayers(name) ? i === slices.length - 1 : i === 0)
          this.#emit({
            name,
            t: 0,
            scopes,
            candidates: parts.map(({ source }) => ({ source, name })),
            base,
            field: slice.field,
          });
    }
    // Of a model with several stacks, config.json counts one.
    if (module.name === null || layerCount(donor.model.config)?.value === donorStack.stack.count) this.#layers = runs;
  }

  /** The layers that a source's range counts; looked for once, so that what is wrong is told once. */
  #stackOf(source: Source): NamedStack | null {
    const known = this.#stacks.get(source);
    if (known !== undefined) return known;
    const stack = this.#findStack(source);
    this.#stacks.set(source, stack);
    return stack;
  }

  #findStack({ input, model, anatomy }: Source): NamedStack | null {
    const name = mainStack(anatomy, model.config);
    const stack = name === null ? undefined : anatomy.stacks.get(name);
    if (name === null || stack === undefined) {
      const stacks = [...anatomy.stacks.keys()].map(tensorText).join(", ");
      this.#builder.problems.add({
        code: "layers_unclear",
        field: input.field,
        message: `${model.label} has ${stacks === "" ? "no layers" : `more than one stack of layers: ${stacks}`}`,
        fix: stacks === "" ? "list it under `models`" : "give each its slices in `modules`",
      });
      return null;
    }
    if (input.range !== null && input.range[1] > stack.count)
      this.#builder.problems.add({
        code: "layer_range",
        field: `${input.field}.layer_range`,
        message: `${model.label} has ${stack.count} layers, not ${input.range[1]}`,
        fix: `end the range at ${stack.count} or before`,
      });
    return { name, stack };
  }

  #baseKey(base: ModelRef | null): string | null {
    return base === null || this.#method.base === "forbidden" ? null : refKey(base);
  }

  #emit(wanted: Wanted): void {
    const { name } = wanted;
    const { problems } = this.#builder;
    if (this.#builder.has(name)) {
      problems.add({
        code: "tensor_twice",
        field: wanted.field,
        message: `tensor ${tensorText(name)} would come from two parts of the recipe`,
        fix: "name modules that have no tensors in common",
        tensor: name,
      });
      return;
    }
    const found = wanted.candidates.map((candidate) => ({ candidate, operand: operandOf(candidate) }));
    const present = found.flatMap(({ candidate, operand }) => (operand === null ? [] : [{ candidate, operand }]));
    const [first] = present;
    if (first === undefined) return;
    if (isCounter(name)) {
      this.#builder.copy(name, first.operand);
      return;
    }
    if (present.length < found.length && !isBuffer(name)) {
      for (const { candidate, operand } of found)
        if (operand === null)
          problems.add({
            code: "tensor_missing",
            field: candidate.source.input.field,
            message: `${candidate.source.model.label} lacks tensor ${tensorText(candidate.name)}, which ${first.operand.model.label} has`,
            fix: "merge models of one architecture",
            tensor: name,
          });
      return;
    }
    // The first of its name: the same model may stand in a slice twice, with other layers.
    const base = present.find(({ candidate }) => refKey(candidate.source.input.model) === wanted.base);
    const models = present.filter((one) => one !== base);
    const lacksBase = wanted.base !== null && base === undefined;
    if (lacksBase || models.length < this.#method.least) {
      this.#builder.note({
        code: "tensor_copied",
        field: wanted.field,
        message: `${tensorText(name)} is copied from ${first.operand.model.label}: not all models have it`,
      });
      this.#builder.copy(name, first.operand);
      return;
    }
    const shape = this.#commonShape(
      wanted,
      present.map(({ operand }) => operand),
    );
    if (shape === null) return;
    const settings = this.#settings(wanted, models);
    if (settings === null) return;
    if (isVocabulary(name)) for (const { operand } of present) this.#vocabulary.add(operand.name);
    if (
      isHead(name) &&
      present.some(({ operand: { model } }) => memberOf(model.config, "tie_word_embeddings") !== true)
    )
      this.#untied = true;
    this.#builder.emit({
      name,
      method: this.#method,
      models: models.map(({ operand }) => operand),
      base: base?.operand ?? null,
      settings,
      ...(shape === "equal" ? {} : { crop: shape }),
    });
  }

  /** The shape that all operands are cropped to, or that they are equal already; null where they don't fit. */
  #commonShape({ name, field }: Wanted, operands: readonly Operand[]): readonly number[] | "equal" | null {
    const [first] = operands;
    if (first === undefined) return null;
    const odd = operands.find(
      ({ fact }) => fact.dtype !== first.fact.dtype && !(FLOATS.has(fact.dtype) && FLOATS.has(first.fact.dtype)),
    );
    const unknown = operands.find(({ fact }) => !FLOATS.has(fact.dtype) && !INTEGERS.has(fact.dtype));
    const unfit = odd ?? unknown;
    if (unfit !== undefined) {
      this.#builder.problems.add({
        code: "tensor_dtype",
        field,
        message:
          unfit === odd
            ? `tensor ${tensorText(name)} is ${first.fact.dtype} in ${first.model.label} and ${unfit.fact.dtype} in ${unfit.model.label}`
            : `tensor ${tensorText(name)} of ${unfit.model.label} is ${unfit.fact.dtype}, which can't be merged`,
        fix: "give the models in floating point",
        tensor: name,
      });
      return null;
    }
    const other = operands.find(({ fact }) => !sameShape(fact.shape, first.fact.shape));
    if (other === undefined) return "equal";
    const rowsOnly =
      isVocabulary(name) &&
      operands.every(({ fact }) => sameShape(fact.shape.slice(1), first.fact.shape.slice(1)) && fact.shape.length > 0);
    if (!rowsOnly) {
      this.#builder.problems.add({
        code: "tensor_shape",
        field,
        message: `tensor ${tensorText(name)} is ${shapeText(first.fact.shape)} in ${first.model.label} and ${shapeText(other.fact.shape)} in ${other.model.label}`,
        fix: "merge models of one architecture and size",
        tensor: name,
      });
      return null;
    }
    // The tokenizer decides about the rows.
    if (this.#document.tokenizer !== null) return "equal";
    const rows = Math.min(...operands.map(({ fact }) => fact.shape[0] ?? 0));
    this.#rows = Math.min(rows, this.#rows ?? rows);
    this.#builder.note({
      code: "vocabulary_cropped",
      field,
      message: `${tensorText(name)} has ${operands.map(({ fact, model }) => `${fact.shape[0]} rows in ${model.label}`).join(", ")}: the first ${rows} are merged; a \`tokenizer\` section merges vocabularies token by token`,
    });
    return [rows, ...first.fact.shape.slice(1)];
  }

  #settings(
    wanted: Wanted,
    models: readonly { readonly candidate: Candidate; readonly operand: Operand }[],
  ): Resolved | null {
    const { name, t, scopes, field } = wanted;
    const method = this.#method;
    const operands = models.map(({ candidate, operand }) => ({
      parameters: candidate.source.input.parameters,
      name: operand.name,
    }));
    const resolved = resolveSettings(method, name, t, scopes, operands);
    if ("parameter" in resolved) {
      const model = resolved.model === null ? undefined : models[resolved.model]?.candidate.source;
      this.#builder.problems.add({
        code: "parameter_missing",
        field: model === undefined ? "parameters" : model.input.field,
        message: `${method.name} needs \`${resolved.parameter}\` ${model === undefined ? "" : `of ${model.model.label} `}for tensor ${tensorText(name)}, and no filter fits it`,
        fix: "add a value without a filter",
        tensor: name,
      });
      return null;
    }
    const problem = conflictOf(method, resolved, models[0]?.operand.fact.shape ?? []);
    if (problem === null) return resolved;
    this.#builder.problems.add({ ...problem, field: field === "" ? "parameters" : field, tensor: name });
    return null;
  }
}

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((axis, i) => axis === b[i]);

/** Values that the method's maths can't do together. */
function conflictOf(
  method: Method,
  { values, each }: Resolved,
  shape: readonly number[],
): { code: string; message: string; fix: string } | null {
  const { weight: weights = [], density: densities = [] } = each;
  const normalize = values.normalize ?? values.normalize_weights ?? 0;
  const sum = weights.reduce((total, weight) => total + weight, 0);
  // With an origin, no weight at all leaves the origin.
  const onBase = method.base === "required" && weights.every((weight) => weight === 0);
  if (normalize === 1 && weights.length > 0 && Math.abs(sum) < 1e-8 && !onBase)
    return {
      code: "weights_sum_zero",
      message: `the weights ${weights.join(", ")} sum to zero, so they can't be normalised`,
      fix: "change a weight, or set normalize to false",
    };
  const count = countOf(shape);
  const empty = densities.find((density) => keepsNothing(method, density, count));
  if (empty !== undefined)
    return {
      code: "density_too_small",
      message: `a density of ${empty} keeps none of the ${count} elements of a tensor`,
      fix: "raise the density, by a filter for small tensors, or leave the model out",
    };
  const { epsilon: epsilons = [] } = each;
  const strayed = densities.findIndex((density, i) => {
    const epsilon = epsilons[i] ?? 0;
    return density > 0 && density < 1 && (density - epsilon <= 0 || density + epsilon >= 1);
  });
  if (epsilons.length > 0 && strayed >= 0)
    return {
      code: "density_epsilon",
      message: `${method.name} keeps elements with probabilities of density ± epsilon, and ${densities[strayed]} ± ${epsilons[strayed]} is not within 0 and 1`,
      fix: "lower epsilon",
    };
  return null;
}

/** Its tensor, or the embedding that a tied model uses in its place. */
function operandOf({ source: { model }, name }: Candidate): Operand | null {
  const fact = model.tensors.get(name);
  if (fact !== undefined) return { model, name, fact };
  const tied = tiedTensor(model, name);
  return tied === null ? null : { model, ...tied };
}

function tiedTensor(model: Model, name: string): { name: string; fact: TensorFact } | null {
  if (!isVocabulary(name) || !name.endsWith(".weight")) return null;
  if (isHead(name) && memberOf(model.config, "tie_word_embeddings") === false) return null;
  for (const [candidate, fact] of model.tensors)
    if (isInputEmbedding(candidate) && fact.shape.length === 2) return { name: candidate, fact };
  return null;
}

function suffixesAt(source: Source, stack: NamedStack | null, k: number): string[] {
  const names = stack?.stack.layers.get((source.input.range?.[0] ?? 0) + k) ?? [];
  return names.map((name) => positionOf(name)?.suffix ?? "");
}

/** Tensors outside the stack, those of other stacks too. */
function outsideOf({ stacks, rest }: Anatomy, stack: string | undefined): string[] {
  const others = [...stacks].filter(([name]) => name !== stack);
  return [...rest, ...others.flatMap(([, { layers }]) => [...layers.values()].flat())];
}
