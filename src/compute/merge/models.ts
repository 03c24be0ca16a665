// The facts of a recipe's models, read from headers and small texts of their files: what compiling needs, and what a plan tells.
import { HubError } from "../../errors";
import { textField, textsField } from "../../formats/card/fields";
import { type Licence, nameOf as licenceName } from "../../formats/card/licences";
import { parseCard } from "../../formats/card/yaml";
import { type GgufTensor, readGgufHeader } from "../../formats/gguf";
import { memberOf } from "../../formats/recipe/config";
import {
  adapted,
  checkQuantization,
  FactPool,
  ggufFacts,
  safetensorsFacts,
  type Tensors,
  withoutScales,
} from "../../formats/recipe/facts";
import type { AdapterFacts, ModelFacts, Problem } from "../../formats/recipe/models";
import type { Document } from "../../formats/recipe/recipe";
import { parseSafetensorsIndex, type SafetensorsIndex } from "../../formats/safetensors-index";
import { findStoredFiles, type StoredFile } from "../../hub/files";
import type { Platform } from "../../platform/platform";
import { readContent, sha256Of } from "../../store/contents";
import { readAll } from "../../streams/chunks";
import { jsonNestsDeeperThan } from "../../streams/ndjson";
import { readWhole } from "../sources";
import { invalidWeights, readHeader } from "../weights";
import {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  type Component,
  FIRST_BYTES,
  type Located,
  labelOf,
  missing,
  type Parent,
  type Parents,
} from "./parents";

/** Of all weight files together, each read once: what an isolate parses in a second or two. Bytes. */
const MAX_HEADERS_BYTES = 48 << 20;
const MAX_JSON_DEPTH = 64;
const CONCURRENCY = 6;
/** What tokenizers are told apart by: the first of these that is there. */
const TOKENIZERS = ["tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"];
export const TOKENIZER_FILES: readonly string[] = [
  ...TOKENIZERS,
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "merges.txt",
  "chat_template.jinja",
];

/** A file by the name that the compute service calls it. */
export const inputName = (parent: number, path: string): string => `models/${parent}/${path}`;

export type Model = {
  readonly located: Located;
  readonly facts: ModelFacts;
  /** In the order of the index where the model is sharded. */
  readonly weights: readonly StoredFile[];
  readonly tokenizer: string | null;
  readonly chatTemplate: string | null;
  /** Of the GGUF header, where it is one. */
  readonly architecture: string | null;
};

export type ParentText = {
  readonly licences: readonly Licence[];
  readonly library: string | null;
  readonly pipeline: string | null;
};

export type ReadModels = {
  readonly models: readonly Model[];
  readonly parents: readonly (Parent & ParentText)[];
  /** What can't be merged, by what headers and configurations say. */
  readonly problems: readonly Problem[];
  /** How many bytes of tensor data are in files that all models share, and how many tensors. */
  readonly identical: { readonly tensors: number; readonly bytes: number };
};

/** Two round trips, and a ranged read or two for each file. @throws invalid_field | invalid_weights | payload_too_large */
export async function readModels(
  platform: Platform,
  { parents, models }: Parents,
  output: Document,
): Promise<ReadModels> {
  // Read by the compute service where the vocabulary changes or prompts are told apart, and only then.
  const readsTokenizers = output.kind === "experts" || (output.kind === "merge" && output.tokenizer !== null);
  const reader = new Reader(platform);
  const texts = await reader.texts(parents);
  const weights = await reader.weights(parents, models);
  const problems: Problem[] = [];
  const read: Model[] = [];
  // One after another: a header may have 25 MB, and an isolate has 128.
  for (const [i, located] of models.entries()) {
    const parent = parents[located.parent];
    if (parent === undefined) throw new HubError("internal");
    const complain = (problem: Omit<Problem, "field">): void =>
      void problems.push({ ...problem, field: located.field });
    const components = weights[i] ?? [];
    const own = components.flat();
    const { tensors, architecture } = await reader.tensors(located, components, complain);
    const config = reader.json(located.parent, "config.json", located.field);
    if (located.format === "safetensors") checkQuantization(config, complain);
    const adapter = await reader.adapter(parents, located);
    const base: ModelFacts = {
      key: located.reference.key,
      label: [parent, ...(located.adapter === null ? [] : [parents[located.adapter]])]
        .flatMap((one) => (one === undefined ? [] : [labelOf(one)]))
        .join("+"),
      format: located.format,
      components: located.components.map(({ folder, file }, n) => ({
        folder,
        file,
        weights: (components[n] ?? []).map((one) => inputName(located.parent, one.path)),
      })),
      config,
      configName: parent.files.has("config.json") ? inputName(located.parent, "config.json") : null,
      tensors: adapter === null ? tensors : adapted(tensors, adapter, complain),
      adapter,
      tokenizer: Object.fromEntries(
        TOKENIZER_FILES.filter((path) => readsTokenizers && parent.files.has(path)).map((path) => [
          path,
          inputName(located.parent, path),
        ]),
      ),
      vocabulary: null,
    };
    read.push({
      located,
      facts: base,
      weights: own,
      tokenizer:
        TOKENIZERS.map((path) => parent.files.get(path)?.sha256).find((sha256) => sha256 !== undefined) ?? null,
      chatTemplate: reader.chatTemplate(located.parent),
      architecture,
    });
  }
  return {
    models: read,
    parents: parents.map((parent, i) => ({ ...parent, ...cardOf(texts[i]?.get("README.md") ?? "") })),
    problems,
    identical: reader.identical(read),
  };
}

