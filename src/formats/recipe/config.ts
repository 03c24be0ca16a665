// What a merge reads of config.json, and which of its keys are no longer true of the output.
import type { Dtype } from "./recipe";

/** A number in config.json, at the top or in the part that describes the text model. */
type ConfigNumber = { readonly path: readonly string[]; readonly value: number };

export const layerCount = (config: unknown): ConfigNumber | null =>
  configNumber(config, ["num_hidden_layers", "n_layer", "num_layers", "n_layers"]);

export const vocabularySize = (config: unknown): ConfigNumber | null => configNumber(config, ["vocab_size"]);

function configNumber(config: unknown, keys: readonly string[]): ConfigNumber | null {
  for (const part of [[], ["text_config"], ["llm_config"]]) {
    const object = part.reduce<unknown>((value, key) => memberOf(value, key), config);
    for (const key of keys) {
      const value = memberOf(object, key);
      if (typeof value === "number") return { path: [...part, key], value };
    }
  }
  return null;
}

export const memberOf = (value: unknown, key: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined;

/** Layers of one model in the output, for what its configuration says layer by layer. */
export type LayerRun = { readonly config: unknown; readonly first: number; readonly end: number };

type Changes = {
  readonly dtype: Dtype | null;
  /** Where slices changed the layers: what they are now. */
  readonly layers?: readonly LayerRun[] | null;
  /** Rows of the embeddings, where they were cropped. */
  readonly rows?: number | null;
  /** Whether the head is no longer the embedding. */
  readonly untied?: boolean;
};

/** The keys at the top of config.json that change, with their new values. */
export function changedKeys(config: unknown, { dtype, layers, rows, untied }: Changes): Record<string, unknown> {
  if (typeof config !== "object" || config === null) return {};
  let patched: unknown = config;
  const set = (path: readonly string[], value: unknown): void => {
    if (JSON.stringify(valueAt(patched, path)) !== JSON.stringify(value)) patched = withValue(patched, path, value);
  };
  if (dtype !== null) set([Object.hasOwn(config, "dtype") ? "dtype" : "torch_dtype"], dtype);
  const vocabulary = vocabularySize(config);
  if (rows != null && vocabulary !== null) set(vocabulary.path, rows);
  if (layers != null) for (const [path, value] of layerPatches(config, layers)) set(path, value);
  if (untied) set(["tie_word_embeddings"], false);
  // What is read is dequantised, so what is written is not quantised.
  if (memberOf(config, "quantization_config") != null) set(["quantization_config"], null);
  return Object.fromEntries(Object.entries(patched ?? {}).filter(([key, value]) => value !== memberOf(config, key)));
}

const valueAt = (value: unknown, path: readonly string[]): unknown => path.reduce<unknown>(memberOf, value);

function withValue(object: unknown, [key, ...rest]: readonly string[], value: unknown): unknown {
  if (key === undefined) return value;
  return { ...(typeof object === "object" ? object : {}), [key]: withValue(memberOf(object, key), rest, value) };
}

/** How many layers there are, and every list that has an entry a layer. */
function layerPatches(config: unknown, layers: readonly LayerRun[]): [path: string[], value: unknown][] {
  const count = layerCount(config);
  if (count === null) return [];
  const total = layers.reduce((sum, { first, end }) => sum + end - first, 0);
  const around = count.path.slice(0, -1);
  const lists = Object.entries(valueAt(config, around) ?? {}).filter(
    ([, value]) => Array.isArray(value) && value.length === count.value,
  );
  return [
    [[...count.path], total],
    ...lists.map(([key, own]): [string[], unknown] => {
      const path = [...around, key];
      return [
        path,
        layers.flatMap(({ config: other, first, end }) => {
          const theirs = valueAt(other, path);
          return (Array.isArray(theirs) ? theirs : Array.isArray(own) ? own : []).slice(first, end);
        }),
      ];
    }),
  ];
}
