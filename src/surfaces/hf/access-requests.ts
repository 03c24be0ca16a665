// Access to gated repositories: asking for it, as the web route of the ecosystem's hub does, and deciding over requests.
import { Hono } from "hono";
import * as z from "zod";
import {
  type AccessRequest,
  askForAccess,
  cancelAccess,
  decideAccess,
  grantAccess,
  listAccessRequests,
} from "../../hub/access-requests";
import type { Answers } from "../../hub/gate-form";
import { findRepo, findSnapshot } from "../../hub/repositories";
import { parseAccountName, parseRevision, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import {
  API_TYPES,
  type Ctx,
  callerOf,
  checked,
  decodeCursor,
  formBody,
  jsonBody,
  limitOf,
  paged,
  readJson,
  repoIdOf,
  WEB_PREFIX,
} from "./request";

const PAGE = 100;

const AnswersBody = z.record(z.string().max(500), z.union([z.string(), z.boolean(), z.number()]).transform(String));

/** A form as pages send it, JSON, or nothing where the card asks nothing. */
async function answersOf(c: Ctx): Promise<Answers> {
  const type = c.req.header("content-type") ?? "";
  if (type.includes("form")) return checked(AnswersBody, Object.fromEntries(await formBody(c)));
  return c.req.raw.body === null || c.req.header("content-length") === "0"
    ? {}
    : checked(AnswersBody, await readJson(c));
}

async function ask(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const main = await findSnapshot(caller, repoIdOf(c, type), parseRevision("main"));
  const country = c.req.header("cf-ipcountry") ?? null;
  return c.json({ status: await askForAccess(caller, main, { answers: await answersOf(c), country }) });
}

async function cancel(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  await cancelAccess(caller, await findRepo(caller, repoIdOf(c, type)));
  return c.json({});
}

const requestJson = ({ id, user, fullname, email, status, fields, createdAt }: AccessRequest) => ({
  requestId: id,
  user: { _id: id, user, fullname, type: "user", avatarUrl: "", ...(email === null ? {} : { email }) },
  status,
  timestamp: new Date(createdAt).toISOString(),
  ...(fields === null || Object.keys(fields).length === 0 ? {} : { fields }),
});

const Cursor = z.object({ createdAt: z.number(), id: z.string() });

async function listing(c: Ctx, type: RepoType, status: AccessRequest["status"]) {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const limit = limitOf(c, PAGE);
  const cursor = c.req.query("cursor");
  const before = cursor === undefined ? undefined : decodeCursor(Cursor, cursor);
  const requests = await listAccessRequests(caller, repo, { status, before, limit: limit + 1 });
  return c.json(paged(c, requests, limit, ({ createdAt, id }) => ({ createdAt, id })).map(requestJson));
}

const UserName = z.string().transform((text) => parseAccountName(text, "user"));
const Decided = z
  .object({
    user: UserName.optional(),
    requestId: z.string().max(100).optional(),
    status: z.enum(["pending", "accepted", "rejected"]),
    rejectionReason: z.string().max(2000).nullish(),
  })
  .refine((body) => (body.user === undefined) !== (body.requestId === undefined), {
    path: ["user"],
    error: "name the request by user or by requestId, one of them",
  });

async function handle(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const { user, requestId = "", status, rejectionReason } = await jsonBody(c, Decided);
  await decideAccess(caller, repo, user === undefined ? { requestId } : { user }, {
    status,
    reason: rejectionReason ?? undefined,
  });
  return c.json({});
}

async function grant(c: Ctx, type: RepoType) {
  const caller = callerOf(c);
  const repo = await findRepo(caller, repoIdOf(c, type));
  const { user } = await jsonBody(c, z.object({ user: UserName }));
  await grantAccess(caller, repo, user);
  return c.json({});
}

export const accessRequests = new Hono<AppEnv>();
for (const [segment, type] of Object.entries(API_TYPES)) {
  const one = `/api/${segment}/:owner/:name/user-access-request`;
  for (const status of ["pending", "accepted", "rejected"] as const)
    accessRequests.get(`${one}/${status}`, (c) => listing(c, type, status));
  accessRequests.post(`${one}/handle`, (c) => handle(c, type));
  accessRequests.post(`${one}/grant`, (c) => grant(c, type));
  accessRequests.post(`${one}/cancel`, (c) => cancel(c, type));
  const web = `/${WEB_PREFIX[type]}:owner/:name/ask-access`;
  accessRequests.post(web, (c) => ask(c, type));
  accessRequests.delete(web, (c) => cancel(c, type));
}
