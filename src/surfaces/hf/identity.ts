// Who am I, and is this model card's front matter valid.
import { Hono } from "hono";
import * as z from "zod";
import { requireUser } from "../../access/caller";
import { checkFrontMatter } from "../../hub/model-card";
import type { AppEnv } from "../app-env";
import { callerOf, jsonBody } from "./request";

export const identity = new Hono<AppEnv>()
  .get("/api/whoami-v2", (c) => {
    const user = requireUser(callerOf(c));
    return c.json({
      type: "user",
      id: user.id,
      name: user.name,
      fullname: user.name,
      emailVerified: false,
      isPro: false,
      canPay: false,
      avatarUrl: "",
      orgs: user.memberships.map((one) => ({
        type: "org",
        id: one.orgId,
        name: one.orgName,
        fullname: one.orgFullname,
        roleInOrg: one.role,
        isEnterprise: false,
        canPay: false,
        avatarUrl: "",
      })),
      auth: { type: "access_token", accessToken: { displayName: user.tokenName, role: user.scope } },
    });
  })
  // Answers JSON even when the card is wrong: the client parses it before it looks at the status.
  .post("/api/validate-yaml", async (c) => {
    const { content } = await jsonBody(c, z.object({ content: z.string(), repoType: z.string().optional() }));
    const errors = checkFrontMatter(content).map((message) => ({ message }));
    return c.json({ errors, warnings: [] }, errors.length === 0 ? 200 : 400);
  });
