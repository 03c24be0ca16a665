// The value of a parameter for one tensor: which scope counts, which filter fits, where on a gradient the tensor's layer lies.
import type { Method } from "./methods";
import type { Parameters } from "./recipe";

/** What a model brings to one tensor: its own parameters, and what it calls the tensor. */
export type Operand = { readonly parameters: Parameters; readonly name: string };

export type Resolved = {
  readonly values: Readonly<Record<string, number>>;
  readonly each: Readonly<Record<string, readonly number[]>>;
};

/** A parameter that has neither a value for the tensor nor a default; `model` is an index where each model needs one. */
export type Unset = { readonly parameter: string; readonly model: number | null };

/**
 * Where layer `index` of `count` lies on a gradient. A lone layer lies at its end; tensors outside all layers, the
 * output's head too, at its start.
 */
export const positionOnGradient = (index: number | null, count: number): number =>
  index === null ? 0 : count === 1 ? 1 : index / (count - 1);

/** Between the two nearest of the evenly spread points. */
export function onGradient(points: readonly number[], t: number): number {
  const at = t * (points.length - 1);
  const below = Math.floor(at);
  const low = points[below] ?? 0;
  const high = points[Math.min(below + 1, points.length - 1)] ?? low;
  return (1 - (at - below)) * low + (at - below) * high;
}

/** The first scope with a rule for the tensor counts, and in it the first rule that fits. */
export function lookUp(scopes: readonly Parameters[], parameter: string, tensor: string, t: number): number | null {
  for (const scope of scopes) {
    const rule = scope.get(parameter)?.find(({ filter }) => filter === null || tensor.includes(filter));
    if (rule !== undefined) return onGradient(rule.values, t);
  }
  return null;
}

/**
 * Every parameter of the method. One for the merge is looked up under the name of the output's tensor, one of a model
 * under the model's own name for it, first among the model's own parameters. `scopes`: slice, module, recipe.
 */
export function resolveSettings(
  method: Method,
  tensor: string,
  t: number,
  scopes: readonly Parameters[],
  operands: readonly Operand[],
): Resolved | Unset {
  const values: Record<string, number> = {};
  const each: Record<string, number[]> = {};
  for (const parameter of method.parameters) {
    const { name } = parameter;
    // One for the merge is the same for every model.
    const asked = parameter.each ? operands : operands.slice(0, 1);
    const found = asked.map(
      (operand) =>
        (parameter.each
          ? lookUp([operand.parameters, ...scopes], name, operand.name, t)
          : lookUp(scopes, name, tensor, t)) ?? parameter.default,
    );
    const lacking = found.indexOf(null);
    if (lacking >= 0) return { parameter: name, model: parameter.each ? lacking : null };
    const numbers = found.map((value) => value ?? 0);
    if (parameter.each) each[name] = numbers;
    else values[name] = numbers[0] ?? 0;
  }
  return { values, each };
}
