// What people publish: a folder with a model card, weights, nested and oddly named files, and files that only look alike.
import { createCipheriv, createHash } from "node:crypto";
import { createWriteStream, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { sha256 } from "./scratch.ts";

export const CARD =
  '---\nlicense: apache-2.0\ntags: ["größe", test]\nlanguage:\n  - de\n---\n# A model\n\nIts card, with ümlauts.\n';

/** Bytes that are different for every seed and the same on every run. */
export function seededBytes(seed: string, size: number): Buffer {
  return Buffer.concat([...seededChunks(seed, size)]);
}

const CHUNK = 1024 * 1024;

function* seededChunks(seed: string, size: number): Generator<Buffer> {
  const key = createHash("sha256").update(seed).digest();
  const stream = createCipheriv("aes-256-ctr", key, Buffer.alloc(16));
  for (let start = 0; start < size; start += CHUNK) yield stream.update(Buffer.alloc(Math.min(CHUNK, size - start)));
}

/** The same, as a file of any size that is never in memory as a whole. @returns its SHA-256 */
export async function writeSeededFile(path: string, seed: string, size: number): Promise<string> {
  const hash = createHash("sha256");
  const hashed = function* () {
    for (const chunk of seededChunks(seed, size)) {
      hash.update(chunk);
      yield chunk;
    }
  };
  await pipeline(Readable.from(hashed()), createWriteStream(path));
  return hash.digest("hex");
}

export const TENSORS = { "layer.weight": [128, 256], "layer.bias": [256] } as const;

/** A safetensors file of float32 tensors, by the format's definition: length of the header, header, data. */
function safetensors(seed: string): Buffer {
  let offset = 0;
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  for (const [name, shape] of Object.entries(TENSORS)) {
    const end = offset + 4 * shape.reduce((product: number, one) => product * one, 1);
    header[name] = { dtype: "F32", shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const values = Float32Array.from(seededBytes(seed, offset / 4), (byte) => byte / 128 - 1);
  return Buffer.concat([length, text, Buffer.from(values.buffer)]);
}

/** A safetensors file of one float32 tensor about 1: as weights are, mostly noise, with bytes that hardly change. */
export function weightsFile(seed: string, count: number): Buffer {
  const data = 4 * count;
  const text = Buffer.from(JSON.stringify({ weight: { dtype: "F32", shape: [count], data_offsets: [0, data] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const noise = new Uint16Array(Uint8Array.from(seededBytes(seed, 2 * count)).buffer);
  const values = Float32Array.from(noise, (one) => 1 + one / 2 ** 20);
  return Buffer.concat([length, text, Buffer.from(values.buffer)]);
}

export type Sample = { readonly bytes: Buffer; readonly lfs: boolean };

/** Path → content; `lfs` says how it must travel. */
export function sampleFiles(seed: string): Record<string, Sample> {
  const text = (content: string): Sample => ({ bytes: Buffer.from(content), lfs: false });
  const weights = (name: string, size: number): Sample => ({ bytes: seededBytes(`${seed} ${name}`, size), lfs: true });
  return {
    "README.md": text(CARD),
    "config.json": text(`{"seed": ${JSON.stringify(seed)}}\n`),
    "model.safetensors": { bytes: safetensors(seed), lfs: true },
    "pytorch_model.bin": weights("bin", 300_000),
    "empty.txt": text(""),
    "empty.bin": text(""),
    "crlf and no end.txt": text("one\r\ntwo"),
    "checkpoints/step 10/optimizer.pt": weights("pt", 70_001),
    "checkpoints/step 10/state.json": text("{}"),
    "checkpoints/step-9/state.json": text("{}"),
    "a/b/c/d/e/f/deep.txt": text("deep"),
    "übung/größe 文件 ☃ 🤗.txt": text("Unicode in the name, and in the text: ☃"),
    "übung/weights 重み.bin": weights("unicode", 1000),
    "odd/100% #1?&+=~@!$'(),;[x].txt": text("every character that means something in an address"),
    "odd/no-extension": { bytes: Buffer.from([0, 1, 2, 255, 254]), lfs: true },
    "odd/latin-1.txt": { bytes: Buffer.from("caf\xe9", "latin1"), lfs: true },
    "odd/pointer.txt": text(`version https://git-lfs.github.com/spec/v1\noid sha256:${sha256("x")}\nsize 1\n`),
  };
}

/** Writes the files below a folder. @returns path → SHA-256 */
export function writeFiles(folder: string, files: Record<string, Sample>): Record<string, string> {
  for (const [path, { bytes }] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), bytes);
  }
  return digestsOf(files);
}

export const digestsOf = (files: Record<string, Sample>): Record<string, string> =>
  Object.fromEntries(Object.entries(files).map(([path, { bytes }]) => [path, sha256(bytes)]));

/** The id that git gives these bytes as a blob. */
export const gitBlobId = (bytes: Uint8Array): string =>
  createHash("sha1").update(`blob ${bytes.byteLength}\0`).update(bytes).digest("hex");

/** What git stores in an LFS file's place. */
export const lfsPointer = (bytes: Uint8Array): Buffer =>
  Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(bytes)}\nsize ${bytes.byteLength}\n`);
