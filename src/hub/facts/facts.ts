// What the files of a tree tell about a model or dataset. Every part has a default, so that a query may load only some of them.
import * as z from "zod";
import { RELATIONS } from "../../formats/card/vocabulary";

/** Of the code that computes facts: those of another version are computed again. */
export const FACTS_VERSION = 1;

const Json = z.record(z.string(), z.unknown());

export const Facts = z.object({
  /** The card's data without its `model-index`; null where there is no card, or one that can't be read. */
  cardData: Json.nullable().default(null),
  modelIndex: z.unknown().optional(),
  tags: z.array(z.string()).default([]),
  libraryName: z.string().nullable().default(null),
  pipelineTag: z.string().nullable().default(null),
  license: z.string().nullable().default(null),
  languages: z.array(z.string()).default([]),
  /** What the model was made from. */
  baseModels: z
    .object({ relation: z.enum(RELATIONS), ids: z.array(z.string()) })
    .nullable()
    .default(null),
  config: Json.nullable().default(null),
  transformersInfo: z
    .object({
      auto_model: z.string(),
      custom_class: z.string().optional(),
      pipeline_tag: z.string().optional(),
      processor: z.string().optional(),
    })
    .nullable()
    .default(null),
  /** Of the files that the next two are read from: with the same one they need not be read again. */
  weightsKey: z.string().default(""),
  safetensors: z
    .object({ parameters: z.record(z.string(), z.number()), total: z.number() })
    .nullable()
    .default(null),
  gguf: z
    .object({
      total: z.number().optional(),
      architecture: z.string().optional(),
      context_length: z.number().optional(),
      quantization: z.string().optional(),
      chat_template: z.string().optional(),
      bos_token: z.string().optional(),
      eos_token: z.string().optional(),
    })
    .nullable()
    .default(null),
  /** Entries of `.eval_results/*.yaml`, each with the file that holds it. */
  evalResults: z.array(z.object({ filename: z.string(), data: Json })).default([]),
  maskToken: z.string().nullable().default(null),
  /** Of a dataset: how its card begins, and how it wants to be cited. */
  description: z.string().nullable().default(null),
  citation: z.string().nullable().default(null),
  /** Files that run code when they are loaded. */
  pickles: z.array(z.string()).default([]),
});
export type Facts = z.output<typeof Facts>;
export type FactName = keyof Facts;

export const NO_FACTS: Facts = Facts.parse({});

/** How many numbers the weights hold; null where no weights tell. */
export const parametersOf = ({ safetensors, gguf }: Facts): number | null => safetensors?.total ?? gguf?.total ?? null;
