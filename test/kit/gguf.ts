// Writes GGUF files by the format's own description, apart from the reader that is tested with them.

export type GgufValue =
  | { readonly type: "u32"; readonly value: number }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "u32s"; readonly value: readonly number[] }
  | { readonly type: "nested"; readonly depth: number };

export const text = (value: string): GgufValue => ({ type: "string", value });
export const number = (value: number): GgufValue => ({ type: "u32", value });
export const texts = (value: readonly string[]): GgufValue => ({ type: "strings", value });

export type GgufFile = {
  readonly entries: readonly (readonly [string, GgufValue])[];
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[] }[];
  readonly version?: number;
};

const utf8 = new TextEncoder();

export function gguf({ entries, tensors, version = 3 }: GgufFile): Uint8Array {
  const parts: Uint8Array[] = [];
  const u32 = (value: number): void => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    parts.push(bytes);
  };
  const u64 = (value: number): void => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    parts.push(bytes);
  };
  const string = (value: string): void => {
    const bytes = utf8.encode(value);
    u64(bytes.length);
    parts.push(bytes);
  };
  parts.push(utf8.encode("GGUF"));
  u32(version);
  u64(tensors.length);
  u64(entries.length);
  for (const [key, entry] of entries) {
    string(key);
    if (entry.type === "u32") {
      u32(4);
      u32(entry.value);
    } else if (entry.type === "string") {
      u32(8);
      string(entry.value);
    } else if (entry.type === "strings") {
      u32(9);
      u32(8);
      u64(entry.value.length);
      for (const value of entry.value) string(value);
    } else if (entry.type === "u32s") {
      u32(9);
      u32(4);
      u64(entry.value.length);
      for (const value of entry.value) u32(value);
    } else {
      u32(9);
      for (let depth = 1; depth < entry.depth; depth++) {
        u32(9);
        u64(1);
      }
      u32(4);
      u64(0);
    }
  }
  for (const { name, shape } of tensors) {
    string(name);
    u32(shape.length);
    for (const dimension of shape) u64(dimension);
    u32(0);
    u64(0);
  }
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  const file = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    file.set(part, at);
    at += part.length;
  }
  return file;
}

const VOCABULARY = ["<s>", "</s>", "a", "b"];
/** As a converter of a small model writes it. */
export const LLAMA: GgufFile = {
  entries: [
    ["general.architecture", text("llama")],
    ["general.name", text("Tiny")],
    ["general.file_type", number(15)],
    ["llama.context_length", number(2048)],
    ["tokenizer.ggml.tokens", texts(VOCABULARY)],
    ["tokenizer.ggml.token_type", { type: "u32s", value: [3, 3, 1, 1] }],
    ["tokenizer.ggml.bos_token_id", number(0)],
    ["tokenizer.ggml.eos_token_id", number(1)],
    ["tokenizer.chat_template", text("{{ messages }}")],
  ],
  tensors: [
    { name: "token_embd.weight", shape: [8, 4] },
    { name: "output.weight", shape: [8, 4] },
    { name: "output_norm.weight", shape: [8] },
  ],
};
