// The objects of a pack, one after another: deltas resolved over their bases with bounded memory, depth and work.
import type { GitId } from "../../ids";
import { FormatError } from "../format-error";
import { applyDelta, deltaResultSize } from "./delta";
import { inflateFirst } from "./inflate";
import { type GitObjectType, objectId } from "./objects";
import type { PackEntry } from "./pack-reader";

export type GitObject = { readonly type: GitObjectType; readonly content: Uint8Array };
/** `content` is null for a blob too large to be kept. */
export type UnpackedObject = {
  readonly id: GitId;
  readonly type: GitObjectType;
  readonly size: number;
  readonly content: Uint8Array | null;
};

export type Unpacking = {
  /** Bytes of the pack. */
  readonly read: (offset: number, end: number) => Promise<Uint8Array>;
  /** What deltas may build on beside the objects of the pack: the type of an object that is there already. */
  readonly knownType: (id: GitId) => GitObjectType | undefined;
  readonly known: (id: GitId) => Promise<GitObject>;
  readonly objectBytes: number;
  /** Of objects kept to build on. Bytes. */
  readonly cacheBytes: number;
  /** All bytes that may be inflated or made. */
  readonly workBytes: number;
};

/** git's own bound. */
const MAX_DEPTH = 4095;

const broken = (problem: string): FormatError => new FormatError("git.pack", problem);

/** What a delta builds on: another entry by its place in the list, or an object that is there already. */
type Base = number | GitId;

export class Unpacker {
  readonly #entries: readonly PackEntry[];
  readonly #with: Unpacking;
  readonly #byOffset = new Map<number, number>();
  readonly #byId = new Map<GitId, number>();
  readonly #types: (GitObjectType | undefined)[] = [];
  readonly #depths: number[] = [];
  readonly #given: boolean[] = [];
  readonly #cache = new Map<Base, GitObject>();
  #cached = 0;
  #work = 0;

  constructor(entries: readonly PackEntry[], unpacking: Unpacking) {
    this.#entries = entries;
    this.#with = unpacking;
    for (const [i, entry] of entries.entries()) this.#byOffset.set(entry.offset, i);
  }

  /** Commits, trees and tags; call it once, before `blobs`. @throws FormatError */
  structure(): AsyncGenerator<UnpackedObject> {
    return this.#resolve((type) => type !== "blob");
  }

  /** All that is left. @throws FormatError also when a base is missing */
  async *blobs(): AsyncGenerator<UnpackedObject> {
    yield* this.#resolve(() => true);
    const missing = this.#entries.find((entry, i) => !this.#given[i] && entry.kind === "idDelta");
    if (missing?.kind === "idDelta")
      throw new FormatError(
        "git.pack_base",
        `holds a delta whose base ${missing.base} is neither in it nor in the repository`,
      );
    if (this.#entries.some((_, i) => !this.#given[i])) throw broken("holds deltas that lead nowhere");
  }

  /** Rounds, as the base of a delta by id may come after it; each round resolves something or is the last. */
  async *#resolve(isWanted: (type: GitObjectType) => boolean): AsyncGenerator<UnpackedObject> {
    for (let progress = true; progress; ) {
      progress = false;
      for (const [i, entry] of this.#entries.entries()) {
        if (this.#given[i]) continue;
        const type = this.#typeOf(i, entry);
        if (type === undefined || !isWanted(type)) continue;
        this.#given[i] = true;
        progress = true;
        if (entry.kind === "large") {
          this.#byId.set(entry.id, i);
          yield { id: entry.id, type, size: entry.size, content: null };
          continue;
        }
        const { content } = await this.#load(i);
        const id = objectId(type, content);
        this.#byId.set(id, i);
        yield { id, type, size: content.length, content };
      }
    }
  }

  /** Undefined as long as what the delta builds on is unknown. */
  #typeOf(i: number, entry: PackEntry): GitObjectType | undefined {
    const known = this.#types[i];
    if (known !== undefined) return known;
    if (entry.kind === "whole" || entry.kind === "large") {
      this.#depths[i] = 0;
      this.#types[i] = entry.kind === "whole" ? entry.type : "blob";
      return this.#types[i];
    }
    const base = this.#baseOf(entry);
    const type = typeof base === "number" ? this.#types[base] : base && this.#with.knownType(base);
    if (type === undefined) return undefined;
    const depth = (typeof base === "number" ? (this.#depths[base] ?? 0) : 0) + 1;
    if (depth > MAX_DEPTH) throw broken(`holds a chain of more than ${MAX_DEPTH} deltas`);
    this.#depths[i] = depth;
    this.#types[i] = type;
    return type;
  }

  #baseOf(entry: Extract<PackEntry, { readonly base: unknown }>): Base | undefined {
    if (entry.kind === "idDelta")
      return this.#byId.get(entry.base) ?? (this.#with.knownType(entry.base) === undefined ? undefined : entry.base);
    const at = this.#byOffset.get(entry.base);
    if (at === undefined) throw broken("holds a delta whose base begins within another object");
    return at;
  }

  async #load(wanted: number): Promise<GitObject> {
    const deltas: { readonly at: number; readonly entry: PackEntry }[] = [];
    let at: Base = wanted;
    let object = this.#fromCache(at);
    while (object === undefined) {
      if (typeof at !== "number") {
        object = await this.#with.known(at);
        this.#spend(object.content.length);
        this.#keep(at, object);
        break;
      }
      const entry: PackEntry | undefined = this.#entries[at];
      if (entry === undefined) throw broken("holds deltas that lead nowhere");
      if (entry.kind === "large") throw this.#tooLarge(entry.size);
      if (entry.kind === "whole") {
        object = { type: entry.type, content: await this.#inflate(entry) };
        this.#keep(at, object);
        break;
      }
      deltas.push({ at, entry });
      const base = this.#baseOf(entry);
      if (base === undefined) throw broken("holds deltas that lead nowhere");
      at = base;
      object = this.#fromCache(at);
    }
    for (const { at: place, entry } of deltas.reverse()) {
      const delta = await this.#inflate(entry);
      const size = deltaResultSize(delta);
      if (size > this.#with.objectBytes) throw this.#tooLarge(size);
      this.#spend(size);
      object = { type: object.type, content: applyDelta(object.content, delta, this.#with.objectBytes) };
      this.#keep(place, object);
    }
    return object;
  }

  async #inflate({ data, end, size }: PackEntry): Promise<Uint8Array> {
    this.#spend(size);
    return inflateFirst(await this.#with.read(data, end), size).content;
  }

  #tooLarge(size: number): FormatError {
    return broken(
      `holds an object of ${size} bytes: files of more than ${this.#with.objectBytes} bytes belong in Git LFS`,
    );
  }

  #spend(bytes: number): void {
    this.#work += bytes;
    if (this.#work > this.#with.workBytes) throw broken("takes too much work to unpack: push fewer commits at a time");
  }

  #fromCache(base: Base): GitObject | undefined {
    const object = this.#cache.get(base);
    if (object === undefined) return undefined;
    this.#cache.delete(base);
    this.#cache.set(base, object);
    return object;
  }

  /** The longest unused goes first. */
  #keep(base: Base, object: GitObject): void {
    this.#cache.set(base, object);
    this.#cached += object.content.length;
    for (const [oldest, { content }] of this.#cache) {
      if (this.#cached <= this.#with.cacheBytes) break;
      this.#cache.delete(oldest);
      this.#cached -= content.length;
    }
  }
}
