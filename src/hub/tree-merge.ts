// Three-way merge of git trees, path by path: only directories that differ on all sides are ever read. Files are taken whole.
import { pathKey } from "../formats/paths";
import type { GitId } from "../ids";
import { type FileEntry, sealTree, type TreeNode, type TreeRow, type WorkingNode } from "./tree-edit";

/** The entries of each of these trees, by name. */
export type LoadTrees = (ids: readonly GitId[]) => Promise<ReadonlyMap<GitId, ReadonlyMap<string, TreeNode>>>;

export type MergedTree = {
  readonly root: GitId;
  /** Entries of trees that may be on none of the sides. */
  readonly rows: readonly TreeRow[];
  /** Paths that both sides changed, each in its own way, sorted; what `root` holds there means nothing. */
  readonly conflicts: readonly string[];
};

/** Something on three sides; null where a side has none. */
type Sides<T> = { readonly base: T | null; readonly ours: T | null; readonly theirs: T | null };

/** What becomes of a name: a file, a directory, or both, which is a conflict. `of`: the sides that have it now. */
type Outcome = {
  readonly file: FileEntry | null;
  readonly directory: GitId | Merging | null;
  readonly of: readonly ("ours" | "theirs")[];
};
/** A directory that differs on all sides, and what becomes of each name in it. */
type Merging = { readonly path: string; readonly sides: Sides<GitId>; readonly names: Map<string, Outcome> };

/** Merges what `base` became on two sides, as git does where it looks for no renames. One call of `load` a level of directories. */
export async function mergeTrees(load: LoadTrees, sides: Sides<GitId> & { readonly ours: GitId }): Promise<MergedTree> {
  const conflicts = new Set<string>();
  const settled = settle(sides, same);
  if (settled !== undefined) return { root: settled ?? sides.ours, rows: [], conflicts: [] };
  let level: Merging[] = [{ path: "", sides, names: new Map() }];
  const [root] = level;
  while (level.length > 0) {
    const ids = level.flatMap(({ sides: { base, ours, theirs } }) => [base, ours, theirs].filter((id) => id !== null));
    const trees = await load([...new Set(ids)]);
    level = level.flatMap((directory) => mergeDirectory(directory, trees, conflicts));
  }
  const rows: TreeRow[] = [];
  const sealed = sealTree((root && finish(root, conflicts)) ?? new Map(), rows);
  return { root: sealed, rows, conflicts: [...conflicts].sort() };
}

/** The side that changed something, where only one did or both did the same; undefined where both did differently. */
function settle<T>(
  { base, ours, theirs }: Sides<T>,
  equal: (a: T | null, b: T | null) => boolean,
): T | null | undefined {
  if (equal(ours, theirs) || equal(base, theirs)) return ours;
  return equal(base, ours) ? theirs : undefined;
}

const same = <T>(a: T | null, b: T | null): boolean => a === b;

const sameFile = (a: FileEntry | null, b: FileEntry | null): boolean =>
  a === null || b === null ? a === b : a.id === b.id && a.mode === b.mode;

/** Decides every name of a directory. @returns the directories below that are to be merged in turn */
function mergeDirectory(
  { path, sides, names }: Merging,
  trees: ReadonlyMap<GitId, ReadonlyMap<string, TreeNode>>,
  conflicts: Set<string>,
): Merging[] {
  const entriesOf = (id: GitId | null): ReadonlyMap<string, TreeNode> =>
    id === null ? NOTHING : (trees.get(id) ?? NOTHING);
  const [base, ours, theirs] = [entriesOf(sides.base), entriesOf(sides.ours), entriesOf(sides.theirs)];
  const below: Merging[] = [];
  for (const name of new Set([...base.keys(), ...ours.keys(), ...theirs.keys()])) {
    const at = path === "" ? name : `${path}/${name}`;
    const on = { base: base.get(name), ours: ours.get(name), theirs: theirs.get(name) };
    const file = mergeFile({ base: fileOf(on.base), ours: fileOf(on.ours), theirs: fileOf(on.theirs) });
    if (file === undefined) conflicts.add(at);
    const directories = { base: directoryOf(on.base), ours: directoryOf(on.ours), theirs: directoryOf(on.theirs) };
    let directory: GitId | Merging | null | undefined = settle(directories, same);
    if (directory === undefined) {
      directory = { path: at, sides: directories, names: new Map() };
      below.push(directory);
    }
    const of = (["ours", "theirs"] as const).filter((side) => on[side] !== undefined);
    names.set(name, { file: file ?? null, directory, of });
  }
  return below;
}

const NOTHING: ReadonlyMap<string, TreeNode> = new Map();
const fileOf = (node: TreeNode | undefined): FileEntry | null => (node?.kind === "file" ? node : null);
const directoryOf = (node: TreeNode | undefined): GitId | null => (node?.kind === "directory" ? node.id : null);

/** Undefined for a conflict. Mode and content are merged apart, unless one side has a file and the other a symbolic link. */
function mergeFile(sides: Sides<FileEntry>): FileEntry | null | undefined {
  const settled = settle(sides, sameFile);
  const { base, ours, theirs } = sides;
  if (settled !== undefined || base === null || ours === null || theirs === null) return settled;
  if ((ours.mode === "120000") !== (theirs.mode === "120000")) return undefined;
  const content = settle(sides, (a, b) => a?.id === b?.id);
  const mode = settle({ base: base.mode, ours: ours.mode, theirs: theirs.mode }, same);
  return content === undefined || content === null || mode === undefined ? undefined : { ...content, mode };
}

/** The merged directory, ready to be sealed, or null where nothing is left of it; what conflicts stays in its place. */
function finish({ path, names }: Merging, conflicts: Set<string>): Map<string, WorkingNode> | null {
  const children = new Map<string, WorkingNode>();
  let isLeft = false;
  for (const [name, { file, directory }] of names) {
    const at = path === "" ? name : `${path}/${name}`;
    const isMerged = directory !== null && typeof directory !== "string";
    const below = isMerged ? finish(directory, conflicts) : null;
    const node: WorkingNode | null = isMerged
      ? below && { kind: "directory", id: null, children: below }
      : directory && { kind: "directory", id: directory, children: null };
    if (file !== null && node !== null) conflicts.add(at);
    const kept = file ?? node;
    if (kept !== null) children.set(name, kept);
    isLeft ||= kept !== null || conflicts.has(at);
  }
  addCaseTwins(path, children, names, conflicts);
  return isLeft ? children : null;
}

/** Names that differ only by case, of which each side had one: both can't be checked out on common file systems. */
function addCaseTwins(
  path: string,
  children: ReadonlyMap<string, WorkingNode>,
  names: ReadonlyMap<string, Outcome>,
  conflicts: Set<string>,
): void {
  const seen = new Map<string, string>();
  for (const name of children.keys()) {
    const twin = seen.get(pathKey(name));
    seen.set(pathKey(name), name);
    if (twin === undefined) continue;
    const before = names.get(twin)?.of ?? [];
    if (names.get(name)?.of.some((side) => before.includes(side))) continue;
    for (const one of [twin, name]) conflicts.add(path === "" ? one : `${path}/${one}`);
  }
}
