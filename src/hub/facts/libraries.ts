// Which library a model is for: what its card says, else what its files show.
import { LIBRARIES } from "../../formats/card/vocabulary";
import type { Configs } from "./configs";

/** A configuration alone does not make a model one of `transformers`: only one that `transformers` has written does. */
export function libraryFromFiles(files: ReadonlySet<string>, configs: Configs): string | null {
  const has = (pattern: RegExp): boolean => [...files].some((path) => pattern.test(path));
  if (configs.adapter !== null) return "peft";
  if (configs.pipeline?._class_name !== undefined) return "diffusers";
  if (files.has("config_setfit.json")) return "setfit";
  if (files.has("modules.json") && files.has("config_sentence_transformers.json")) return "sentence-transformers";
  if (files.has("open_clip_config.json")) return "open_clip";
  if (configs.config?.pretrained_cfg !== undefined) return "timm";
  if (configs.config?.transformers_version !== undefined) return "transformers";
  if (has(/\.nemo$/)) return "nemo";
  if (has(/\.keras$/)) return "keras";
  if (has(/\.(mlmodel|mlpackage)($|\/)/)) return "coreml";
  if (has(/\.gguf$/i)) return "gguf";
  return null;
}

export const libraryFromTags = (tags: readonly string[]): string | null =>
  tags.find((tag) => LIBRARIES.has(tag.toLowerCase()))?.toLowerCase() ?? null;

/** Tasks of libraries that serve one. */
const DEFAULT_TASKS: Readonly<Record<string, string>> = {
  diffusers: "text-to-image",
  "sentence-transformers": "sentence-similarity",
  setfit: "text-classification",
  timm: "image-classification",
  open_clip: "zero-shot-image-classification",
  bertopic: "text-classification",
  "span-marker": "token-classification",
  "ml-agents": "reinforcement-learning",
  "stable-baselines3": "reinforcement-learning",
  "sample-factory": "reinforcement-learning",
};
export const defaultTask = (library: string | null): string | null =>
  library === null ? null : (DEFAULT_TASKS[library] ?? null);

/** What files of these names are called in tags. */
const FORMATS: readonly (readonly [string, RegExp])[] = [
  ["pytorch", /(^|\/)(pytorch_model.*\.bin|[^/]+\.(pt|pth|ckpt)|adapter_model\.bin|diffusion_pytorch_model.*\.bin)$/],
  ["tf", /(^|\/)tf_model.*\.h5$/],
  ["jax", /(^|\/)flax_model.*\.msgpack$/],
  ["onnx", /\.onnx$/],
  ["safetensors", /\.safetensors$/],
  ["gguf", /\.gguf$/i],
  ["coreml", /\.(mlmodel|mlpackage)($|\/)/],
  ["openvino", /(^|\/)openvino_.*model.*\.xml$/],
  ["tflite", /\.tflite$/],
  ["tensorboard", /(^|\/)events\.out\.tfevents\./],
];
export const formatTags = (paths: readonly string[]): string[] =>
  FORMATS.flatMap(([tag, pattern]) => (paths.some((path) => pattern.test(path)) ? [tag] : []));

/** Files that run code when they are loaded: nothing here ever loads them. */
export const isPickle = (path: string): boolean => /\.(bin|pt|pth|ckpt|pkl|pickle|joblib)$/i.test(path);
