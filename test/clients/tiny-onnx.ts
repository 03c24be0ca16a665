// A BERT-like model small enough to be written here: a tokenizer of a few words, and an ONNX graph that looks each of them up.

const WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "open", "weights", "##s"];
const WIDTH = 4;

/** Each word's vector: its number, and its number in halves, thirds and quarters. */
const vector = (word: number): number[] => Array.from({ length: WIDTH }, (_, i) => Math.fround(word / (i + 1)));
export const expectedFeatures = (words: readonly number[]): number[][] => words.map(vector);

// ONNX is protobuf: a field is its number and wire type, then a varint or a length and that many bytes.
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}
const number = (field: number, value: number): Buffer => Buffer.from([...varint(field * 8), ...varint(value)]);
function bytes(field: number, ...parts: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  return Buffer.concat([Buffer.from([...varint(field * 8 + 2), ...varint(body.length)]), body]);
}

const [FLOAT, INT64] = [1, 7];
const value = (field: number, name: string, type: number, ...dims: readonly (string | number)[]): Buffer => {
  const shape = dims.map((dim) => bytes(1, typeof dim === "string" ? bytes(2, dim) : number(1, dim)));
  return bytes(field, bytes(1, name), bytes(2, bytes(1, number(1, type), bytes(2, ...shape))));
};

function graph(): Buffer {
  const table = Float32Array.from(WORDS.flatMap((_, word) => vector(word)));
  const tensor = [number(1, WORDS.length), number(1, WIDTH), number(2, FLOAT), bytes(8, "words")];
  const gather = [bytes(1, "words"), bytes(1, "input_ids"), bytes(2, "last_hidden_state"), bytes(4, "Gather")];
  return Buffer.concat([
    bytes(1, ...gather),
    bytes(2, "tiny"),
    bytes(5, ...tensor, bytes(9, Buffer.from(table.buffer))),
    value(11, "input_ids", INT64, "batch", "sequence"),
    value(12, "last_hidden_state", FLOAT, "batch", "sequence", WIDTH),
  ]);
}

const IR_VERSION = 8;
const OPERATORS = 13;
const onnxModel = (): Buffer =>
  Buffer.concat([number(1, IR_VERSION), bytes(7, graph()), bytes(8, bytes(1, ""), number(2, OPERATORS))]);

const special = (id: string, number: number) => ({ id, ids: [number], tokens: [id] });

const tokenizer = {
  version: "1.0",
  added_tokens: WORDS.slice(0, 5).map((content, id) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  })),
  normalizer: {
    type: "BertNormalizer",
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: "BertPreTokenizer" },
  post_processor: {
    type: "TemplateProcessing",
    single: [
      { SpecialToken: { id: "[CLS]", type_id: 0 } },
      { Sequence: { id: "A", type_id: 0 } },
      { SpecialToken: { id: "[SEP]", type_id: 0 } },
    ],
    pair: [],
    special_tokens: { "[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3) },
  },
  decoder: { type: "WordPiece", prefix: "##", cleanup: true },
  model: {
    type: "WordPiece",
    unk_token: "[UNK]",
    continuing_subword_prefix: "##",
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(WORDS.map((word, id) => [word, id])),
  },
};

/** Path → content, as such a model is published. */
export function tinyOnnxModel(): Record<string, Buffer> {
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  return {
    "config.json": json({
      model_type: "bert",
      architectures: ["BertModel"],
      hidden_size: WIDTH,
      vocab_size: WORDS.length,
    }),
    "tokenizer.json": json(tokenizer),
    "tokenizer_config.json": json({
      tokenizer_class: "BertTokenizer",
      do_lower_case: true,
      pad_token: "[PAD]",
      unk_token: "[UNK]",
      cls_token: "[CLS]",
      sep_token: "[SEP]",
      mask_token: "[MASK]",
      model_max_length: 16,
    }),
    "onnx/model.onnx": onnxModel(),
  };
}
