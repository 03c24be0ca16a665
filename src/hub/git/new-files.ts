// The files that a push brings: large ones must come as LFS pointers to bytes that are there, the rest is stored.
import type { Caller } from "../../access/caller";
import { inTexts } from "../../db/client";
import { checkCard } from "../../formats/card/validate";
import { FormatError } from "../../formats/format-error";
import { type LfsPointer, looksLikeLfsPointer, parseLfsPointer } from "../../formats/git/lfs-pointer";
import type { UnpackedObject } from "../../formats/git/unpack";
import type { GitId, Sha256 } from "../../ids";
import { type Holding, STORED, storeBytes } from "../../store/contents";
import { isBinary, MAX_REGULAR_BYTES } from "../attributes";
import { type Linkable, linkable } from "../linking";
import type { Repository } from "../repositories";
import { type NewHistory, refuse, type WantedFile } from "./history";
import type { KnownFile } from "./known-objects";

/** A binary file above this is no icon: it belongs in LFS, where it is kept once and fetched by its parts. Bytes. */
const MAX_BINARY_BYTES = 1024 * 1024;
const MAX_LINK_BYTES = 4096;
/** Files are stored as soon as this much has come. */
const STORE_EVERY_BYTES = 8 << 20;
const STORE_EVERY_FILES = 500;
const MAX_PROBLEMS = 10;

const LFS_HINT = "track it with `git lfs track`, and rewrite the commits that have it with `git lfs migrate import`";

export type PushedFile = KnownFile & { readonly holding: Holding };

export class NewFiles {
  readonly #caller: Caller;
  readonly #repo: Repository;
  readonly #history: NewHistory;
  /** READMEs at the root of what branches will point to. */
  readonly #cards: ReadonlySet<GitId>;
  readonly #known: ReadonlyMap<GitId, KnownFile>;
  readonly #files = new Map<GitId, PushedFile>();
  readonly #pointers = new Map<GitId, LfsPointer>();
  readonly #problems: string[] = [];
  #waiting: { readonly id: GitId; readonly bytes: Uint8Array }[] = [];
  #waitingBytes = 0;

  constructor(
    caller: Caller,
    repo: Repository,
    history: NewHistory,
    { cards, known }: { readonly cards: ReadonlySet<GitId>; readonly known: ReadonlyMap<GitId, KnownFile> },
  ) {
    this.#caller = caller;
    this.#repo = repo;
    this.#history = history;
    this.#cards = cards;
    this.#known = known;
  }

  /** Takes a blob of the pack; those that no new tree names, and those that are here already, are dropped. */
  async add({ id, size, content }: UnpackedObject): Promise<void> {
    const wanted = this.#history.files.get(id);
    if (wanted === undefined || this.#known.has(id)) return;
    const problem = this.#check(id, wanted, size, content);
    if (problem !== null) this.#problems.push(`${this.#history.pathOf(wanted)}: ${problem}`);
    // Once something is wrong nothing more is stored: the rest is only looked at, to tell all of it at once.
    if (content === null || this.#problems.length > 0 || this.#pointers.has(id)) return;
    this.#waiting.push({ id, bytes: content });
    this.#waitingBytes += size;
    if (this.#waitingBytes >= STORE_EVERY_BYTES || this.#waiting.length >= STORE_EVERY_FILES) await this.#store();
  }

  /** What is wrong with a file, and how to set it right. */
  #check(id: GitId, wanted: WantedFile, size: number, content: Uint8Array | null): string | null {
    if (content === null || size > MAX_REGULAR_BYTES)
      return `has ${size} bytes, and files above ${MAX_REGULAR_BYTES} belong in Git LFS: ${LFS_HINT}`;
    if (wanted.asLink) {
      // Kept as the text that it is, and never followed here.
      if (size > MAX_LINK_BYTES || content.includes(0) || content.includes(0x0a))
        return `is a symbolic link to what is no path of at most ${MAX_LINK_BYTES} bytes`;
    } else if (looksLikeLfsPointer(content)) return this.#checkPointer(id, content);
    else if (size > MAX_BINARY_BYTES && isBinary(content, size))
      return `is a binary file of ${size} bytes, and those above ${MAX_BINARY_BYTES} belong in Git LFS: ${LFS_HINT}`;
    if (!this.#cards.has(id)) return null;
    const [problem] = checkCard(this.#repo.type, new TextDecoder().decode(content)).errors;
    return problem === undefined ? null : `its front matter is wrong: ${problem.message}`;
  }

  #checkPointer(id: GitId, content: Uint8Array): string | null {
    try {
      this.#pointers.set(id, parseLfsPointer(content));
      return null;
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      return `looks like an LFS pointer, but ${error.message}; \`git add --renormalize\` writes it anew`;
    }
  }

  async #store(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    const stored = await storeBytes(
      this.#caller.platform,
      waiting.map(({ bytes }) => bytes),
    );
    waiting.forEach(({ id }, i) => {
      const one = stored[i];
      if (one !== undefined) this.#files.set(id, { ...one, lfs: false, holding: STORED });
    });
  }

  /** Every new file, by the id of its blob. @throws push_refused with all that is wrong */
  async finish(): Promise<ReadonlyMap<GitId, PushedFile>> {
    if (this.#problems.length === 0) await this.#store();
    await this.#linkPointers();
    this.#checkKnown();
    const [first] = this.#problems;
    if (first === undefined) return this.#files;
    const shown = this.#problems.slice(0, MAX_PROBLEMS);
    const more = this.#problems.length - shown.length;
    throw refuse([...shown, ...(more > 0 ? [`and ${more} files more`] : [])].join("\n"));
  }

  /** What the new trees name and the pack does not hold must be here, and fit the place. */
  #checkKnown(): void {
    for (const [id, wanted] of this.#history.files) {
      if (this.#files.has(id) || this.#problems.length > 0) continue;
      const known = this.#known.get(id);
      if (known === undefined)
        this.#problems.push(
          `${this.#history.pathOf(wanted)}: its blob ${id} is neither in the push nor in the repository`,
        );
      else if (wanted.asLink && (known.lfs || known.size > MAX_LINK_BYTES))
        this.#problems.push(`${this.#history.pathOf(wanted)}: is a symbolic link to what is no path`);
    }
  }

  async #linkPointers(): Promise<void> {
    if (this.#pointers.size === 0) return;
    const digests = [...new Set([...this.#pointers.values()].map(({ sha256 }) => sha256))];
    const known = new Map<Sha256, Linkable>();
    for (const part of inTexts(digests))
      for (const [sha256, found] of await linkable(this.#caller, this.#repo, part)) known.set(sha256, found);
    for (const [id, { sha256, size }] of this.#pointers) {
      const wanted = this.#history.files.get(id);
      const path = wanted === undefined ? id : this.#history.pathOf(wanted);
      const found = known.get(sha256);
      if (found === undefined)
        this.#problems.push(
          `${path}: its bytes (SHA-256 ${sha256}) were not uploaded: run \`git lfs push --all\` first`,
        );
      else if (found.size !== size)
        this.#problems.push(`${path}: its LFS pointer claims ${size} bytes, but they are ${found.size}`);
      else this.#files.set(id, { sha256, size, lfs: true, holding: found.holding });
    }
  }
}
