// Xet files that are being written: rows that nothing names yet, many files and terms to a statement.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { asJson, queryRows } from "../../db/client";
import type { StorageScope } from "../../db/schema";
import { parseXetHash, type Sha256, type XetHash } from "../../ids";
import type { Platform } from "../../platform/platform";
import { sha256Of } from "../contents";
import { insertTerms, type TermRow } from "./terms";

/** Files or terms that wait to be written together. */
const MAX_WAITING = 5000;
/** The one file whose SHA-256 needs no reading. */
const EMPTY: Sha256 = sha256Of(new Uint8Array());

/** `id`: of the row that holds the terms; null when the scope has the file already, so that none were written. */
export type DraftFile = { readonly hash: XetHash; readonly id: number | null };

export type DraftTerm = {
  /** Of the file's bytes. */
  readonly offset: number;
  readonly term: { readonly start: number; readonly end: number; readonly length: number };
  readonly xorbId: number;
  /** Of the packed xorb, `end` exclusive. */
  readonly bytes: { readonly start: number; readonly end: number };
};

const Opened = z.object({ id: z.number(), hash: z.string().transform((text) => parseXetHash(text, "hash")) });

/** The drafts of one request. What is not registered in the end is left to the sweep. */
export class FileDrafts {
  readonly #platform: Pick<Platform, "db" | "now">;
  readonly #scope: StorageScope;
  /** Undefined: not written yet. */
  readonly #ids = new Map<XetHash, number | null | undefined>();
  #files: (readonly [XetHash, number, Sha256 | null])[] = [];
  #terms: (readonly [XetHash, DraftTerm])[] = [];

  constructor(platform: Pick<Platform, "db" | "now">, scope: StorageScope) {
    this.#platform = platform;
    this.#scope = scope;
  }

  /** False for a file that was begun before: its terms are not wanted twice. `size` in bytes. */
  begin(hash: XetHash, size: number): boolean {
    if (this.#ids.has(hash)) return false;
    this.#ids.set(hash, undefined);
    this.#files.push([hash, size, size === 0 ? EMPTY : null]);
    return true;
  }

  add(hash: XetHash, term: DraftTerm): void {
    if (this.#ids.get(hash) !== null) this.#terms.push([hash, term]);
  }

  async flushIfFull(): Promise<void> {
    if (this.#terms.length >= MAX_WAITING || this.#files.length >= MAX_WAITING) await this.#flush();
  }

  /** All files of this request, written. */
  async finish(): Promise<DraftFile[]> {
    await this.#flush();
    return Array.from(this.#ids, ([hash, id]) => ({ hash, id: id ?? null }));
  }

  async #flush(): Promise<void> {
    await this.#openFiles();
    const rows = this.#terms.flatMap(([hash, { offset, term, xorbId, bytes }]): TermRow[] => {
      const id = this.#ids.get(hash) ?? null;
      return id === null ? [] : [[id, offset, term.length, xorbId, term.start, term.end, bytes.start, bytes.end]];
    });
    this.#terms = [];
    if (rows.length > 0) await this.#platform.db.run(insertTerms(rows));
  }

  /** Writes rows for those that the scope does not have. */
  async #openFiles(): Promise<void> {
    if (this.#files.length === 0) return;
    const opened = await queryRows(
      this.#platform.db,
      Opened,
      sql`insert into xet_files (hash, scope, size, sha256, state, created_at)
        select j.value ->> 0, ${this.#scope}, j.value ->> 1, j.value ->> 2, 'open', ${this.#platform.now()}
          from json_each(${asJson(this.#files)}) j
          where not exists (select 1 from xet_files f where f.hash = j.value ->> 0 and f.scope = ${this.#scope} and f.state = 'registered')
        returning id, hash`,
    );
    for (const [hash] of this.#files) this.#ids.set(hash, null);
    for (const { id, hash } of opened) this.#ids.set(hash, id);
    this.#files = [];
  }
}
