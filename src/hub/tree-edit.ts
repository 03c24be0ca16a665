// Applies a commit's changes to a git tree in memory: only the directories on changed paths are ever loaded.
import * as z from "zod";
import { HubError } from "../errors";
import { treeId } from "../formats/git/tree";
import { pathKey } from "../formats/paths";
import type { FilePath, GitId, Sha256 } from "../ids";
import type { Holding } from "../store/contents";

/** As git writes it; null is the ordinary 100644. So it is in `tree_entries`, too. */
export const ModeColumn = z.enum(["100755", "120000"]).nullable();
export type FileMode = z.output<typeof ModeColumn>;

export type FileEntry = {
  readonly kind: "file";
  readonly id: GitId;
  readonly sha256: Sha256;
  readonly size: number;
  readonly lfs: boolean;
  readonly mode: FileMode;
};
/** A file to be written into a tree, and how its repository will hold the bytes. */
export type NewFile = FileEntry & { readonly holding: Holding };
/** An entry of a stored tree. */
export type TreeNode = FileEntry | { readonly kind: "directory"; readonly id: GitId };
/** An entry of a tree in the making; `children` are known of a directory that may have changed. */
export type WorkingNode = FileEntry | Directory;
type Directory = {
  readonly kind: "directory";
  readonly id: GitId | null;
  readonly children: Map<string, WorkingNode> | null;
};

export type Change =
  | { readonly kind: "put"; readonly path: FilePath; readonly file: NewFile; readonly field: string }
  | { readonly kind: "deleteFile" | "deleteFolder"; readonly path: FilePath; readonly field: string };

/** One entry of a directory on a changed path, as loaded: `directory` is the path of the tree that holds it. */
export type LoadedEntry = {
  readonly directory: string;
  readonly name: string;
  readonly node: TreeNode;
};

export type TreeRow = {
  readonly tree: GitId;
  readonly name: string;
  readonly node: TreeNode;
};

/** Paths of all directories that the changes touch, the root ("") included. */
export function touchedDirectories(changes: readonly Change[]): string[] {
  const touched = new Set([""]);
  for (const { path } of changes)
    for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1))
      touched.add(path.slice(0, end));
  return [...touched];
}

/**
 * The tree after the changes, in their order: its id and the rows of every tree that is not among the loaded ones.
 * @throws invalid_path where a file stands in a directory's place or two names differ only by case; entry_not_found for a deletion of nothing
 */
export function editTree(loaded: readonly LoadedEntry[], changes: readonly Change[]): { root: GitId; rows: TreeRow[] } {
  const root = assemble(loaded);
  const seen = new Set<string>();
  for (const change of changes) {
    const key = `${change.kind === "put" ? "put" : "delete"} ${change.path}`;
    if (seen.has(key))
      throw new HubError("invalid_path", {
        field: change.field,
        problem: `${change.path} comes twice in one commit: send each path once`,
      });
    seen.add(key);
    apply(root, change);
  }
  const rows: TreeRow[] = [];
  return { root: sealTree(root, rows), rows };
}

function assemble(loaded: readonly LoadedEntry[]): Map<string, WorkingNode> {
  const byDirectory = new Map<string, Map<string, WorkingNode>>([["", new Map()]]);
  const childrenOf = (path: string): Map<string, WorkingNode> => {
    const known = byDirectory.get(path);
    if (known !== undefined) return known;
    const children = new Map<string, WorkingNode>();
    byDirectory.set(path, children);
    return children;
  };
  for (const { directory, name, node } of loaded)
    childrenOf(directory).set(name, node.kind === "file" ? node : { ...node, children: null });
  for (const [path, children] of byDirectory)
    for (const [name, node] of children) {
      const below = byDirectory.get(path === "" ? name : `${path}/${name}`);
      if (node.kind === "directory" && below !== undefined) children.set(name, { ...node, children: below });
    }
  return childrenOf("");
}

function apply(root: Map<string, WorkingNode>, change: Change): void {
  const names = change.path.split("/");
  const last = names.pop() ?? "";
  let directory = root;
  for (const name of names) {
    const next = directory.get(name);
    if (next?.kind === "directory" && next.children !== null) directory = next.children;
    else if (next === undefined && change.kind === "put") {
      refuseCaseTwin(directory, name, change);
      const children = new Map<string, WorkingNode>();
      directory.set(name, { kind: "directory", id: null, children });
      directory = children;
    } else if (next?.kind === "file" && change.kind === "put")
      throw new HubError("invalid_path", {
        field: change.field,
        problem: `${name} in ${change.path} is a file: delete it first`,
      });
    else throw new HubError("entry_not_found", { path: change.path });
  }
  const existing = directory.get(last);
  if (change.kind === "put") {
    if (existing?.kind === "directory")
      throw new HubError("invalid_path", {
        field: change.field,
        problem: `${change.path} is a directory: delete it first`,
      });
    if (existing === undefined) refuseCaseTwin(directory, last, change);
    // A client that sends bytes says nothing of their mode: a script stays executable.
    const mode = change.file.mode ?? (existing?.kind === "file" && existing.mode === "100755" ? existing.mode : null);
    directory.set(last, { ...change.file, mode });
  } else {
    if (existing === undefined || (change.kind === "deleteFolder" && existing.kind === "file"))
      throw new HubError("entry_not_found", { path: change.path });
    directory.delete(last);
  }
}

const foldedNames = new WeakMap<Map<string, WorkingNode>, Map<string, string>>();

/** Two names that differ only by case can't both be checked out on common file systems. */
function refuseCaseTwin(directory: Map<string, WorkingNode>, name: string, change: Change): void {
  let folded = foldedNames.get(directory);
  if (folded === undefined) {
    folded = new Map([...directory.keys()].map((one) => [pathKey(one), one]));
    foldedNames.set(directory, folded);
  }
  const twin = folded.get(pathKey(name));
  if (twin !== undefined && twin !== name && directory.has(twin))
    throw new HubError("invalid_path", {
      field: change.field,
      problem: `${name} differs from ${twin} only by case: use one spelling`,
    });
  folded.set(pathKey(name), name);
}

/** The id of a tree; the rows of every directory whose children are known are added to `rows`. */
export const sealTree = (root: Map<string, WorkingNode>, rows: TreeRow[]): GitId => seal(root, rows)?.id ?? treeId([]);

/** Ids from the leaves up; directories that became empty vanish, as git has none. */
function seal(children: Map<string, WorkingNode>, rows: TreeRow[]): { id: GitId } | null {
  const entries: { name: string; node: TreeNode }[] = [];
  for (const [name, node] of children) {
    if (node.kind === "file") entries.push({ name, node });
    else {
      const sealed = node.children === null ? (node.id === null ? null : { id: node.id }) : seal(node.children, rows);
      if (sealed !== null) entries.push({ name, node: { kind: "directory", id: sealed.id } });
    }
  }
  if (entries.length === 0) return null;
  const id = treeId(
    entries.map(({ name, node }) => ({
      name,
      id: node.id,
      mode: node.kind === "file" ? (node.mode ?? "100644") : "40000",
    })),
  );
  for (const { name, node } of entries) rows.push({ tree: id, name, node });
  return { id };
}
