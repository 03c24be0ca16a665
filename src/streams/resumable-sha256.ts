// SHA-256 that can stop in one request and go on in another: the runtime's own cannot be saved.
import { Buffer } from "node:buffer";
import { FormatError } from "../formats/format-error";
import { WasmHasher } from "../formats/xet/wasm-hasher";
import { parseSha256, type Sha256 } from "../ids";
import sha256 from "./sha256.wasm";

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
/** The module's state: a block not yet full, u64 bytes so far, eight u32 words, u32 length of the digest. */
const LENGTH_AT = BLOCK_BYTES;
const WORDS_AT = LENGTH_AT + 8;
/** What `save` puts before the bytes of the open block. */
const SAVED_BYTES = DIGEST_BYTES + 8;

/** One module serves all: an instance brings its state along for each call, so instances may interleave. */
let hasher: WasmHasher | undefined;
function sharedHasher(): WasmHasher {
  hasher ??= new WasmHasher(sha256);
  return hasher;
}

export class ResumableSha256 {
  readonly #state: Uint8Array;
  #size: number;

  private constructor(state: Uint8Array, size: number) {
    this.#state = state;
    this.#size = size;
  }

  static start(): ResumableSha256 {
    const module = sharedHasher();
    module.init(0);
    return new ResumableSha256(module.state.slice(), 0);
  }

  /** Goes on from what `save` gave. Throws FormatError `sha256.state`. */
  static resume(saved: string): ResumableSha256 {
    const bytes = Buffer.from(saved, "base64");
    const size = bytes.length < SAVED_BYTES ? Number.NaN : Number(bytes.readBigUInt64LE(DIGEST_BYTES));
    if (
      !Number.isSafeInteger(size) ||
      size % BLOCK_BYTES !== bytes.length - SAVED_BYTES ||
      bytes.toString("base64") !== saved
    )
      throw new FormatError("sha256.state", "is no saved state of SHA-256");
    const fresh = ResumableSha256.start();
    fresh.#state.set(bytes.subarray(SAVED_BYTES));
    fresh.#state.set(bytes.subarray(DIGEST_BYTES, SAVED_BYTES), LENGTH_AT);
    fresh.#state.set(bytes.subarray(0, DIGEST_BYTES), WORDS_AT);
    fresh.#size = size;
    return fresh;
  }

  /** Bytes hashed so far, those before `resume` included. */
  get size(): number {
    return this.#size;
  }

  update(bytes: Uint8Array): void {
    const module = sharedHasher();
    module.state.set(this.#state);
    module.update(bytes);
    this.#state.set(module.state);
    this.#size += bytes.length;
  }

  /** The state in base64, at most 140 characters: eight words, u64 length, the bytes of the block not yet full. */
  save(): string {
    const words = this.#state.subarray(WORDS_AT, WORDS_AT + DIGEST_BYTES);
    const length = this.#state.subarray(LENGTH_AT, WORDS_AT);
    return Buffer.concat([words, length, this.#state.subarray(0, this.#size % BLOCK_BYTES)]).toString("base64");
  }

  /** Of the bytes so far; more may follow. */
  digest(): Sha256 {
    const module = sharedHasher();
    module.state.set(this.#state);
    return parseSha256(Buffer.from(module.final(DIGEST_BYTES)).toString("hex"), "sha256");
  }
}