/** What `readWhole` reads of each parent. */
const TEXTS = ["README.md", "config.json", "adapter_config.json", "tokenizer_config.json", "chat_template.jinja"];

type FileTensors = { readonly tensors: Tensors; readonly bytes: number };

class Reader {
  readonly #platform: Platform;
  readonly #pool = new FactPool();
  /** By digest: models share files. */
  readonly #files = new Map<string, FileTensors>();
  #texts: readonly ReadonlyMap<string, string>[] = [];
  readonly #indices = new Map<Component, SafetensorsIndex>();
  #left = MAX_HEADERS_BYTES;

  constructor(platform: Platform) {
    this.#platform = platform;
  }

  async texts(parents: readonly Parent[]): Promise<readonly ReadonlyMap<string, string>[]> {
    const found: Map<string, string>[] = parents.map(() => new Map());
    const wanted = parents.flatMap(({ files, field }, i) =>
      TEXTS.flatMap((path) => {
        const file = files.get(path);
        return file === undefined ? [] : [{ i, path, file, field }];
      }),
    );
    for (let at = 0; at < wanted.length; at += CONCURRENCY)
      await Promise.all(
        wanted.slice(at, at + CONCURRENCY).map(async ({ i, path, file, field }) => {
          const bytes = await readWhole(this.#platform, file, field);
          found[i]?.set(path, new TextDecoder().decode(bytes));
        }),
      );
    this.#texts = found;
    return found;
  }

  /** The weight files of each component of each model; those that an index names by one more query for all. */
  async weights(
    parents: readonly Parent[],
    models: readonly Located[],
  ): Promise<readonly (readonly (readonly StoredFile[])[])[]> {
    const shards: { readonly of: Component; readonly snapshot: Parent["snapshot"]; readonly path: string }[] = [];
    for (const { components, field, parent: n } of models)
      for (const component of components) {
        const parent = parents[n];
        const file = component.index === null ? undefined : parent?.files.get(component.index);
        if (parent === undefined || file === undefined) continue;
        const bytes = await readWhole(this.#platform, file, field);
        const parsed = invalidAs(field, file.path, () => parseSafetensorsIndex(bytes));
        this.#indices.set(component, parsed);
        for (const name of parsed.shards)
          shards.push({ of: component, snapshot: parent.snapshot, path: pathIn(component.folder, name) });
      }
    const stored = await findStoredFiles(this.#platform.db, shards, FIRST_BYTES);
    return models.map(({ components, field, parent: n }) => {
      const parent = parents[n];
      if (parent === undefined) throw new HubError("internal");
      const at = { ...parent, field };
      return components.map((component) =>
        component.index === null
          ? component.weights.map((path) => parent.files.get(path) ?? fail(missing(at, path, "publish it")))
          : shards.flatMap((shard, s) =>
              shard.of === component
                ? [stored[s] ?? fail(missing(at, shard.path, "the index names it: upload the missing shard"))]
                : [],
            ),
      );
    });
  }

  /** `files`: those of each component. */
  async tensors(
    { format, field, components }: Located,
    files: readonly (readonly StoredFile[])[],
    complain: (problem: Omit<Problem, "field">) => void,
  ): Promise<{ tensors: Tensors; architecture: string | null }> {
    if (format === "gguf") return this.#gguf(field, files.flat(), complain);
    // Names and shapes of the other formats are in structures that only the compute service reads.
    if (format !== "safetensors") return { tensors: new Map(), architecture: null };
    const all: Tensors = new Map();
    for (const [i, component] of components.entries()) {
      for (const file of files[i] ?? [])
        for (const [own, fact] of (await this.#safetensors(field, file)).tensors) {
          const name = this.#pool.name(pathIn(component.folder, own));
          if (all.has(name))
            throw new HubError("invalid_weights", {
              field,
              problem: `${file.path} has tensor ${own}, which another shard has too`,
              path: file.path,
            });
          all.set(name, fact);
        }
      for (const name of this.#indices.get(component)?.weightMap.keys() ?? [])
        if (!all.has(pathIn(component.folder, name)))
          throw new HubError("invalid_weights", {
            field,
            problem: `${component.index} names tensor ${name}, which no shard has: publish the index with its shards`,
          });
      this.#indices.delete(component);
    }
    withoutScales(all, this.#pool, complain);
    return { tensors: all, architecture: null };
  }

  async #safetensors(field: string, file: StoredFile): Promise<FileTensors> {
    const known = this.#files.get(file.sha256);
    if (known !== undefined) return known;
    const header = await readHeader(this.#platform, field, file, (bytes) => this.#spend(bytes));
    const read = { tensors: safetensorsFacts(header, this.#pool), bytes: file.size - 8 - header.headerBytes };
    this.#files.set(file.sha256, read);
    return read;
  }

  async #gguf(
    field: string,
    files: readonly StoredFile[],
    complain: (problem: Omit<Problem, "field">) => void,
  ): Promise<{ tensors: Tensors; architecture: string | null }> {
    const found: GgufTensor[] = [];
    let architecture: string | undefined;
    for (const file of files) {
      try {
        const header = await readGgufHeader(
          (offset, length) => {
            this.#spend(length);
            return this.#bytes(file, offset, length);
          },
          file.size,
          (tensor) => found.push(tensor),
        );
        architecture ??= header.architecture;
      } catch (error) {
        throw invalidWeights(field, file.path, error);
      }
    }
    return { tensors: ggufFacts(architecture, found, this.#pool, complain), architecture: architecture ?? null };
  }

  #spend(bytes: number): void {
    this.#left -= bytes;
    if (this.#left < 0)
      throw new HubError("payload_too_large", {
        problem: `the headers of these models have more than ${MAX_HEADERS_BYTES} bytes: merge fewer models at once`,
      });
  }

  async #bytes(file: StoredFile, offset: number, length: number): Promise<Uint8Array> {
    return readAll(await readContent(this.#platform, file, { offset, length }), length);
  }

  async adapter(parents: readonly Parent[], { adapter, field }: Located): Promise<AdapterFacts | null> {
    if (adapter === null) return null;
    const parent = parents[adapter];
    if (parent === undefined) throw new HubError("internal");
    const at = { ...parent, field };
    const weights = parent.files.get(ADAPTER_WEIGHTS);
    if (!parent.files.has(ADAPTER_CONFIG)) throw missing(at, ADAPTER_CONFIG, "name a LoRA adapter after the +");
    if (weights === undefined) throw missing(at, ADAPTER_WEIGHTS, "publish the adapter as safetensors");
    return {
      configName: inputName(adapter, ADAPTER_CONFIG),
      config: this.json(adapter, ADAPTER_CONFIG, field),
      weights: [inputName(adapter, ADAPTER_WEIGHTS)],
      tensors: (await this.#safetensors(field, weights)).tensors,
    };
  }

  /** Null where there is no such file. @throws invalid_field */
  json(parent: number, path: string, field: string): unknown {
    const text = this.#texts[parent]?.get(path);
    if (text === undefined) return null;
    try {
      const value: unknown = jsonNestsDeeperThan(text, MAX_JSON_DEPTH) ? null : JSON.parse(text);
      if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    throw new HubError("invalid_field", { field, problem: `${path} is no JSON object of a sane depth: fix the file` });
  }

  /** The digest of a model's chat template, wherever it keeps it. */
  chatTemplate(parent: number): string | null {
    const file = this.#texts[parent]?.get("chat_template.jinja");
    if (file !== undefined) return sha256Of(file.trim());
    try {
      const template = memberOf(
        JSON.parse(this.#texts[parent]?.get("tokenizer_config.json") ?? "null"),
        "chat_template",
      );
      if (template === undefined || template === null) return null;
      return sha256Of(typeof template === "string" ? template.trim() : JSON.stringify(template));
    } catch (error) {
      if (error instanceof SyntaxError) return null;
      throw error;
    }
  }

  /** Of the files whose digest every model has: the same file holds the same tensors. */
  identical(models: readonly Model[]): ReadModels["identical"] {
    const [first, ...others] = models;
    const shared = (first?.weights ?? []).filter(
      ({ sha256 }) =>
        others.length > 0 && others.every(({ weights }) => weights.some((file) => file.sha256 === sha256)),
    );
    const files = shared.flatMap(({ sha256 }) => this.#files.get(sha256) ?? []);
    return {
      tensors: files.reduce((sum, { tensors }) => sum + tensors.size, 0),
      bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }
}

/** A card that can't be read says nothing: that is told where cards are checked. */
function cardOf(readme: string): ParentText {
  const parsed = parseCard(readme);
  const data = "card" in parsed ? parsed.card.data : {};
  const [name, link] = [textField(data, "license_name") ?? null, textField(data, "license_link") ?? null];
  return {
    licences: textsField(data, "license").map((id) => {
      const known = id.toLowerCase();
      return known === "other" ? { id: known, name, link } : { id: known, name: null, link: null };
    }),
    library: textField(data, "library_name") ?? null,
    pipeline: textField(data, "pipeline_tag") ?? null,
  };
}

/** The licences of a card in words; null where it says none. */
export const licencesText = ({ licences }: ParentText): string | null =>
  licences.length === 0 ? null : licences.map(licenceName).join(" AND ");

/** The path of a file in the folder of a component, and the name that one of its tensors has in the model. */
const pathIn = (folder: string, name: string): string => (folder === "" ? name : `${folder}/${name}`);

function invalidAs<T>(field: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw invalidWeights(field, path, error);
  }
}

const fail = (error: HubError): never => {
  throw error;
};
