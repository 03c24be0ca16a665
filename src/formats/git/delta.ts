// Deltas of packs: an object as copies out of another one, and what is new.
import { FormatError } from "../format-error";

const broken = (problem: string): FormatError => new FormatError("git.delta", `holds a delta that ${problem}`);

/** A size at the head of a delta, and where the next byte is. */
function readSize(delta: Uint8Array, offset: number): { readonly size: number; readonly next: number } {
  let size = 0;
  for (let at = offset, scale = 1; at < offset + 7; at++, scale *= 128) {
    const byte = delta[at];
    if (byte === undefined) throw broken("ends within a size");
    size += (byte & 0x7f) * scale;
    if (byte < 0x80) return { size, next: at + 1 };
  }
  throw broken("claims a size beyond all bounds");
}

/** How large the object is that a delta makes. */
export function deltaResultSize(delta: Uint8Array): number {
  return readSize(delta, readSize(delta, 0).next).size;
}

/** @throws FormatError unless the delta fits the base and makes exactly the size that it claims, which is `limit` at most */
export function applyDelta(base: Uint8Array, delta: Uint8Array, limit: number): Uint8Array {
  const from = readSize(delta, 0);
  if (from.size !== base.length) throw broken(`is made for ${from.size} bytes, but its base has ${base.length}`);
  const { size, next } = readSize(delta, from.next);
  if (size > limit) throw broken(`makes ${size} bytes, more than ${limit}`);
  const result = new Uint8Array(size);
  let made = 0;
  let at = next;
  const operand = (): number => {
    const byte = delta[at++];
    if (byte === undefined) throw broken("ends within an instruction");
    return byte;
  };
  while (at < delta.length) {
    const op = operand();
    if (op === 0) throw broken("holds an instruction that git does not know");
    if (op < 0x80) {
      if (at + op > delta.length) throw broken("ends within its new bytes");
      if (made + op > size) throw broken("makes more than it claims");
      result.set(delta.subarray(at, at + op), made);
      at += op;
      made += op;
      continue;
    }
    let start = 0;
    let length = 0;
    for (let bit = 0; bit < 4; bit++) if ((op & (1 << bit)) !== 0) start += operand() * 2 ** (8 * bit);
    for (let bit = 0; bit < 3; bit++) if ((op & (16 << bit)) !== 0) length += operand() * 2 ** (8 * bit);
    if (length === 0) length = 0x10000;
    if (start + length > base.length) throw broken("copies from beyond its base");
    if (made + length > size) throw broken("makes more than it claims");
    result.set(base.subarray(start, start + length), made);
    made += length;
  }
  if (made !== size) throw broken("makes less than it claims");
  return result;
}
