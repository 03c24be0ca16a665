// What configuration files tell: the part of them that API answers carry, and what library and task they are for.
import * as z from "zod";
import { PIPELINE_TAGS } from "../../formats/card/vocabulary";
import type { Facts } from "./facts";
import type { Gathered } from "./gather";

/** Longer ones are no names or templates of a real model. Characters. */
const MAX_NAME = 200;
const MAX_TEMPLATE = 200_000;

const name = z.string().max(MAX_NAME);
const template = z.string().max(MAX_TEMPLATE);
/** A field of another type than expected is taken for absent: configurations are written by many programs. */
const optional = <T extends z.ZodType>(type: T) => type.optional().catch(undefined);

const Config = z.object({
  architectures: optional(z.array(name).max(20)),
  model_type: optional(name),
  auto_map: optional(z.record(name, z.union([name, z.array(name.nullable()).max(4)]))),
  quantization_config: optional(z.record(name, z.unknown())),
  transformers_version: optional(name),
  pretrained_cfg: optional(z.object({})),
});
const Adapter = z.object({
  base_model_name_or_path: optional(name),
  task_type: optional(name),
  peft_type: optional(name),
});
const ModelIndex = z.object({ _class_name: optional(name) });
/** A special token is a text, or an object that holds it. */
const token = optional(z.union([name, z.object({ content: name }).transform(({ content }) => content)]));
const Tokenizer = z.object({
  bos_token: token,
  eos_token: token,
  pad_token: token,
  unk_token: token,
  mask_token: token,
  chat_template: optional(z.union([template, z.array(z.object({ name, template })).max(20)])),
  auto_map: optional(z.record(name, z.unknown())),
  tokenizer_class: optional(name),
});
const ProcessorTemplate = z.object({ chat_template: optional(template) });

function parsed<T>(gathered: Gathered, path: string, schema: z.ZodType<T>): T | null {
  const text = gathered.texts.get(path);
  if (text === undefined) return null;
  try {
    const result = schema.safeParse(JSON.parse(text));
    return result.success ? result.data : null;
  } catch {
    return null;
  }
}

export type Configs = {
  readonly config: z.output<typeof Config> | null;
  readonly adapter: z.output<typeof Adapter> | null;
  readonly pipeline: z.output<typeof ModelIndex> | null;
  readonly tokenizer: z.output<typeof Tokenizer> | null;
  readonly chatTemplate: z.output<typeof Tokenizer>["chat_template"];
};

export function readConfigs(gathered: Gathered): Configs {
  const tokenizer = parsed(gathered, "tokenizer_config.json", Tokenizer);
  const jinja = gathered.texts.get("chat_template.jinja");
  const inProcessor = parsed(gathered, "chat_template.json", ProcessorTemplate)?.chat_template;
  return {
    config: parsed(gathered, "config.json", Config),
    adapter: parsed(gathered, "adapter_config.json", Adapter),
    pipeline: parsed(gathered, "model_index.json", ModelIndex),
    tokenizer,
    chatTemplate:
      jinja !== undefined && jinja !== "" && jinja.length <= MAX_TEMPLATE
        ? jinja
        : (tokenizer?.chat_template ?? inProcessor),
  };
}

const QUANTIZATION_FIELDS = ["quant_method", "bits", "load_in_4bit", "load_in_8bit", "fmt", "format", "group_size"];

/** The subset of the configuration that the ecosystem's hub shows. */
export function shownConfig({ config, adapter, pipeline, tokenizer, chatTemplate }: Configs): Facts["config"] {
  const shown: Record<string, unknown> = {};
  if (config?.architectures !== undefined) shown.architectures = config.architectures;
  if (config?.model_type !== undefined) shown.model_type = config.model_type;
  if (config?.auto_map !== undefined) shown.auto_map = config.auto_map;
  const quantization = quantizationOf(config);
  if (quantization !== null) shown.quantization_config = quantization;
  if (tokenizer !== null) {
    const { bos_token, eos_token, pad_token, unk_token, mask_token } = tokenizer;
    shown.tokenizer_config = { bos_token, eos_token, pad_token, unk_token, mask_token, chat_template: chatTemplate };
  } else if (chatTemplate !== undefined) shown.chat_template_jinja = chatTemplate;
  if (adapter !== null) shown.peft = adapter;
  if (pipeline?._class_name !== undefined) shown.diffusers = { _class_name: pipeline._class_name };
  return Object.keys(shown).length === 0 ? null : shown;
}

function quantizationOf(config: Configs["config"]): Record<string, unknown> | null {
  const quantization = config?.quantization_config;
  if (quantization === undefined) return null;
  return Object.fromEntries(
    QUANTIZATION_FIELDS.flatMap((key) => {
      const value = quantization[key];
      const isScalar = ["string", "number", "boolean"].includes(typeof value) && String(value).length <= MAX_NAME;
      return isScalar ? [[key, value]] : [];
    }),
  );
}

/** What the quantization is called in tags. */
export function quantizationTags(config: Configs["config"]): string[] {
  const quantization = quantizationOf(config);
  if (quantization === null) return [];
  const { quant_method: method, bits, load_in_4bit, load_in_8bit } = quantization;
  const width =
    load_in_4bit === true || bits === 4 ? "4-bit" : load_in_8bit === true || bits === 8 ? "8-bit" : undefined;
  const inferred = width ?? (typeof bits === "number" ? `${bits}-bit` : method === "awq" ? "4-bit" : undefined);
  return [inferred, typeof method === "string" ? method.toLowerCase() : undefined].filter((one) => one !== undefined);
}

