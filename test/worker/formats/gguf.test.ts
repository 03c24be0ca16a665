// GGUF headers: what they tell, that little of the file is read for it, and that no bytes whatever make the reader fail otherwise than by a FormatError.
import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { FormatError } from "../../../src/formats/format-error";
import { readGgufHeader } from "../../../src/formats/gguf";
import { type GgufFile, gguf, LLAMA, number, text, texts } from "../../kit/gguf";

/** Reads as storage does, and counts the bytes. */
async function read(file: Uint8Array, size = file.length) {
  let bytes = 0;
  const header = await readGgufHeader(async (offset, length) => {
    bytes += length;
    return file.slice(offset, offset + length);
  }, size);
  return { header, bytes };
}

it("tells architecture, context, quantization, chat template, special tokens and parameters", async () => {
  expect((await read(gguf(LLAMA))).header).toEqual({
    version: 3,
    architecture: "llama",
    contextLength: 2048,
    quantization: "Q4_K_M",
    chatTemplate: "{{ messages }}",
    bosToken: "<s>",
    eosToken: "</s>",
    tensors: 3,
    parameters: 8 * 4 + 8 * 4 + 8,
  });
  expect((await read(gguf({ ...LLAMA, version: 2 }))).header.parameters).toBe(72);
});

it("reads a vocabulary of megabytes window by window, and skips arrays of numbers", async () => {
  const tokens = Array.from({ length: 120_000 }, (_, i) => `token number ${i}`);
  const file = gguf({
    entries: [
      ["general.architecture", text("llama")],
      ["tokenizer.ggml.scores", { type: "u32s", value: Array.from({ length: 900_000 }, () => 1) }],
      ["tokenizer.ggml.tokens", texts(tokens)],
      ["tokenizer.ggml.eos_token_id", number(119_999)],
    ],
    tensors: [{ name: "w", shape: [1000, 1000] }],
  });
  const { header, bytes } = await read(file, file.length + 1e12);
  expect(header).toMatchObject({ eosToken: "token number 119999", bosToken: undefined, parameters: 1_000_000 });
  expect(bytes).toBeLessThan(file.length + 2 ** 20);
});

const patched = (file: Uint8Array, offset: number, value: bigint): Uint8Array => {
  const copy = file.slice();
  new DataView(copy.buffer).setBigUint64(offset, value, true);
  return copy;
};

describe("a header is refused, with a reason,", () => {
  const small: GgufFile = { entries: [["general.architecture", text("llama")]], tensors: [{ name: "w", shape: [2] }] };
  test.each<[string, Uint8Array, RegExp]>([
    ["without the magic", new TextEncoder().encode(`ggml${"\0".repeat(40)}`), /GGUF/],
    ["of version 1", gguf({ ...small, version: 1 }), /version 1/],
    ["written big-endian", gguf({ ...small, version: 0x03000000 }), /little-endian/],
    ["of more tensors than are read", patched(gguf(small), 8, 2n ** 40n), /tensors/],
    ["of more entries than are read", patched(gguf(small), 16, 2n ** 62n), /entries/],
    ["whose key is longer than the file", patched(gguf(small), 24, 2n ** 15n), /inside its header/],
    ["whose count is no number", patched(gguf(small), 24, 2n ** 63n), /2\^53/],
    [
      "that says one thing twice",
      gguf({
        ...small,
        entries: [
          ["a", number(1)],
          ["a", number(2)],
        ],
      }),
      /twice/,
    ],
    ["of arrays in arrays", gguf({ ...small, entries: [["a", { type: "nested", depth: 40 }]] }), /deep/],
    ["of numbers beyond counting", gguf({ ...small, tensors: [{ name: "w", shape: [2 ** 40, 2 ** 40] }] }), /2\^53/],
    ["that is empty", new Uint8Array(), /inside its header/],
  ])("%s", async (_, file, message) => {
    const failure = await read(file).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(FormatError);
    expect(String(failure)).toMatch(message);
  });
});

test("cut and changed files are read or refused, and never anything else", async () => {
  const file = gguf(LLAMA);
  const change = fc.tuple(fc.nat(file.length - 1), fc.integer({ min: 0, max: 255 }));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 6 }), fc.nat(file.length), async (changes, length) => {
      const changed = file.slice(0, length);
      for (const [at, byte] of changes) if (at < changed.length) changed[at] = byte;
      await read(changed).catch((error: unknown) => expect(error).toBeInstanceOf(FormatError));
    }),
    { numRuns: 400 },
  );
});
