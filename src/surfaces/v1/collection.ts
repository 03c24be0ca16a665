// Garbage collection, for the hub's administrators: what would go, and one step of it at once.
import { createRoute, z } from "@hono/zod-openapi";
import { readCollection, runCollection } from "../../hub/collect";
import { isoTime, json, newRouter, problems } from "./router";

const tags = ["storage"];
const Count = z.int().min(0);
const Due = z.iso.datetime().nullable().meta({ description: "When the first of them goes; null where there is none" });

const Report = z
  .object({
    idle: z.array(
      z.object({
        kind: z.enum(["holdings", "contents", "files", "xorbs"]),
        rows: Count.meta({ description: "Rows that nothing names" }),
        bytes: Count.meta({ description: "Stored bytes that go with them" }),
        due_rows: Count.meta({ description: "Rows that a step would take away now" }),
        due_bytes: Count,
        next_due_at: Due,
      }),
    ),
    objects: z.object({
      staged: Count.meta({ description: "Written, or being written, and not named yet" }),
      condemned: Count.meta({ description: "Named by nothing any more, readable for a while" }),
      due: Count.meta({ description: "Condemned long enough to be deleted now" }),
      next_due_at: Due,
    }),
  })
  .openapi("CollectionReport");

const Step = z
  .object({
    more: z.boolean().meta({ description: "Whether another step would find work now" }),
    marked: Count.meta({ description: "Rows found to be idle" }),
    removed: z.object({ holdings: Count, contents: Count, files: Count, xorbs: Count, uploads: Count }),
    condemned_objects: Count.meta({ description: "Objects that were staged, or lay in the bucket, for nothing" }),
    deleted_objects: Count,
  })
  .openapi("CollectionStep");

const reportRoute = createRoute({
  method: "get",
  path: "/collection",
  tags,
  summary: "What garbage collection would take away",
  description: "Changes nothing. For the hub's administrators.",
  responses: { 200: json(Report, "Idle rows and condemned objects"), ...problems },
});

const stepRoute = createRoute({
  method: "post",
  path: "/collection",
  tags,
  summary: "Run one step of garbage collection now",
  description:
    "The same bounded step that the clock runs. Nothing goes before its grace is over. For the hub's administrators.",
  responses: { 200: json(Step, "What the step did"), ...problems },
});

const timeOrNull = (ms: number | null): string | null => (ms === null ? null : isoTime(ms));

export const collection = newRouter()
  .openapi(reportRoute, async (c) => {
    const { idle, objects } = await readCollection(c.var.caller);
    const { nextDueAt, ...counts } = objects;
    return c.json(
      {
        idle: idle.map(({ kind, rows, bytes, dueRows, dueBytes, nextDueAt: due }) => ({
          kind,
          rows,
          bytes,
          due_rows: dueRows,
          due_bytes: dueBytes,
          next_due_at: timeOrNull(due),
        })),
        objects: { ...counts, next_due_at: timeOrNull(nextDueAt) },
      },
      200,
    );
  })
  .openapi(stepRoute, async (c) => {
    const { more, collected } = await runCollection(c.var.caller);
    const { marked, holdings, contents, files, xorbs, uploads, condemned, deleted } = collected;
    return c.json(
      {
        more,
        marked,
        removed: { holdings, contents, files, xorbs, uploads },
        condemned_objects: condemned,
        deleted_objects: deleted,
      },
      200,
    );
  });
