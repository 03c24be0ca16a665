// The audit trail, read by those who may.
import { createRoute, z } from "@hono/zod-openapi";
import { authorize, type Caller, may, requireUser } from "../../access/caller";
import { readTrail } from "../../events/trail";
import { findAccount } from "../../hub/accounts";
import { parseAccountName } from "../../ids";
import { isoTime, json, newRouter, Paging, problems } from "./router";

const Event = z
  .object({
    specversion: z.literal("1.0"),
    seq: z.int().meta({ description: "Place in the trail" }),
    id: z.string(),
    type: z.string(),
    source: z.string(),
    subject: z.string(),
    time: z.iso.datetime(),
    actor: z.string(),
    action: z.string(),
    purpose: z.string().nullable(),
    decision: z.enum(["allow", "deny"]),
    reason: z.string().nullable(),
    request_id: z.string(),
    data: z.unknown(),
  })
  .openapi("AuditEvent");

const auditRoute = createRoute({
  method: "get",
  path: "/audit",
  tags: ["audit"],
  summary: "Events of the audit trail, newest first",
  description:
    "The hub's administrators see every event; others those of the namespaces that they administer. Each event has the fields of CloudEvents 1.0, and who did what, for which purpose, with which decision.",
  request: {
    query: Paging.extend({
      namespace: z.string().optional(),
      actor: z.string().max(200).optional().meta({ description: "`user:name`, `job:id`, `hub`, `anonymous`" }),
      type: z.string().max(200).optional(),
      subject: z
        .string()
        .max(400)
        .optional()
        .meta({ description: "`model:owner/name`, `dataset:owner/name`, `job:id`, `account:name`" }),
    }),
  },
  responses: { 200: json(z.object({ events: z.array(Event), next: z.string().nullable() }), "A page"), ...problems },
});

/** The namespaces whose events the caller may see. */
async function scopes(caller: Caller, namespace: string | undefined): Promise<readonly string[] | "all"> {
  const user = requireUser(caller);
  if (namespace !== undefined) {
    const account = await findAccount(caller.platform, parseAccountName(namespace, "namespace"));
    authorize(
      caller,
      { action: "audit.read", scope: { ownerId: account.id } },
      { subject: `account:${account.name}`, scopeId: account.id },
    );
    return [account.id];
  }
  if (may(caller, { action: "audit.read", scope: "hub" })) return "all";
  const mine = [user.id, ...user.memberships.map((one) => one.orgId)];
  return mine.filter((ownerId) => may(caller, { action: "audit.read", scope: { ownerId } }));
}

export const audit = newRouter().openapi(auditRoute, async (c) => {
  const { namespace, actor, type, subject, cursor, limit } = c.req.valid("query");
  const { caller } = c.var;
  const rows = await readTrail(caller.platform.db, {
    scopeIds: await scopes(caller, namespace),
    ...(actor === undefined ? {} : { actor }),
    ...(type === undefined ? {} : { type }),
    ...(subject === undefined ? {} : { subject }),
    ...(cursor === undefined ? {} : { before: z.coerce.number().int().catch(0).parse(cursor) }),
    limit,
  });
  const events = rows.map(({ scopeId: _, requestId, time, data, ...row }) => ({
    ...row,
    specversion: "1.0" as const,
    time: isoTime(time),
    request_id: requestId,
    data: data ?? null,
  }));
  const last = rows.at(-1);
  return c.json({ events, next: rows.length === limit && last !== undefined ? String(last.seq) : null }, 200);
});