/** The task that an architecture is for, by the end of its name; the first that fits. */
const TASKS: readonly (readonly [RegExp, string, string])[] = [
  [
    /^(Whisper|SpeechToText|SpeechEncoderDecoder|Speech2Text|Moonshine).*/,
    "automatic-speech-recognition",
    "SpeechSeq2Seq",
  ],
  [/ForCTC$/, "automatic-speech-recognition", "CTC"],
  [
    /^(Wav2Vec2|Hubert|WavLM|UniSpeech|AST|Data2VecAudio|SEW).*ForSequenceClassification$/,
    "audio-classification",
    "AudioClassification",
  ],
  [/ForAudioClassification$/, "audio-classification", "AudioClassification"],
  [
    /^(T5|MT5|Bart|MBart|Pegasus|LongT5|LED|BigBirdPegasus|ProphetNet|SwitchTransformers).*ForConditionalGeneration$/,
    "text-generation",
    "Seq2SeqLM",
  ],
  [/^(Marian|M2M100|NllbMoe|FSMT).*/, "translation", "Seq2SeqLM"],
  [/^(Blip|Git|VisionEncoderDecoder|Pix2Struct).*(Generation|Model|ForCausalLM)$/, "image-to-text", "Vision2Seq"],
  [/ForConditionalGeneration$/, "image-text-to-text", "ImageTextToText"],
  [/(ForCausalLM|LMHeadModel)$/, "text-generation", "CausalLM"],
  [/ForMaskedLM$/, "fill-mask", "MaskedLM"],
  [/ForImageClassification(WithTeacher)?$/, "image-classification", "ImageClassification"],
  [/ForVideoClassification$/, "video-classification", "VideoClassification"],
  [/ForSequenceClassification$/, "text-classification", "SequenceClassification"],
  [/ForTokenClassification$/, "token-classification", "TokenClassification"],
  [/ForMultipleChoice$/, "multiple-choice", "MultipleChoice"],
  [/^(Tapas).*ForQuestionAnswering$/, "table-question-answering", "TableQuestionAnswering"],
  [
    /^(LayoutLM|LayoutLMv2|LayoutLMv3).*ForQuestionAnswering$/,
    "document-question-answering",
    "DocumentQuestionAnswering",
  ],
  [/^(Vilt).*ForQuestionAnswering$/, "visual-question-answering", "VisualQuestionAnswering"],
  [/ForQuestionAnswering$/, "question-answering", "QuestionAnswering"],
  [
    /^(OwlViT|Owlv2|GroundingDino|OmDetTurbo).*ForObjectDetection$/,
    "zero-shot-object-detection",
    "ZeroShotObjectDetection",
  ],
  [/ForObjectDetection$/, "object-detection", "ObjectDetection"],
  [/For(Semantic|Image|Instance|Universal)Segmentation$/, "image-segmentation", "ImageSegmentation"],
  [/ForDepthEstimation$/, "depth-estimation", "DepthEstimation"],
  [/ForKeypointDetection$/, "keypoint-detection", "KeypointDetection"],
  [/^Sam.*Model$/, "mask-generation", "MaskGeneration"],
  [/^(CLIP|Siglip|Siglip2|AltCLIP|Align)Model$/, "zero-shot-image-classification", "ZeroShotImageClassification"],
  [/ForTextToWaveform$|^(Vits|Bark|MusicGen|Musicgen).*/, "text-to-audio", "TextToWaveform"],
  [/ForTextToSpeech$/, "text-to-speech", "TextToSpectrogram"],
  [/ForPrediction$/, "time-series-forecasting", "Model"],
  [/^(ViT|Dinov2|DINOv3ViT|Swin|BeiT|ConvNext|Hiera)Model$/, "image-feature-extraction", "Model"],
  [/Model$/, "feature-extraction", "Model"],
];

/** How `transformers` loads the model, and for what task; null where its configuration names no architecture. */
export function transformersOf({ config, tokenizer }: Configs, files: ReadonlySet<string>): Facts["transformersInfo"] {
  const architecture = config?.architectures?.[0];
  if (architecture === undefined || config === null) return null;
  const [, task, auto] = TASKS.find(([pattern]) => pattern.test(architecture)) ?? [];
  const custom = Object.entries(config.auto_map ?? {}).find(([key]) => key.startsWith("AutoModel"));
  const customClass = typeof custom?.[1] === "string" ? custom[1].split(".").at(-1) : undefined;
  const processor = files.has("preprocessor_config.json") || files.has("processor_config.json");
  return {
    auto_model: custom?.[0] ?? (auto === undefined || auto === "Model" ? "AutoModel" : `AutoModelFor${auto}`),
    ...(customClass === undefined ? {} : { custom_class: customClass }),
    ...(task === undefined || !PIPELINE_TAGS.has(task) ? {} : { pipeline_tag: task }),
    ...(processor
      ? { processor: "AutoProcessor" }
      : tokenizer !== null || files.has("tokenizer.json")
        ? { processor: "AutoTokenizer" }
        : {}),
  };
}
