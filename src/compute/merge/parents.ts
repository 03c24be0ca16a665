// The revisions that a recipe names: each found once, with the rights to merge it, and its files as far as a merge may need them.
import type { Caller } from "../../access/caller";
import { HubError } from "../../errors";
import { WEIGHTS } from "../../formats/recipe/layout";
import { isOutputName } from "../../formats/recipe/program";
import type { ModelReference, Revision } from "../../formats/recipe/references";
import { findStoredFiles, listTops, type StoredFile } from "../../hub/files";
import { repoName, type Snapshot } from "../../hub/repositories";
import type { Platform } from "../../platform/platform";
import { locate } from "../sources";

/** Of all parents together. */
const MAX_FILES = 20_000;
const ENDINGS = [".safetensors", ".bin", ".gguf", ".h5", ".keras", ".npz", ".json", ".jinja", ".model", ".txt", ".md"];
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
  /** Paths and sizes at its root and in the folders there. */
  readonly tops: ReadonlyMap<string, number>;
  /** Of `SIDE_FILES` and of weights that are asked for by name, those that are there; of a pipeline all that belong to it. */
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
  /** One at the root, or those of a pipeline in their folders. */
  readonly components: readonly Component[];
};

export type Component = {
  /** Empty at the root. */
  readonly folder: string;
  /** What the output calls the weights. */
  readonly file: string;
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
  const tops = await listTops(
    platform.db,
    found.map(({ snapshot }) => snapshot),
    ENDINGS,
    MAX_FILES,
  );
  const rooted = found.map(({ snapshot, field }, i) => ({
    snapshot,
    field,
    tops: new Map((tops[i] ?? []).map(({ path, size }) => [path, size])),
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
type Weights = Pick<Located, "format" | "components">;

const SINGLE = [WEIGHTS, "diffusion_pytorch_model.safetensors"];
const ADAPTER = /^(adapter_model|pytorch_lora\w*)\.safetensors$/;
export const ADAPTER_CONFIG = "adapter_config.json";
export const ADAPTER_WEIGHTS = "adapter_model.safetensors";
/** What makes a repository a pipeline of models in folders. */
const PIPELINE = "model_index.json";

/** Which files are the model's weights: those that the recipe names, or those that its kind of model has. */
function weightsOf(at: Rooted, named: readonly string[] | undefined): Weights {
  const { tops } = at;
  if (named !== undefined) {
    const absent = named.find((path) => !tops.has(path));
    if (absent !== undefined)
      throw missing(
        at,
        absent,
        `name files that are there: ${[...tops.keys()].filter(isWeights).join(", ") || "none"}`,
      );
    return { format: formatOf(at, named), components: [{ folder: "", file: WEIGHTS, weights: named, index: null }] };
  }
  if (tops.has(PIPELINE)) return { format: "safetensors", components: pipelineOf(at) };
  const names = namesIn(at, "");
  const component = componentOf(at, "", names);
  if (component !== null) return { format: "safetensors", components: [component] };
  const [adapter] = names.filter((name) => ADAPTER.test(name));
  if (adapter !== undefined)
    throw new HubError("invalid_field", {
      field: at.field,
      problem: `${labelOf(at)} is an adapter (${adapter}): name the model it was trained on${adapter === ADAPTER_WEIGHTS ? ", a + and the adapter" : ""}`,
    });
  for (const format of FORMATS) {
    const files = names.filter((name) => name.endsWith(`.${format}`));
    if (files.length > 0)
      return { format, components: [{ folder: "", file: WEIGHTS, weights: [only(at, "", files)], index: null }] };
  }
  throw missing(at, WEIGHTS, `publish the weights as safetensors, in one file or with an index; ${found(names)}`);
}

/** The files of a folder by name. */
function namesIn({ tops }: Rooted, folder: string): string[] {
  const paths = [...tops.keys()];
  return folder === ""
    ? paths.filter((path) => !path.includes("/"))
    : paths.filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1));
}

/** The safetensors weights of a folder: one file of a usual name, one with an index, or the only one; null where there are none. */
function componentOf(at: Rooted, folder: string, names: readonly string[]): Component | null {
  const path = (name: string): string => (folder === "" ? name : `${folder}/${name}`);
  const usual = SINGLE.find((name) => names.includes(name));
  const index = usual === undefined ? SINGLE.map(indexOf).find((name) => names.includes(name)) : undefined;
  if (index !== undefined)
    return { folder, file: index.slice(0, -INDEX_ENDING.length), weights: [], index: path(index) };
  const weights = names.filter((name) => name.endsWith(".safetensors") && !ADAPTER.test(name));
  if (weights.length === 0) return null;
  const name = usual ?? only(at, folder, weights);
  return { folder, file: isOutputName(name) ? name : WEIGHTS, weights: [path(name)], index: null };
}

const INDEX_ENDING = ".index.json";
const indexOf = (name: string): string => name + INDEX_ENDING;

function only(at: Rooted, folder: string, names: readonly string[]): string {
  const [name, ...more] = names;
  if (name === undefined || more.length > 0)
    throw new HubError("invalid_field", {
      field: at.field,
      problem: `${labelOf(at)} has ${names.length} files of weights${folder === "" ? "" : ` in ${folder}`}, and none of them is ${WEIGHTS} (${listed(names)}): publish the one to merge under that name, or in a repository of its own`,
    });
  return name;
}

/** The models of a pipeline: every folder that has weights. */
function pipelineOf(at: Rooted): Component[] {
  const folders = [...new Set([...at.tops.keys()].map(folderOf).filter((folder) => folder !== ""))];
  const components = folders.flatMap((folder) => {
    const names = namesIn(at, folder);
    const component = componentOf(at, folder, names);
    if (component === null && names.some((name) => name.endsWith(".bin")))
      throw missing(at, `${folder}/${WEIGHTS}`, `publish its weights as safetensors; ${found(names)}`);
    if (component !== null && !isOutputName(folder))
      throw new HubError("invalid_field", {
        field: at.field,
        problem: `${labelOf(at)} has weights in ${folder}: use letters, digits, dots, dashes and underscores, up to 80`,
      });
    return component ?? [];
  });
  if (components.length === 0)
    throw missing(at, `*/${WEIGHTS}`, `${PIPELINE} makes it a pipeline, whose weights are in folders`);
  return components;
}

export const listed = (names: readonly string[]): string =>
  [...names.slice(0, 5), ...(names.length > 5 ? [`${names.length - 5} more`] : [])].join(", ");

const found = (names: readonly string[]): string => `what is there: ${listed(names) || "nothing that is known"}`;

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

/** Weights of a repository that a merge of it as a whole leaves out: other variants, and checkpoints beside a pipeline. */
export function leftOut({ tops }: Parent, { reference, components }: Located, read: readonly StoredFile[]): string[] {
  const { weights: named } = reference;
  if (named !== undefined) return [];
  const folders = new Set(components.map(({ folder }) => folder));
  const paths = new Set(read.map(({ path }) => path));
  return [...tops.keys()].filter(
    (path) => isWeights(path) && !paths.has(path) && (folders.has(folderOf(path)) || tops.has(PIPELINE)),
  );
}

const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf("/")));

/** Of a pipeline: how its models are put together, and what their folders have besides weights. */
export function besideComponents({ tops }: Pick<Parent, "tops">): string[] {
  if (!tops.has(PIPELINE)) return [];
  const inFolders = [...tops.keys()].filter((path) => path.includes("/"));
  return [PIPELINE, ...inFolders.filter((path) => !isWeights(path) && !/\.(bin|index\.json)$/.test(path))];
}

async function withFiles(platform: Platform, rooted: readonly Rooted[], models: readonly Located[]): Promise<Parent[]> {
  const adapters = new Set(models.map(({ adapter }) => adapter));
  const wanted = rooted.flatMap((at, i) => {
    const weights = models
      .filter(({ parent }) => parent === i)
      .flatMap(({ components }) => components.flatMap((one) => [...one.weights, one.index ?? ""]));
    const own = [...SIDE_FILES, ...weights, ...besideComponents(at), ...(adapters.has(i) ? [ADAPTER_WEIGHTS] : [])];
    return [...new Set(own)].filter((path) => at.tops.has(path)).map((path) => ({ i, path, snapshot: at.snapshot }));
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
