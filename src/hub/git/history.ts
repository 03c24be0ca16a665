// The new part of a history that a push brings: walked from its tips, every tree checked as an API commit's paths are.
import { HubError } from "../../errors";
import { FormatError } from "../../formats/format-error";
import { decodeCommit, type GitCommit } from "../../formats/git/commit";
import { decodeTag, type GitTag } from "../../formats/git/tag";
import { decodeTree } from "../../formats/git/tree";
import type { UnpackedObject } from "../../formats/git/unpack";
import { checkFilePath, checkPathSet, MAX_PATH_BYTES, MAX_PATH_LEVELS } from "../../formats/paths";
import { encodeUtf8 } from "../../formats/text";
import type { GitId } from "../../ids";
import type { Extent } from "./known-objects";

export const refuse = (problem: string, options?: ErrorOptions): HubError =>
  new HubError("push_refused", { problem }, options);

export const tooMuch = (): HubError =>
  refuse("this is too much history for one push: push fewer commits at a time, oldest first");

/** Of commits, trees and tags together, which are kept in memory. Bytes. */
const MAX_STRUCTURE_BYTES = 24 << 20;
/** Of one commit or tag: it is a row of the database. Bytes. */
const MAX_MESSAGE_BYTES = 128 << 10;
/** Files and folders at one commit. */
const MAX_PATHS = 100_000;

/** Files and trees that one push may name. */
const MAX_NAMED = 200_000;

/** A tree of the push, without its files. */
type TreeSummary = {
  readonly directories: readonly { readonly name: string; readonly id: GitId }[];
  readonly files: number;
  /** Bytes of the longest name of a file. */
  readonly longest: number;
};

/** A file that the new trees name: where it was first seen, and as what. */
export type WantedFile = { readonly tree: GitId; readonly name: string; asFile: boolean; asLink: boolean };

export class NewHistory {
  readonly commits = new Map<GitId, GitCommit>();
  readonly trees = new Map<GitId, Uint8Array>();
  readonly tags = new Map<GitId, GitTag>();
  /** Files that the reachable trees name, by the id of the blob. */
  readonly files = new Map<GitId, WantedFile>();
  readonly outsideCommits = new Set<GitId>();
  readonly outsideTrees = new Set<GitId>();
  /** Reachable ones, parents first. */
  readonly order: GitId[] = [];
  readonly #summaries = new Map<GitId, TreeSummary>();
  /** The folder in which a tree was first seen. */
  readonly #above = new Map<GitId, { readonly tree: GitId; readonly name: string }>();
  readonly #goodNames = new Set<string>();
  #bytes = 0;

  /** Takes a commit, tree or tag of the pack. @throws push_refused */
  add({ id, type, content }: UnpackedObject): void {
    if (content === null || type === "blob") return;
    this.#bytes += content.length;
    if (this.#bytes > MAX_STRUCTURE_BYTES) throw tooMuch();
    try {
      if (type === "tree") this.trees.set(id, content.slice());
      else if (content.length > MAX_MESSAGE_BYTES)
        throw refuse(`${type} ${id} has ${content.length} bytes, more than ${MAX_MESSAGE_BYTES}`);
      else if (type === "commit") this.commits.set(id, decodeCommit(content));
      else this.tags.set(id, decodeTag(content));
    } catch (cause) {
      if (cause instanceof FormatError) throw refuse(`${type} ${id} ${cause.message}`, { cause });
      throw cause;
    }
  }

  /** Finds what these commits reach in the push. @throws push_refused for trees that no API commit could make */
  walk(tips: Iterable<GitId>): void {
    const seen = new Set<GitId>();
    for (const tip of tips) {
      const open: { readonly id: GitId; readonly done: boolean }[] = [{ id: tip, done: false }];
      for (let next = open.pop(); next !== undefined; next = open.pop()) {
        const { id, done } = next;
        if (done) {
          this.order.push(id);
          continue;
        }
        if (seen.has(id)) continue;
        seen.add(id);
        const commit = this.commits.get(id);
        if (commit === undefined) {
          this.outsideCommits.add(id);
          continue;
        }
        open.push({ id, done: true }, ...commit.parents.map((parent) => ({ id: parent, done: false })));
      }
    }
    for (const id of this.order) this.#walkTrees(this.commits.get(id)?.tree);
  }

  #walkTrees(root: GitId | undefined): void {
    const open = root === undefined ? [] : [root];
    for (let id = open.pop(); id !== undefined; id = open.pop()) {
      if (this.#summaries.has(id)) continue;
      const content = this.trees.get(id);
      if (content === undefined) {
        this.outsideTrees.add(id);
        continue;
      }
      const summary = this.#summarize(id, content);
      if (this.files.size + this.outsideTrees.size > MAX_NAMED) throw tooMuch();
      this.#summaries.set(id, summary);
      for (const { name, id: child } of summary.directories) {
        if (!this.#above.has(child)) this.#above.set(child, { tree: id, name });
        open.push(child);
      }
    }
  }

  #summarize(id: GitId, content: Uint8Array): TreeSummary {
    const entries = this.#read(id, () => decodeTree(content));
    const directories: { name: string; id: GitId }[] = [];
    let longest = 0;
    for (const { mode, name, id: entry } of entries) {
      if (!this.#goodNames.has(name)) {
        this.#read(id, () => checkFilePath(name), name);
        this.#goodNames.add(name);
      }
      if (mode === "40000") {
        directories.push({ name, id: entry });
        continue;
      }
      longest = Math.max(longest, encodeUtf8(name).length);
      const wanted = this.files.get(entry) ?? { tree: id, name, asFile: false, asLink: false };
      if (mode === "120000") wanted.asLink = true;
      else wanted.asFile = true;
      this.files.set(entry, wanted);
    }
    this.#read(id, () => checkPathSet(entries.map(({ name }) => name)));
    return { directories, files: entries.length - directories.length, longest };
  }

  /** Says at which path a codec found something wrong. */
  #read<T>(tree: GitId, step: () => T, name = ""): T {
    try {
      return step();
    } catch (cause) {
      if (!(cause instanceof FormatError)) throw cause;
      throw refuse(`${this.pathIn(tree, name) || "the root folder"} ${cause.message}`, { cause });
    }
  }

