// The strict safetensors reader against the shared vectors, and against headers that fast-check writes.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../../src/formats/format-error";
import { parseSafetensorsHeader, readSafetensorsHeader } from "../../../src/formats/safetensors";
import { checkSafetensorsIndex, parseSafetensorsIndex } from "../../../src/formats/safetensors-index";
import vectors from "../../vectors/safetensors.json";

type Part = { base64?: string; text?: string; times?: number };
type FileVector = {
  name: string;
  row: number;
  base64?: string;
  build?: Part[];
  ok: boolean;
  code?: string;
  header_bytes?: number;
  tensors?: { name: string; dtype: string; shape: number[]; begin: number; end: number }[];
  metadata?: Record<string, string>;
  parameters?: number;
};
type IndexVector = {
  name: string;
  row: number;
  text: string;
  shards: Record<string, Record<string, number>>;
  ok: boolean;
  code?: string;
  warnings?: string[];
};

const files: FileVector[] = vectors.files;
// TypeScript makes one type per literal object in the JSON; the vectors' own type is wider.
const indexes: IndexVector[] = JSON.parse(JSON.stringify(vectors.indexes));

function partBytes({ base64, text = "", times = 1 }: Part): Uint8Array {
  if (base64 !== undefined) return Uint8Array.fromBase64(base64);
  const repeated = text.includes("{i}")
    ? Array.from({ length: times }, (_, i) => text.replaceAll("{i}", String(i))).join("")
    : text.repeat(times);
  return new TextEncoder().encode(repeated);
}

function fileBytes({ base64, build }: FileVector): Uint8Array {
  const parts = (build ?? [base64 === undefined ? {} : { base64 }]).map(partBytes);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof FormatError) return error.code;
    throw error;
  }
  return "accepted";
}

function write(header: object, data: number): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + data);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

describe("the shared file vectors", () => {
  test.each(files)("row $row: $name", async (vector) => {
    const bytes = fileBytes(vector);
    const read = async (offset: number, length: number) => bytes.slice(offset, offset + length);
    const started = performance.now();
    if (!vector.ok) {
      expect(codeOf(() => parseSafetensorsHeader(bytes, bytes.length))).toBe(vector.code);
      // A bad header must not buy much of our time, however it is built.
      expect(performance.now() - started).toBeLessThan(500);
      await expect(readSafetensorsHeader(read, bytes.length)).rejects.toMatchObject({ code: vector.code });
      return;
    }
    const header = parseSafetensorsHeader(bytes, bytes.length);
    expect(await readSafetensorsHeader(read, bytes.length)).toEqual(header);
    if (vector.parameters !== undefined) expect(header.parameters).toBe(vector.parameters);
    if (vector.header_bytes !== undefined) expect(header.headerBytes).toBe(vector.header_bytes);
    if (vector.metadata !== undefined) expect(new Map(Object.entries(vector.metadata))).toEqual(header.metadata);
    if (vector.tensors !== undefined)
      expect(header.tensors).toEqual(new Map(vector.tensors.map(({ name, ...tensor }) => [name, tensor])));
  });
});

describe("the shared index vectors", () => {
  test.each(indexes)("row $row: $name", (vector) => {
    const shards = new Map(
      Object.entries(vector.shards).map(([shard, tensors]) => {
        const infos = Object.entries(tensors).map(
          ([name, size]) => [name, { dtype: "U8", shape: [size], begin: 0, end: size }] as const,
        );
        return [shard, { tensors: new Map(infos) }];
      }),
    );
    const check = () =>
      checkSafetensorsIndex(parseSafetensorsIndex(new TextEncoder().encode(vector.text)), shards).map(
        ({ code }) => code,
      );
    if (vector.ok) expect(check()).toEqual(vector.warnings);
    else expect(codeOf(check)).toBe(vector.code);
  });
});

describe("any header", () => {
  const dtypes = fc.constantFrom("U8", "F16", "BF16", "F32", "I64");
  const bytesOf: Record<string, number> = { U8: 1, F16: 2, BF16: 2, F32: 4, I64: 8 };
  const tensors = fc.uniqueArray(
    fc.record({
      name: fc
        .string({ unit: "grapheme", minLength: 1, maxLength: 40 })
        .filter((name) => name !== "__proto__" && name !== "__metadata__"),
      dtype: dtypes,
      shape: fc.array(fc.nat(5), { maxLength: 8 }),
    }),
    { selector: ({ name }) => name, maxLength: 12 },
  );
  const layOut = (list: { name: string; dtype: string; shape: number[] }[]) => {
    let at = 0;
    const header = Object.fromEntries(
      list.map(({ name, dtype, shape }) => {
        const begin = at;
        at += shape.reduce((a, b) => a * b, 1) * (bytesOf[dtype] ?? 0);
        return [name, { dtype, shape, data_offsets: [begin, at] }];
      }),
    );
    return { header, size: at };
  };

  test("that tiles is accepted, with what was written", () => {
    fc.assert(
      fc.property(tensors, (list) => {
        const { header, size } = layOut(list);
        const bytes = write(header, size);
        const parsed = parseSafetensorsHeader(bytes, bytes.length);
        expect([...parsed.tensors.keys()].sort()).toEqual(list.map(({ name }) => name).sort());
      }),
    );
  });

  test("with flipped bytes is accepted or rejected with a code, never anything else", () => {
    fc.assert(
      fc.property(
        tensors,
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
        (list, edits) => {
          const { header, size } = layOut(list);
          const bytes = write(header, size);
          for (const [at, value] of edits) bytes[at % bytes.length] = value;
          expect(codeOf(() => parseSafetensorsHeader(bytes, bytes.length))).toMatch(/^(accepted|st\.[a-z0-9_]+)$/);
        },
      ),
      { numRuns: 500 },
    );
  });
});

test("the reader asks for no byte beyond the header", async () => {
  const bytes = write({ a: { dtype: "U8", shape: [4], data_offsets: [0, 4] } }, 4);
  const asked: [number, number][] = [];
  await readSafetensorsHeader(async (offset, length) => {
    asked.push([offset, length]);
    return bytes.slice(offset, offset + length);
  }, bytes.length);
  expect(asked).toEqual([
    [0, 8],
    [0, bytes.length - 4],
  ]);
});
