// The calling convention that all modules of the package `hash-wasm` share: bytes pass through one buffer inside the module.
/// <reference path="./wasm.d.ts" />

/** `MAIN_BUFFER_SIZE` of the package's C sources. */
const BUFFER_BYTES = 16 << 10;

/** One instance of a hash function's module; it hashes one thing at a time. */
export class WasmHasher {
  /** The state between two updates, laid out as the C struct is: copy it out and back in to hash several things by turns. */
  readonly state: Uint8Array;
  /** What `init` and `final` hand over. */
  readonly #buffer: Uint8Array;
  readonly #init: (parameter: number) => void;
  readonly #update: (length: number) => void;
  readonly #final: (length: number) => void;

  constructor(module: WebAssembly.Module) {
    const { exports } = new WebAssembly.Instance(module);
    const call = (name: string): ((argument?: number) => unknown) => {
      const found = exports[name];
      if (typeof found !== "function") throw new TypeError(`the module has no function ${name}`);
      return (argument) => found(argument);
    };
    const { memory, STATE_SIZE: stateSize } = exports;
    if (!(memory instanceof WebAssembly.Memory) || !(stateSize instanceof WebAssembly.Global))
      throw new TypeError("the module has no memory or no STATE_SIZE");
    // The modules' memories have a fixed size, so these views stay valid.
    const { buffer } = memory;
    this.#buffer = new Uint8Array(buffer, Number(call("Hash_GetBuffer")()), BUFFER_BYTES);
    this.state = new Uint8Array(
      buffer,
      Number(call("Hash_GetState")()),
      new DataView(buffer).getUint32(Number(stateSize.value), true),
    );
    this.#init = call("Hash_Init");
    this.#update = call("Hash_Update");
    this.#final = call("Hash_Final");
  }

  /** `key` lies in the buffer while `Hash_Init` runs: BLAKE3 takes its key from there when the parameter is 32. */
  init(parameter: number, key?: Uint8Array): void {
    if (key !== undefined) this.#buffer.set(key);
    this.#init(parameter);
  }

  update(bytes: Uint8Array): void {
    if (bytes.length <= BUFFER_BYTES) {
      this.#buffer.set(bytes);
      this.#update(bytes.length);
      return;
    }
    for (let at = 0; at < bytes.length; at += BUFFER_BYTES) {
      const part = bytes.subarray(at, at + BUFFER_BYTES);
      this.#buffer.set(part);
      this.#update(part.length);
    }
  }

  /** `length` bytes of digest, a copy. */
  final(length: number): Uint8Array {
    this.#final(length);
    return this.#buffer.slice(0, length);
  }
}
