// Routes for users, organizations, members and tokens.
import { createRoute, z } from "@hono/zod-openapi";
import { tokenOf } from "../../access/tokens";
import { HubError } from "../../errors";
import {
  bootstrap,
  createOrganization,
  createToken,
  createUser,
  listTokens,
  revokeToken,
  setMember,
} from "../../hub/accounts";
import { parseAccountName } from "../../ids";
import { sameSecret } from "../../platform/signing";
import { body, isoTime, json, newRouter, problems } from "./router";

const Scope = z.enum(["read", "write", "admin"]);
const Name = z.string().min(1).max(96);
const NewAccount = z.strictObject({
  name: Name,
  fullname: z.string().min(1).max(200).optional(),
  email: z.email().optional(),
});
const Account = z.object({ id: z.string(), name: z.string() }).openapi("Account");
const NewToken = z.strictObject({
  name: z.string().min(1).max(100),
  scope: Scope,
  days: z.int().min(1).optional().meta({ description: "Until it expires" }),
});
const Token = z
  .object({ id: z.string(), token: z.string().meta({ description: "Shown once" }), expires_at: z.iso.datetime() })
  .openapi("Token");

const tags = ["identities"];
const DAY_MS = 86_400_000;

const bootstrapRoute = createRoute({
  method: "post",
  path: "/bootstrap",
  tags,
  summary: "Create the administrator of a new hub",
  description:
    "The bearer is the hub's own secret, OWM_SECRET. With `rotate`, a fresh token for the administrator that exists.",
  request: body(z.strictObject({ user: Name, rotate: z.boolean().default(false) })),
  responses: {
    201: json(z.object({ user: z.string(), token: z.string() }), "The administrator and a token"),
    ...problems,
  },
});

const createUserRoute = createRoute({
  method: "post",
  path: "/users",
  tags,
  summary: "Create a user",
  request: body(NewAccount),
  responses: { 201: json(Account, "The user"), ...problems },
});

const createOrganizationRoute = createRoute({
  method: "post",
  path: "/organizations",
  tags,
  summary: "Create an organization, with the caller as its first admin",
  request: body(NewAccount),
  responses: { 201: json(Account, "The organization"), ...problems },
});

const memberParams = z.object({ org: Name, user: Name });

const setMemberRoute = createRoute({
  method: "put",
  path: "/organizations/{org}/members/{user}",
  tags,
  summary: "Make a user a member, or change a member's role",
  request: { params: memberParams, ...body(z.strictObject({ role: Scope })) },
  responses: { 204: { description: "Done" }, ...problems },
});

const removeMemberRoute = createRoute({
  method: "delete",
  path: "/organizations/{org}/members/{user}",
  tags,
  summary: "Remove a member",
  request: { params: memberParams },
  responses: { 204: { description: "Done" }, ...problems },
});

const createTokenRoute = createRoute({
  method: "post",
  path: "/tokens",
  tags,
  summary: "Create a token for the caller",
  request: body(NewToken),
  responses: { 201: json(Token, "The token"), ...problems },
});

const TokenInfo = z
  .object({
    id: z.string(),
    name: z.string(),
    scope: Scope,
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime(),
    last_used: z.iso.date().nullable().meta({ description: "A day; null where it was never used" }),
  })
  .openapi("TokenInfo");

const listTokensRoute = createRoute({
  method: "get",
  path: "/tokens",
  tags,
  summary: "The caller's tokens",
  responses: { 200: json(z.object({ tokens: z.array(TokenInfo) }), "Newest first"), ...problems },
});

const revokeTokenRoute = createRoute({
  method: "delete",
  path: "/tokens/{id}",
  tags,
  summary: "Revoke a token of the caller's: it opens nothing from the next request on",
  request: { params: z.object({ id: z.string().max(60) }) },
  responses: { 204: { description: "Done" }, ...problems },
});

const createTokenForRoute = createRoute({
  method: "post",
  path: "/users/{user}/tokens",
  tags,
  summary: "Create a token for another user",
  request: { params: z.object({ user: Name }), ...body(NewToken) },
  responses: { 201: json(Token, "The token"), ...problems },
});

type Minted = Awaited<ReturnType<typeof createToken>>;
const tokenResource = ({ id, token, expiresAt }: Minted) => ({ id, token, expires_at: isoTime(expiresAt) });

export const identities = newRouter()
  .openapi(bootstrapRoute, async (c) => {
    const { platform } = c.var.caller;
    const secret = tokenOf(c.req.header("authorization") ?? "");
    if (secret === null || !sameSecret(platform.config.secret, secret)) throw new HubError("invalid_credentials");
    const { user, rotate } = c.req.valid("json");
    return c.json(await bootstrap(platform, parseAccountName(user, "user"), rotate), 201);
  })
  .openapi(createUserRoute, async (c) => {
    const { name, ...rest } = c.req.valid("json");
    const user = await createUser(c.var.caller, { ...present(rest), name: parseAccountName(name, "name") });
    return c.json({ id: user.id, name: user.name }, 201);
  })
  .openapi(createOrganizationRoute, async (c) => {
    const { name, ...rest } = c.req.valid("json");
    const org = await createOrganization(c.var.caller, { ...present(rest), name: parseAccountName(name, "name") });
    return c.json({ id: org.id, name: org.name }, 201);
  })
  .openapi(setMemberRoute, async (c) => {
    const { org, user } = c.req.valid("param");
    await setMember(
      c.var.caller,
      parseAccountName(org, "org"),
      parseAccountName(user, "user"),
      c.req.valid("json").role,
    );
    return c.body(null, 204);
  })
  .openapi(removeMemberRoute, async (c) => {
    const { org, user } = c.req.valid("param");
    await setMember(c.var.caller, parseAccountName(org, "org"), parseAccountName(user, "user"), null);
    return c.body(null, 204);
  })
  .openapi(createTokenRoute, async (c) =>
    c.json(tokenResource(await createToken(c.var.caller, tokenRequest(c.req.valid("json")))), 201),
  )
  .openapi(listTokensRoute, async (c) => {
    const rows = await listTokens(c.var.caller);
    const listed = rows.map(({ createdAt, expiresAt, lastUsedDay, ...row }) => ({
      ...row,
      created_at: isoTime(createdAt),
      expires_at: isoTime(expiresAt),
      last_used: lastUsedDay === null ? null : isoTime(lastUsedDay * DAY_MS).slice(0, 10),
    }));
    return c.json({ tokens: listed }, 200);
  })
  .openapi(revokeTokenRoute, async (c) => {
    await revokeToken(c.var.caller, c.req.valid("param").id);
    return c.body(null, 204);
  })
  .openapi(createTokenForRoute, async (c) => {
    const user = parseAccountName(c.req.valid("param").user, "user");
    return c.json(tokenResource(await createToken(c.var.caller, tokenRequest(c.req.valid("json")), user)), 201);
  });

const tokenRequest = ({ days, ...rest }: z.output<typeof NewToken>) => (days === undefined ? rest : { ...rest, days });

/** Without the members that were not sent, which are not the same as members sent empty. */
function present(fields: { fullname?: string | undefined; email?: string | undefined }): {
  fullname?: string;
  email?: string;
} {
  const { fullname, email } = fields;
  return { ...(fullname === undefined ? {} : { fullname }), ...(email === undefined ? {} : { email }) };
}
