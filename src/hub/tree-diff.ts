// What differs between two trees, file by file: only directories that differ are read.
import type { GitId } from "../ids";
import type { FileEntry, TreeNode } from "./tree-edit";
import type { LoadTrees } from "./tree-merge";

export type ChangedFile = {
  readonly path: string;
  readonly before: FileEntry | null;
  readonly after: FileEntry | null;
};

type Pair = { readonly path: string; readonly before: GitId | null; readonly after: GitId | null };

/** In the order of paths. One call of `load` a level of directories. */
export async function diffTrees(load: LoadTrees, before: GitId | null, after: GitId | null): Promise<ChangedFile[]> {
  const changed: ChangedFile[] = [];
  let level: Pair[] = before === after ? [] : [{ path: "", before, after }];
  while (level.length > 0) {
    const ids = level.flatMap((pair) => [pair.before, pair.after].filter((id) => id !== null));
    const trees = await load([...new Set(ids)]);
    const below: Pair[] = [];
    for (const pair of level) {
      const entries = (id: GitId | null) => (id === null ? undefined : trees.get(id)) ?? new Map<string, TreeNode>();
      const [old, now] = [entries(pair.before), entries(pair.after)];
      for (const name of new Set([...old.keys(), ...now.keys()])) {
        const path = pair.path === "" ? name : `${pair.path}/${name}`;
        const [one, two] = [old.get(name), now.get(name)];
        const [was, is] = [fileOf(one), fileOf(two)];
        if (was?.id !== is?.id || was?.mode !== is?.mode) changed.push({ path, before: was, after: is });
        const [from, to] = [directoryOf(one), directoryOf(two)];
        if (from !== to) below.push({ path, before: from, after: to });
      }
    }
    level = below;
  }
  return changed.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

const fileOf = (node: TreeNode | undefined): FileEntry | null => (node?.kind === "file" ? node : null);
const directoryOf = (node: TreeNode | undefined): GitId | null => (node?.kind === "directory" ? node.id : null);
