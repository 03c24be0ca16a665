// The revisions that a recipe names: each found once, with the rights to merge it, and its files as far as a merge may need them.
import type { Caller } from "../../access/caller";
import { HubError } from "../../errors";
import type { ModelReference, Revision } from "../../formats/recipe/references";
import { findStoredFiles, listRoots, type StoredFile } from "../../hub/files";
import { repoName, type Snapshot } from "../../hub/repositories";
import type { Platform } from "../../platform/platform";
import { locate } from "../sources";

/** Of all parents together. */
const MAX_FILES = 20_000;
const ENDINGS = [".safetensors", ".gguf", ".h5", ".keras", ".npz", ".json", ".jinja", ".model", ".txt", ".md"];
const FORMATS = ["safetensors", "gguf", "npz", "h5", "keras"] as const;
export type Format = (typeof FORMATS)[number];

/** Files of a model that are no weights: what each is read or copied for is said where it is. */
export const SIDE_FILES = [
  "README.md",
  "config.json",
  "adapter_config.json",
  "generation_config.json",
  "preprocessor_config.json",
  "processor_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "vocab.txt",
  "merges.txt",
  "chat_template.jinja",
] as const;

export type Parent = {
  readonly snapshot: Snapshot;
  /** Where the request names it first. */
  readonly field: string;
  /** Paths and sizes at its root. */
  readonly root: ReadonlyMap<string, number>;
  /** Of `SIDE_FILES` and of weights that are asked for by name, those that are there. */
  readonly files: ReadonlyMap<string, StoredFile>;
};

export const labelOf = ({ snapshot }: Pick<Parent, "snapshot">): string =>
  `${repoName(snapshot.repo)}@${snapshot.commit.slice(0, 12)}`;

/** A model of the recipe: the parent it is, the adapter on it, and its weights. */
export type Located = {
  readonly reference: ModelReference;
  readonly field: string;
  readonly parent: number;
  readonly adapter: number | null;
  readonly format: Format;
  /** Paths: the weights themselves, or the index that names them. */
  readonly weights: readonly string[];
  readonly index: string | null;
};

export type Parents = { readonly parents: readonly Parent[]; readonly models: readonly Located[] };

const text = ({ repo, revision }: Revision): string => (revision === null ? repo : `${repo}@${revision}`);

/** Three round trips, however many models. @throws repo_not_found | revision_not_found | forbidden | gated_repo | invalid_field */
export async function findParents(
  caller: Caller,
  references: readonly ModelReference[],
  fieldOf: (path: string) => string,
): Promise<Parents> {
  const wanted = references.flatMap((reference) => {
    const field = fieldOf(reference.path);
    return [reference, ...(reference.adapter === undefined ? [] : [reference.adapter])].map((revision) => ({
      type: "model" as const,
      reference: text(revision),
      field,
    }));
  });
  const located = await locate(caller, "merge", wanted);
  const distinct = new Map<string, { snapshot: Snapshot; field: string }>();
  const keyOf = ({ repo, commit }: Snapshot): string => `${repo.id}@${commit}`;
  for (const one of located) if (!distinct.has(keyOf(one.snapshot))) distinct.set(keyOf(one.snapshot), one);
  const order = new Map([...distinct.keys()].map((key, i) => [key, i]));
  const { platform } = caller;
  const found = [...distinct.values()];
  const roots = await listRoots(
    platform.db,
    found.map(({ snapshot }) => snapshot),
    ENDINGS,
    MAX_FILES,
  );
  const rooted = found.map(({ snapshot, field }, i) => ({
    snapshot,
    field,
    root: new Map((roots[i] ?? []).map(({ path, size }) => [path, size])),
  }));
  let next = 0;
  const parentOf = (): number => {
    const one = located[next++];
    const index = one === undefined ? undefined : order.get(keyOf(one.snapshot));
    if (index === undefined) throw new HubError("internal");
    return index;
  };
  const models = references.map((reference): Located => {
    const field = fieldOf(reference.path);
    const parent = parentOf();
    const adapter = reference.adapter === undefined ? null : parentOf();
    const at = rooted[parent];
    if (at === undefined) throw new HubError("internal");
    return { reference, field, parent, adapter, ...weightsOf({ ...at, field }, reference.weights) };
  });
  return { parents: await withFiles(platform, rooted, models), models };
}

