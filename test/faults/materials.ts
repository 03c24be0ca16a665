// The models and the data set of the scenarios, the same in every run.
import { fileLine, type HubClient, lfsLine } from "./client";

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A safetensors file of F32 tensors with seeded values. */
export function safetensors(shapes: Readonly<Record<string, readonly number[]>>, seed: number): Uint8Array {
  const random = seeded(seed);
  let offset = 0;
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const begin = offset;
    offset += shape.reduce((product, side) => product * side, 4);
    return [name, { dtype: "F32", shape, data_offsets: [begin, offset] }];
  });
  const text = JSON.stringify(Object.fromEntries(tensors));
  const header = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 8) * 8));
  const bytes = new Uint8Array(8 + header.length + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  const values = new Float32Array(bytes.buffer, 8 + header.length);
  for (let i = 0; i < values.length; i++) values[i] = random() - 0.5;
  return bytes;
}

/** Three parts of an upload. */
export const LARGE = { "layers.0.weight": [512, 1024], "layers.1.weight": [512, 1024], "layers.2.weight": [512, 512] };
export const PART_BYTES = 2 * 1024 * 1024;

const CLASSIFIER = {
  architectures: ["OwmMLP"],
  model_type: "owm_mlp",
  input_size: 2,
  hidden_sizes: [8],
  num_labels: 2,
  activation: "relu",
};
const CLASSIFIER_SHAPES = {
  "layers.0.bias": [8],
  "layers.0.weight": [8, 2],
  "layers.1.bias": [2],
  "layers.1.weight": [2, 8],
};

const TASK = {
  task: "halves",
  version: "1.0",
  kind: "classification",
  modality: "tabular",
  target: "label",
  id: "id",
  features: ["x", "y"],
  classes: ["0", "1"],
  splits: { train: "data/train.csv", test: "data/test.csv" },
};

function csv(rows: number, seed: number): string {
  const random = seeded(seed);
  const lines = Array.from({ length: rows }, (_, i) => {
    const [x, y] = [random(), random()];
    return `${i},${x.toFixed(6)},${y.toFixed(6)},${x + y > 1 ? 1 : 0}`;
  });
  return `${["id,x,y,label", ...lines].join("\n")}\n`;
}

export const MODEL_A = "faults/a";
export const MODEL_B = "faults/b";
export const MODEL_SMALL = "faults/small";
export const DATA = "faults/halves";

/** Two parents of a merge, a classifier and its data. */
export async function publishMaterials(client: HubClient): Promise<void> {
  await client.call("POST", "/api/v1/organizations", { name: "faults" });
  for (const [repo, shapes, seed] of [
    [MODEL_A, LARGE, 1],
    [MODEL_B, LARGE, 2],
    [MODEL_SMALL, CLASSIFIER_SHAPES, 3],
  ] as const) {
    const bytes = safetensors(shapes, seed);
    await client.createRepo(repo);
    await client.upload(repo, bytes);
    await client.commit(repo, [
      fileLine("config.json", JSON.stringify(CLASSIFIER)),
      lfsLine("model.safetensors", bytes),
    ]);
  }
  await client.createRepo(DATA, "dataset");
  const files = [
    fileLine("task.json", JSON.stringify(TASK)),
    fileLine("data/train.csv", csv(256, 4)),
    fileLine("data/test.csv", csv(128, 5)),
  ];
  await client.commit(DATA, files, "datasets");
}

export const merge = (lambda: number, repo: string) => ({
  kind: "merge",
  method: "linear",
  a: MODEL_A,
  b: MODEL_B,
  lambda,
  output: { repo },
});

export const evaluate = (seed: number) => ({
  kind: "evaluate",
  model: MODEL_SMALL,
  dataset: DATA,
  split: "test",
  seed,
});

/** Runs for some seconds and tells of every epoch. */
export const train = (seed: number, repo: string) => ({
  kind: "train",
  dataset: DATA,
  split: "train",
  architecture: CLASSIFIER,
  optimizer: { name: "sgd", lr: 0.1 },
  epochs: 1500,
  batch_size: 256,
  seed,
  output: { repo },
});
