// Webhooks as the Hugging Face clients keep them: each user their own.
import { Hono } from "hono";
import * as z from "zod";
import {
  changeWebhook,
  createWebhook,
  type Domain,
  deleteWebhook,
  findWebhook,
  listWebhooks,
  type Webhook,
} from "../../events/webhooks";
import type { AppEnv } from "../app-env";
import { callerOf, jsonBody } from "./request";

const MAX_WATCHED = 100;

const Name = z.string().min(1).max(200);
const Watched = z
  .array(
    z.discriminatedUnion(
      "type",
      [
        z.object({ type: z.enum(["user", "org"]), name: Name.regex(/^[^/]+$/, "must be the name of an account") }),
        z.object({ type: z.enum(["model", "dataset"]), name: Name.regex(/^[^/]+\/[^/]+$/, "must be owner/name") }),
      ],
      "must be a user, org, model or dataset: nothing else is served by this hub",
    ),
  )
  .max(MAX_WATCHED);
/** Clients name the second one in two ways. */
const Domains = z
  .array(z.enum(["repo", "discussion", "discussions"]))
  .min(1)
  .transform((domains): Domain[] => [...new Set(domains.map((one) => (one === "repo" ? "repo" : "discussion")))]);
/** It travels in a header. */
const Secret = z
  .string()
  .max(200)
  .regex(/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/, "must be printable ASCII, without spaces around it");
const NoJob = z.null("webhooks that start jobs are not served by this hub: give a url").optional();

const NewWebhook = z.object({
  jobSourceId: NoJob,
  secrets: NoJob,
  url: z.string("is missing: give the address to send to"),
  watched: Watched.min(1, "must name what to watch"),
  domains: Domains.default(["repo", "discussion"]),
  secret: Secret.nullish(),
});
const Change = z.object({
  url: z.string().optional(),
  // Clients send an empty list where the caller named nothing.
  watched: Watched.optional(),
  domains: Domains.optional(),
  secret: Secret.nullable().optional(),
  jobSourceId: NoJob,
  secrets: NoJob,
});

const resource = ({ id, url, watched, domains, secret, disabled }: Webhook) => ({
  id,
  url,
  watched,
  domains,
  disabled,
  ...(secret === null ? {} : { secret }),
});
const AT = "/api/settings/webhooks";

export const webhooks = new Hono<AppEnv>()
  .get(AT, async (c) => c.json((await listWebhooks(callerOf(c))).map(resource)))
  .post(AT, async (c) => {
    const { url, watched, domains, secret } = await jsonBody(c, NewWebhook);
    const webhook = await createWebhook(callerOf(c), { url, watched, domains, secret: secret ?? null });
    return c.json({ webhook: resource(webhook) });
  })
  .get(`${AT}/:id`, async (c) => c.json({ webhook: resource(await findWebhook(callerOf(c), c.req.param("id"))) }))
  .post(`${AT}/:id`, async (c) => {
    const { url, watched, domains, secret } = await jsonBody(c, Change);
    const webhook = await changeWebhook(callerOf(c), c.req.param("id"), {
      ...(url === undefined ? {} : { url }),
      ...(watched === undefined || watched.length === 0 ? {} : { watched }),
      ...(domains === undefined ? {} : { domains }),
      ...(secret === undefined ? {} : { secret }),
    });
    return c.json({ webhook: resource(webhook) });
  })
  .post(`${AT}/:id/enable`, async (c) => {
    const webhook = await changeWebhook(callerOf(c), c.req.param("id"), { disabled: false });
    return c.json({ webhook: resource(webhook) });
  })
  .post(`${AT}/:id/disable`, async (c) => {
    const webhook = await changeWebhook(callerOf(c), c.req.param("id"), { disabled: true });
    return c.json({ webhook: resource(webhook) });
  })
  .delete(`${AT}/:id`, async (c) => {
    await deleteWebhook(callerOf(c), c.req.param("id"));
    return c.json({});
  });
