// The merge methods as the service's registry describes them: `gpu-service/methods.json`, which `npm run methods` writes.
import * as z from "zod";
import table from "../../../gpu-service/methods.json";

const Parameter = z.strictObject({
  name: z.string(),
  kind: z.enum(["float", "int", "bool"]),
  /** One value a model, not one for the merge. */
  each: z.boolean(),
  /** Null: required. */
  default: z.number().nullable(),
  minimum: z.number().nullable(),
  maximum: z.number().nullable(),
  note: z.string(),
});

const Method = z.strictObject({
  name: z.string(),
  summary: z.string(),
  reference: z.string(),
  /** `endpoint`: the base is one of the models that are mixed; `forbidden`: a base model is a model like the others. */
  base: z.enum(["required", "optional", "forbidden", "endpoint"]),
  /** How many models besides the base. */
  least: z.int(),
  most: z.int().nullable(),
  deltas: z.boolean(),
  determinism: z.enum(["exact", "tolerance"]),
  /** Whether whole tensors are held in memory. */
  matrix: z.boolean(),
  parameters: z.array(Parameter),
});

export type Method = Readonly<z.output<typeof Method>>;
export type Parameter = Readonly<z.output<typeof Parameter>>;

const METHODS: ReadonlyMap<string, Method> = new Map(
  z
    .array(Method)
    .parse(table)
    .map((method) => [method.name, method]),
);

/** Steps of other kinds of document, which no recipe names. */
const STEPS = new Set(["lora_a", "lora_b", "moe_gate"]);

export const findMethod = (name: string): Method | undefined => METHODS.get(name);

/** Those that a recipe may name, sorted. */
export const mergeMethods = (): readonly Method[] => [...METHODS.values()].filter(({ name }) => !STEPS.has(name));

/** Parameters that mergekit takes and that never change a result. */
export function isWithoutEffect(method: Method, parameter: string): boolean {
  if (parameter === "int8_mask") return method.deltas && method.base === "required";
  return method.name === "task_arithmetic" && (parameter === "density" || parameter === "rescale");
}

/** Methods that keep the int(density · n) largest of n elements: with none kept there is nothing to merge. */
const BY_MAGNITUDE = new Set(["ties", "ties_paper", "breadcrumbs", "breadcrumbs_ties"]);
/** Methods that divide by the density. */
const DIVIDING = new Set(["dare_paper_linear", "dare_paper_ties"]);

/** Whether a density leaves nothing of a tensor of so many elements that the method could go on with. */
export const keepsNothing = (method: Method, density: number, count: number): boolean =>
  (BY_MAGNITUDE.has(method.name) && count > 0 && Math.floor(density * count) < 1) ||
  (DIVIDING.has(method.name) && density <= 0);
