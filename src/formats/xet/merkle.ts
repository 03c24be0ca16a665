// The Merkle trees of Xet: one root over the chunks of a xorb or a file, in memory that does not grow with the file.
// Follows hashing in the Xet protocol specification (draft-denis-xet); the grouping rule is stated only by its reference code.
import { Buffer } from "node:buffer";
import { FormatError } from "../format-error";
import { FILE_KEY, keyedHash, NODE_KEY, VERIFICATION_KEY } from "./blake3";
import { endsGroup, HASH_BYTES } from "./hash";

/** A node has 2 to 9 children; only the last of a level may have fewer. A child may end it from the third on. */
const MAX_CHILDREN = 9;
const MIN_CHILDREN = 3;
/** 64 digits, " : ", at most 16 digits of length, a line feed. */
const LINE_BYTES = 2 * HASH_BYTES + 3 + 16 + 1;

const HEX = new TextEncoder().encode("0123456789abcdef");
const text = new Uint8Array(MAX_CHILDREN * LINE_BYTES);

/** Children waiting for their parent. */
class Level {
  readonly hashes = new Uint8Array(MAX_CHILDREN * HASH_BYTES);
  readonly lengths: number[] = [];
  /** Whether a parent was made already. */
  closed = false;

  add(hash: Uint8Array, length: number): void {
    this.hashes.set(hash, this.lengths.length * HASH_BYTES);
    this.lengths.push(length);
  }

  get isWhole(): boolean {
    const count = this.lengths.length;
    return count === MAX_CHILDREN || (count >= MIN_CHILDREN && endsGroup(this.hashes, (count - 1) * HASH_BYTES));
  }
}

/** Writes `"{hash} : {length}\n"` and returns the position behind it. */
function writeLine(at: number, hashes: Uint8Array, child: number, length: number): number {
  let end = at;
  for (let index = 0; index < HASH_BYTES; index++) {
    // The text form of a hash reverses every 8 bytes: index ^ 7 walks them so.
    const byte = hashes[child * HASH_BYTES + (index ^ 7)] ?? 0;
    text[end++] = HEX[byte >>> 4] ?? 0;
    text[end++] = HEX[byte & 15] ?? 0;
  }
  for (const character of ` : ${length}\n`) text[end++] = character.charCodeAt(0);
  return end;
}

type Node = { readonly hash: Uint8Array; readonly length: number };

/** The parent of a level's children, and of `last` behind them. */
function parentOf(level: Level, last?: Node): Node {
  let end = 0;
  let sum = 0;
  for (const [child, length] of level.lengths.entries()) {
    end = writeLine(end, level.hashes, child, length);
    sum += length;
  }
  if (last !== undefined) {
    end = writeLine(end, last.hash, 0, last.length);
    sum += last.length;
  }
  return { hash: keyedHash(NODE_KEY, text.subarray(0, end)), length: sum };
}

/** What a builder has to remember: for each level the nodes that wait for their parent, hashes in base64. Some KB at most. */
export type MerkleState = readonly {
  readonly hashes: string;
  readonly lengths: readonly number[];
  readonly closed: boolean;
}[];

/** Feed it chunks in order; `root` may be asked at any time. Memory grows with the logarithm of the count. */
export class MerkleBuilder {
  readonly #levels: Level[] = [];

  /** Goes on from what `save` gave. Throws FormatError `xet.merkle_state`. */
  static resume(state: MerkleState): MerkleBuilder {
    const builder = new MerkleBuilder();
    for (const { hashes, lengths, closed } of state) {
      const bytes = Buffer.from(hashes, "base64");
      if (lengths.length >= MAX_CHILDREN || bytes.length !== lengths.length * HASH_BYTES)
        throw new FormatError("xet.merkle_state", "is no saved state of a Merkle tree");
      const level = new Level();
      level.hashes.set(bytes);
      level.lengths.push(...lengths);
      level.closed = closed;
      builder.#levels.push(level);
    }
    return builder;
  }

  save(): MerkleState {
    return this.#levels.map(({ hashes, lengths, closed }) => ({
      hashes: Buffer.from(hashes.subarray(0, lengths.length * HASH_BYTES)).toString("base64"),
      lengths: [...lengths],
      closed,
    }));
  }

  /** `hash`: 32 raw bytes, copied; `length`: unpacked bytes of the chunk. */
  add(hash: Uint8Array, length: number): void {
    let node: Node = { hash, length };
    for (let height = 0; ; height++) {
      let level = this.#levels[height];
      if (level === undefined) {
        level = new Level();
        this.#levels.push(level);
      }
      level.add(node.hash, node.length);
      if (!level.isWhole) return;
      node = parentOf(level);
      level.lengths.length = 0;
      level.closed = true;
    }
  }

  /** 32 raw bytes: zeros for no chunk, the chunk's own hash for one. This is the hash of a xorb with these chunks. */
  root(): Uint8Array {
    let last: Node | undefined;
    for (const level of this.#levels) {
      const alone = level.lengths.length + (last === undefined ? 0 : 1) === 1;
      // A single node that is all of its level is the root; one left over beside others is hashed once more.
      if (alone && !level.closed) return last?.hash ?? level.hashes.slice(0, HASH_BYTES);
      if (level.lengths.length > 0 || last !== undefined) last = parentOf(level, last);
    }
    return last?.hash ?? new Uint8Array(HASH_BYTES);
  }
}

/** The hash of a file (raw) from the root over all its chunks; all zeros for the empty file. */
export const fileHash = (root: Uint8Array): Uint8Array =>
  root.every((byte) => byte === 0) ? new Uint8Array(HASH_BYTES) : keyedHash(FILE_KEY, root);

/** The hash (raw) by which a client shows that it has a range of chunks: over their raw hashes, concatenated. */
export const rangeHash = (hashes: Uint8Array): Uint8Array => keyedHash(VERIFICATION_KEY, hashes);
