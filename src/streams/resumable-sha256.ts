// SHA-256 that can stop in one request and go on in another.
import type { Sha256 } from "../ids";

/** Instances may interleave. */
export class ResumableSha256 {
  static start(): ResumableSha256 {
    throw new Error("soon");
  }
  /** Goes on from what `save` gave. Throws FormatError `sha256.state`. */
  static resume(_state: string): ResumableSha256 {
    throw new Error("soon");
  }
  /** Bytes hashed so far, from the start. */
  declare readonly size: number;
  update(_bytes: Uint8Array): void {
    throw new Error("soon");
  }
  /** At most 140 characters of base64. */
  save(): string {
    throw new Error("soon");
  }
  /** The digest so far; more may follow. */
  digest(): Sha256 {
    throw new Error("soon");
  }
}
