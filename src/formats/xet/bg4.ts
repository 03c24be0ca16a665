// Byte grouping: the bytes of a chunk by their position modulo 4, so that the like bytes of 16- and 32-bit numbers lie together.

const GROUPS = 4;

/** Where a group begins: the first `length % 4` of them are one byte longer. */
const groupStart = (group: number, length: number): number =>
  group * Math.floor(length / GROUPS) + Math.min(group, length % GROUPS);

/** Writes the groups of `bytes`, one behind the other, to the start of `output`. */
export function splitBg4(bytes: Uint8Array, output: Uint8Array): void {
  const { length } = bytes;
  let a = 0;
  let b = groupStart(1, length);
  let c = groupStart(2, length);
  let d = groupStart(3, length);
  const whole = length - (length % GROUPS);
  for (let at = 0; at < whole; at += GROUPS) {
    output[a++] = bytes[at] ?? 0;
    output[b++] = bytes[at + 1] ?? 0;
    output[c++] = bytes[at + 2] ?? 0;
    output[d++] = bytes[at + 3] ?? 0;
  }
  if (whole < length) output[a] = bytes[whole] ?? 0;
  if (whole + 1 < length) output[b] = bytes[whole + 1] ?? 0;
  if (whole + 2 < length) output[c] = bytes[whole + 2] ?? 0;
}

/** The reverse: `output` has the length of `grouped`. */
export function joinBg4(grouped: Uint8Array, output: Uint8Array): void {
  const { length } = grouped;
  let a = 0;
  let b = groupStart(1, length);
  let c = groupStart(2, length);
  let d = groupStart(3, length);
  const whole = length - (length % GROUPS);
  for (let at = 0; at < whole; at += GROUPS) {
    output[at] = grouped[a++] ?? 0;
    output[at + 1] = grouped[b++] ?? 0;
    output[at + 2] = grouped[c++] ?? 0;
    output[at + 3] = grouped[d++] ?? 0;
  }
  if (whole < length) output[whole] = grouped[a] ?? 0;
  if (whole + 1 < length) output[whole + 1] = grouped[b] ?? 0;
  if (whole + 2 < length) output[whole + 2] = grouped[c] ?? 0;
}
