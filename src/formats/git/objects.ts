// Object ids as git computes them: SHA-1 over a typed header and the content.
import { createHash } from "node:crypto";
import { type GitId, parseGitId } from "../../ids";
import { FormatError } from "../format-error";
import { encodeUtf8 } from "../text";

export type GitObjectType = "blob" | "tree" | "commit" | "tag";

const header = (type: GitObjectType, size: number): Uint8Array => encodeUtf8(`${type} ${size}\0`);

export function objectId(type: GitObjectType, content: Uint8Array): GitId {
  const hash = createHash("sha1").update(header(type, content.length)).update(content);
  return parseGitId(hash.digest("hex"), "object id");
}

export const blobId = (content: Uint8Array): GitId => objectId("blob", content);

/** The id of a blob that arrives in chunks; git hashes the size first, so it must be known at the start. */
export class BlobIdHash {
  readonly #hash;
  readonly #size: number;
  #seen = 0;

  constructor(size: number) {
    this.#size = size;
    this.#hash = createHash("sha1").update(header("blob", size));
  }

  update(chunk: Uint8Array): this {
    this.#hash.update(chunk);
    this.#seen += chunk.length;
    return this;
  }

  digest(): GitId {
    if (this.#seen !== this.#size)
      throw new FormatError("git.size", `has ${this.#seen} bytes, not the ${this.#size} that its id was started with`);
    return parseGitId(this.#hash.digest("hex"), "object id");
  }
}
