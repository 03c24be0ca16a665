// Routes for merges: what a recipe comes to, before any work is asked for.
import { createRoute, z } from "@hono/zod-openapi";
import { type MergePreview, previewMerge } from "../../compute/merge/preview";
import { Output, RecipeText } from "../../compute/requests";
import { body, json, newRouter, problems } from "./router";

const Revision = z.object({ repo: z.string(), commit: z.string() });
const File = z.object({ path: z.string(), sha256: z.string(), size: z.int() });

const Model = Revision.extend({
  field: z.string().meta({ description: "Where the recipe names it first" }),
  label: z.string(),
  base: z.boolean().meta({ description: "Whether the recipe calls it the base model" }),
  format: z.string(),
  files: z.array(File),
  adapter: Revision.extend({ files: z.array(File) }).nullable(),
  architecture: z.string().nullable(),
  tensors: z.int(),
  parameters: z.int(),
  dtypes: z.array(z.string()),
  vocabulary_size: z.int().nullable(),
  tied_embeddings: z.boolean().nullable(),
  rope: z.record(z.string(), z.unknown()),
  tokenizer_sha256: z.string().nullable(),
  chat_template_sha256: z.string().nullable(),
  licence: z.string().nullable(),
  purposes: z.array(z.string()).meta({ description: "What the caller may use it for" }),
});

const MergePlanResource = z
  .object({
    ok: z.boolean().meta({ description: "Whether a job with this recipe would be accepted" }),
    recipe: z.unknown().meta({ description: "The canonical form" }),
    recipe_sha256: z.string(),
    findings: z
      .array(
        z.object({
          code: z.string(),
          severity: z.enum(["error", "warning", "note"]),
          field: z.string(),
          message: z.string(),
          fix: z.string().nullable(),
          tensor: z.string().optional(),
        }),
      )
      .meta({ description: "Errors first" }),
    models: z.array(Model),
    method: z
      .array(
        z.object({
          document: z.string().nullable().meta({ description: "Its name, where the recipe has several" }),
          name: z.string(),
          base: z
            .string()
            .meta({ description: "Whether the method takes a base model: required, optional, forbidden or endpoint" }),
          base_model: z.string().nullable(),
        }),
      )
      .meta({ description: "Of each document that merges" }),
    identical: z
      .object({ tensors: z.int(), bytes: z.int() })
      .meta({ description: "Known to be the same in all models, since they lie in a file that all of them have" }),
    output: z.object({
      repo: z.string().nullable(),
      branch: z.string().nullable(),
      creates: z
        .boolean()
        .nullable()
        .meta({ description: "Whether the repository is created; null where no output was named" }),
      private: z.boolean().nullable(),
      files: z.array(z.object({ path: z.string(), tensors: z.int(), bytes: z.int() })),
      exact: z.boolean().meta({ description: "False where only the merge itself can tell names or shapes" }),
      documents: z.array(z.string()).meta({ description: "What lies beside the weights" }),
      donor: z.string().nullable().meta({ description: "Whose configuration and tokenizer it has" }),
      tensors: z.int(),
      parameters: z.int(),
      licence: z.object({ id: z.string(), name: z.string().nullable(), link: z.string().nullable() }).nullable(),
    }),
    work: z.object({
      bytes_read: z.int(),
      bytes_written: z.int(),
      memory_bytes: z.int(),
      seconds: z.number(),
      seconds_from: z.string().meta({ description: "What the estimate rests on" }),
    }),
    determinism: z.enum(["exact", "tolerance"]),
    seed: z.int(),
  })
  .openapi("MergePlan");

const planRoute = createRoute({
  method: "post",
  path: "/merges/plan",
  tags: ["jobs"],
  summary: "Tell what a merge comes to, from headers alone",
  description:
    "Reads the recipe and the headers of its models, and writes nothing. A recipe that can be read and can't run answers 200 with `ok: false` and the findings; one that can't be read answers 422 with its place.",
  request: body(z.strictObject({ recipe: RecipeText, output: Output.optional() })),
  responses: { 200: json(MergePlanResource, "The plan"), ...problems },
});

export const merges = newRouter().openapi(planRoute, async (c) => {
  const { recipe, output } = c.req.valid("json");
  return c.json(resource(await previewMerge(c.var.caller, recipe, output)), 200);
});

function resource(preview: MergePreview): z.output<typeof MergePlanResource> {
  const { draft, destination, duration } = preview;
  const { compiled } = draft;
  const { totals } = compiled;
  return {
    ok: preview.ok,
    recipe: draft.canonical,
    recipe_sha256: preview.recipeSha256,
    findings: [...draft.findings],
    models: preview.models.map(({ files, ...model }) => ({ ...model, files: [...files] })),
    method: [...preview.methods],
    identical: draft.identical,
    output: {
      repo: destination?.repo ?? null,
      branch: destination?.branch ?? null,
      creates: destination?.creates ?? null,
      private: destination?.private ?? null,
      files: [...compiled.files],
      exact: compiled.filesExact,
      documents: [...preview.documents],
      donor: draft.donor?.facts.label ?? null,
      tensors: totals.tensors,
      parameters: totals.parameters,
      licence: draft.licence,
    },
    work: {
      bytes_read: totals.bytesRead,
      bytes_written: totals.bytesWritten,
      memory_bytes: totals.memoryBytes,
      seconds: duration.seconds,
      seconds_from:
        duration.merges === 0
          ? `an assumed rate of ${duration.bytesPerSecond} bytes a second: this hub has merged nothing large yet`
          : `the last ${duration.merges} merges of this hub: ${Math.round(duration.bytesPerSecond)} bytes a second`,
    },
    determinism: compiled.determinism,
    seed: compiled.program?.seed ?? 0,
  };
}