type Rooted = Omit<Parent, "files">;
type Weights = Pick<Located, "format" | "weights" | "index">;

const SINGLE = ["model.safetensors", "diffusion_pytorch_model.safetensors", "adapter_model.safetensors"];
const INDICES = ["model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json"];
export const ADAPTER_CONFIG = "adapter_config.json";
export const ADAPTER_WEIGHTS = "adapter_model.safetensors";

/** Which files are the model's weights: those that the recipe names, or those that its kind of model has. */
function weightsOf(at: Rooted, named: readonly string[] | undefined): Weights {
  const { root } = at;
  if (named !== undefined) {
    const absent = named.find((path) => !root.has(path));
    if (absent !== undefined)
      throw missing(
        at,
        absent,
        `name files that are there: ${[...root.keys()].filter(isWeights).join(", ") || "none"}`,
      );
    return { format: formatOf(at, named), weights: named, index: null };
  }
  const single = SINGLE.slice(0, 2).find((path) => root.has(path));
  if (single !== undefined) return { format: "safetensors", weights: [single], index: null };
  const index = INDICES.find((path) => root.has(path));
  if (index !== undefined) return { format: "safetensors", weights: [], index };
  if (root.has(ADAPTER_WEIGHTS) && root.has(ADAPTER_CONFIG))
    throw new HubError("invalid_field", {
      field: at.field,
      problem: `${labelOf(at)} is an adapter: name the model it was trained on, a + and the adapter`,
    });
  for (const format of FORMATS) {
    const files = [...root.keys()].filter((path) => path.endsWith(`.${format}`));
    const [only] = files;
    if (files.length === 1 && only !== undefined) return { format, weights: [only], index: null };
    if (files.length > 1)
      throw new HubError("invalid_field", {
        field: at.field,
        problem: `${labelOf(at)} has ${files.length} files of weights, ${files.slice(0, 3).join(", ")} among them: publish the one to merge as ${format === "safetensors" ? "model.safetensors" : "a model of its own"}`,
      });
  }
  throw missing(at, "model.safetensors", "publish the weights as safetensors, in one file or with an index");
}

const isWeights = (path: string): boolean => FORMATS.some((format) => path.endsWith(`.${format}`));

function formatOf(at: Rooted, paths: readonly string[]): Format {
  const formats = new Set(paths.map((path) => FORMATS.find((format) => path.endsWith(`.${format}`))));
  const [format] = formats;
  if (formats.size !== 1 || format === undefined)
    throw new HubError("invalid_field", {
      field: at.field,
      problem: `${paths.join(", ")} are no weights of one format: use ${FORMATS.join(", ")}`,
    });
  return format;
}

async function withFiles(platform: Platform, rooted: readonly Rooted[], models: readonly Located[]): Promise<Parent[]> {
  const adapters = new Set(models.map(({ adapter }) => adapter));
  const wanted = rooted.flatMap((at, i) => {
    const weights = models.filter(({ parent }) => parent === i).flatMap((one) => [...one.weights, one.index ?? ""]);
    const own = [...SIDE_FILES, ...weights, ...(adapters.has(i) ? [ADAPTER_WEIGHTS] : [])];
    return [...new Set(own)].filter((path) => at.root.has(path)).map((path) => ({ i, path, snapshot: at.snapshot }));
  });
  const stored = await findStoredFiles(platform.db, wanted, FIRST_BYTES);
  const files: Map<string, StoredFile>[] = rooted.map(() => new Map());
  wanted.forEach(({ i, path }, n) => {
    const file = stored[n];
    if (file != null) files[i]?.set(path, file);
  });
  return rooted.map((at, i) => ({ ...at, files: files[i] ?? new Map() }));
}

/** What is read of most files: their headers. */
export const FIRST_BYTES = { offset: 0, length: 1 << 20 };

export const missing = (at: Pick<Parent, "snapshot" | "field">, path: string, fix: string): HubError =>
  new HubError("invalid_field", {
    field: at.field,
    problem: `${repoName(at.snapshot.repo)} has no ${path} at ${at.snapshot.commit.slice(0, 12)}: ${fix}`,
    path,
  });