  /** The path at which a tree was first seen, and an entry of it. */
  pathIn(tree: GitId, name: string): string {
    const names = name === "" ? [] : [name];
    for (let at = this.#above.get(tree); at !== undefined; at = this.#above.get(at.tree)) names.unshift(at.name);
    return names.join("/");
  }

  pathOf(file: WantedFile): string {
    return this.pathIn(file.tree, file.name);
  }

  /** Commits of the push that this one reaches, parents first. */
  commitsOf(tip: GitId): { readonly oid: GitId; readonly subject: string }[] {
    const reached = new Set([tip]);
    // Backwards in this order every commit comes before its parents.
    for (const id of this.order.toReversed())
      if (reached.has(id)) for (const parent of this.commits.get(id)?.parents ?? []) reached.add(parent);
    return this.order
      .filter((id) => reached.has(id))
      .map((oid) => ({ oid, subject: this.commits.get(oid)?.message.split("\n", 1)[0] ?? "" }));
  }

  /** New trees below a new root, folders after what is in them. */
  *treesOf(commit: GitId, written: Set<GitId>): Generator<GitId> {
    const root = this.commits.get(commit)?.tree;
    const open = root === undefined ? [] : [{ id: root, done: false }];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const { id, done } = next;
      if (done) {
        yield id;
        continue;
      }
      const summary = this.#summaries.get(id);
      if (summary === undefined || written.has(id)) continue;
      written.add(id);
      open.push({ id, done: true }, ...summary.directories.map((one) => ({ id: one.id, done: false })));
    }
  }

  /** @throws push_refused for paths that are too long or too deep, and for more of them than can be listed */
  checkExtents(outside: ReadonlyMap<GitId, Extent>): void {
    const extents = new Map(outside);
    const measured = new Set<GitId>();
    for (const commit of this.order) {
      for (const id of this.treesOf(commit, measured)) extents.set(id, this.#extentOf(id, extents));
      const root = this.commits.get(commit)?.tree;
      const extent = root === undefined ? undefined : extents.get(root);
      if (extent === undefined) continue;
      if (extent.levels > MAX_PATH_LEVELS)
        throw refuse(`commit ${commit} has paths of ${extent.levels} levels: use at most ${MAX_PATH_LEVELS}`);
      if (extent.pathBytes > MAX_PATH_BYTES)
        throw refuse(`commit ${commit} has a path of ${extent.pathBytes} bytes: use at most ${MAX_PATH_BYTES}`);
      if (extent.paths > MAX_PATHS)
        throw refuse(`commit ${commit} has more than ${MAX_PATHS} files and folders: pack them into fewer files`);
    }
  }

  #extentOf(id: GitId, extents: ReadonlyMap<GitId, Extent>): Extent {
    const { directories, files, longest } = this.#summaries.get(id) ?? { directories: [], files: 0, longest: 0 };
    let levels = files > 0 ? 1 : 0;
    let pathBytes = longest;
    let paths = files + directories.length;
    for (const { name, id: child } of directories) {
      const below = extents.get(child) ?? { levels: 0, pathBytes: 0, paths: 0 };
      levels = Math.max(levels, below.levels + 1);
      pathBytes = Math.max(pathBytes, encodeUtf8(name).length + 1 + below.pathBytes);
      paths += below.paths;
    }
    return { levels, pathBytes, paths };
  }
}
