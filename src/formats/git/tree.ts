// Git trees: one canonical encoding, so that equal folders have equal ids.
import { Buffer } from "node:buffer";
import { type GitId, parseGitId } from "../../ids";
import { FormatError } from "../format-error";
import { decodeUtf8, encodeUtf8, quote } from "../text";
import { objectId } from "./objects";

export const TREE_MODES = ["100644", "100755", "120000", "40000"] as const;
/** A file, an executable file, a symbolic link, a folder. */
export type TreeMode = (typeof TREE_MODES)[number];
export type TreeEntry = { readonly mode: TreeMode; readonly name: string; readonly id: GitId };

const ID_BYTES = 20;
const SLASH = 0x2f;
const isTreeMode = (text: string): text is TreeMode => TREE_MODES.some((mode) => mode === text);

function checkName(name: string): void {
  if (
    name === "" ||
    name === "." ||
    name === ".." ||
    name.toLowerCase() === ".git" ||
    /[/\0]/.test(name) ||
    !name.isWellFormed()
  )
    throw new FormatError("git.tree_name", `has the entry ${quote(name)}, a name git forbids`);
}

type SortKey = { readonly name: Uint8Array; readonly folder: boolean };

/** Git orders names by bytes, a folder as if its name ended in a slash. */
function compareEntries(a: SortKey, b: SortKey): number {
  const shorter = Math.min(a.name.length, b.name.length);
  for (let at = 0; at < shorter; at++) {
    const difference = (a.name[at] ?? 0) - (b.name[at] ?? 0);
    if (difference !== 0) return difference;
  }
  const next = (side: SortKey): number => side.name[shorter] ?? (side.folder ? SLASH : 0);
  return next(a) - next(b);
}

/** The content of the tree object. Entries may come in any order; two with one name are an error. */
export function encodeTree(entries: Iterable<TreeEntry>): Uint8Array {
  const names = new Set<string>();
  const rows = [];
  for (const { mode, name, id } of entries) {
    checkName(name);
    if (names.has(name)) throw new FormatError("git.tree_duplicate", `has two entries named ${quote(name)}`);
    names.add(name);
    rows.push({ mode, name: encodeUtf8(name), folder: mode === "40000", id });
  }
  rows.sort(compareEntries);
  const size = rows.reduce((sum, { mode, name }) => sum + mode.length + 1 + name.length + 1 + ID_BYTES, 0);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const { mode, name, id } of rows) {
    bytes.set(encodeUtf8(`${mode} `), at);
    at += mode.length + 1;
    bytes.set(name, at);
    at += name.length + 1;
    bytes.set(Buffer.from(id, "hex"), at);
    at += ID_BYTES;
  }
  return bytes;
}

export const treeId = (entries: Iterable<TreeEntry>): GitId => objectId("tree", encodeTree(entries));

/** Reads a tree object's content; what this accepts, `encodeTree` writes back byte for byte. */
export function decodeTree(bytes: Uint8Array): TreeEntry[] {
  const entries: TreeEntry[] = [];
  const names = new Set<string>();
  let before: SortKey | undefined;
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(0x20, at);
    const end = space === -1 ? -1 : bytes.indexOf(0, space);
    if (end === -1 || end + 1 + ID_BYTES > bytes.length) throw new FormatError("git.tree", "ends inside an entry");
    const mode = decodeUtf8(
      bytes.subarray(at, Math.min(space, at + 7)),
      "git.tree_mode",
      "has a mode that is not text",
    );
    if (mode === "160000")
      throw new FormatError("git.submodule", "has a submodule, which is the content of another repository", {
        fix: "commit its files, or leave it out",
      });
    if (!isTreeMode(mode)) throw new FormatError("git.tree_mode", `has an entry of the unknown mode ${quote(mode)}`);
    const raw = bytes.subarray(space + 1, end);
    const name = decodeUtf8(raw, "git.tree_name", "has an entry whose name is not UTF-8");
    checkName(name);
    if (names.has(name)) throw new FormatError("git.tree_duplicate", `has two entries named ${quote(name)}`);
    names.add(name);
    const entry = { name: raw, folder: mode === "40000" };
    if (before !== undefined && compareEntries(before, entry) >= 0)
      throw new FormatError("git.tree_order", `has the entry ${quote(name)} out of order`);
    before = entry;
    const id = parseGitId(Buffer.from(bytes.subarray(end + 1, end + 1 + ID_BYTES)).toString("hex"), "object id");
    entries.push({ mode, name, id });
    at = end + 1 + ID_BYTES;
  }
  return entries;
}
