// Git LFS pointers: the small text that stands in a git tree for a large file.
import { parseSha256, type Sha256 } from "../../ids";
import { FormatError } from "../format-error";
import { decodeUtf8 } from "../text";

/** The specification's bound; a longer file is content, whatever it starts with. */
export const MAX_POINTER_BYTES = 1024;
const FIRST_LINE = "version https://git-lfs.github.com/spec/v1\n";
const POINTER =
  /^version https:\/\/git-lfs\.github\.com\/spec\/v1\noid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,15})\n$/;

export type LfsPointer = { readonly sha256: Sha256; readonly size: number };

export const encodeLfsPointer = ({ sha256, size }: LfsPointer): string =>
  `${FIRST_LINE}oid sha256:${sha256}\nsize ${size}\n`;

/** True for bytes that mean to be a pointer, well formed or not. */
export function looksLikeLfsPointer(bytes: Uint8Array): boolean {
  if (bytes.length < FIRST_LINE.length || bytes.length > MAX_POINTER_BYTES) return false;
  return [...FIRST_LINE].every((character, at) => character.charCodeAt(0) === bytes[at]);
}

/** Reads exactly the text that `encodeLfsPointer` writes. */
export function parseLfsPointer(bytes: Uint8Array): LfsPointer {
  if (bytes.length > MAX_POINTER_BYTES)
    throw new FormatError(
      "lfs.pointer_too_large",
      `has ${bytes.length} bytes; an LFS pointer has at most ${MAX_POINTER_BYTES}`,
    );
  const [, sha256, digits] = POINTER.exec(decodeUtf8(bytes, "lfs.pointer", "is not UTF-8")) ?? [];
  const size = Number(digits);
  if (sha256 === undefined || !Number.isSafeInteger(size))
    throw new FormatError("lfs.pointer", "is not an LFS pointer", {
      fix: "it must be the three lines version, oid sha256:<64 hex digits> and size <bytes>",
    });
  return { sha256: parseSha256(sha256, "oid"), size };
}
