// The alignment step of a merge: which model the others' hidden units are fitted to, and whether the given groups fit the models.
import { quote } from "../text";
import { isVocabulary } from "./architecture";
import { type Builder, type Model, shapeText, tensorText } from "./builder";
import { countOf } from "./layout";
import type { Program } from "./program";
import type { Align, MergeDocument } from "./recipe";
import type { ModelRef } from "./references";

type Find = (ref: ModelRef, field: string) => Model | null;
type Spec = NonNullable<Align["spec"]>;

/** Units of a group that the service still matches. */
const MAX_UNITS = 16_384;

export function alignOf(
  { align }: MergeDocument,
  find: Find,
  builder: Builder,
  donor: Model,
): NonNullable<Program["align"]> {
  const reference = (align?.reference == null ? donor : find(align.reference, "align.reference")) ?? donor;
  const index = builder.source(reference);
  if (align?.spec == null) return { reference: index };
  // The others have the same shapes, or can't be merged. Where only the service knows the tensors, it is the one to check.
  if (reference.tensors.size > 0) checkSpec(align.spec, reference, builder);
  return { reference: index, spec: Object.fromEntries([...align.spec].map(([name, axes]) => [name, [...axes]])) };
}

type Group = { readonly units: number; readonly tensor: string; readonly shared: boolean };

function checkSpec(spec: Spec, { label, tensors }: Model, builder: Builder): void {
  const refuse = (code: string, tensor: string, message: string, fix: string): void =>
    builder.problems.add({ code, field: `align.spec.${tensor}`, message, fix, tensor });
  const groups = new Map<string, Group>();
  for (const [tensor, axes] of spec) {
    const shape = tensors.get(tensor)?.shape;
    if (shape?.length !== axes.length) {
      refuse(
        "align_tensor",
        tensor,
        shape === undefined ? `${label} has no such tensor` : `the tensor is ${shapeText(shape)} in ${label}`,
        "name a group or null for each axis of a tensor that all models have",
      );
      continue;
    }
    const seen = new Set<string>();
    for (const [i, axis] of axes.entries()) {
      if (axis === null) continue;
      const [group = "", block = "1"] = axis.split("*");
      const units = (shape[i] ?? 0) / Number(block);
      const known = groups.get(group);
      const problem = unitsProblem(units, known) ?? (seen.has(group) ? "it stands on two axes of the tensor" : null);
      if (problem !== null)
        refuse(
          "align_units",
          tensor,
          `group ${quote(group)} does not fit axis ${i} of ${shape[i]} in ${label}: ${problem}`,
          "give axes that number the same units one group, with *n where a unit has n indices",
        );
      groups.set(group, known === undefined ? { units, tensor, shared: false } : { ...known, shared: true });
      seen.add(group);
    }
  }
  for (const [group, { tensor, shared }] of groups)
    if (!shared)
      refuse(
        "align_lone",
        tensor,
        `group ${quote(group)} stands in no other tensor, so permuting it would change what the model computes`,
        "name the group in every tensor that has these units",
      );
}

function unitsProblem(units: number, known: Group | undefined): string | null {
  if (!Number.isInteger(units) || units === 0) return "an axis has whole units";
  if (units > MAX_UNITS) return `at most ${MAX_UNITS} units are matched`;
  if (known === undefined || known.units === units) return null;
  return `it has ${known.units} units in ${tensorText(known.tensor)}`;
}

/** What matching holds at most: two tensors and copies of them, and a float64 matrix of units × units. */
export function matchingBytes(builder: Builder): number {
  let [units, elements] = [0, 0];
  for (const { tensors } of builder.models)
    for (const [name, { shape }] of tensors) {
      if (shape.length < 2 || isVocabulary(name)) continue;
      units = Math.max(units, ...shape);
      elements = Math.max(elements, countOf(shape));
    }
  return 8 * Math.min(units, MAX_UNITS) ** 2 + 4 * 4 * elements;
}
