// Who am I, and is this model card's front matter valid.
import { Hono } from "hono";
import * as z from "zod";
import { requireUser } from "../../access/caller";
import { checkCard } from "../../formats/card/validate";
import type { CardProblem } from "../../formats/card/yaml";
import { ownProfile } from "../../hub/accounts";
import type { AppEnv } from "../app-env";
import { avatarUrl } from "./accounts";
import { callerOf, jsonBody } from "./request";

const CardBody = z.object({ content: z.string(), repoType: z.string().nullish() });

export const identity = new Hono<AppEnv>()
  .get("/api/whoami-v2", async (c) => {
    const user = requireUser(callerOf(c));
    const { fullname, email, tokenCreatedAt } = await ownProfile(callerOf(c));
    return c.json({
      type: "user",
      id: user.id,
      name: user.name,
      fullname,
      ...(email === null ? {} : { email }),
      emailVerified: false,
      isPro: false,
      canPay: false,
      periodEnd: null,
      billingMode: "postpaid",
      avatarUrl: avatarUrl(c, user.name),
      orgs: user.memberships.map((one) => ({
        type: "org",
        id: one.orgId,
        name: one.orgName,
        fullname: one.orgFullname,
        roleInOrg: one.role,
        isEnterprise: false,
        canPay: false,
        avatarUrl: avatarUrl(c, one.orgName),
      })),
      auth: {
        type: "access_token",
        accessToken: {
          displayName: user.tokenName,
          // The clients know no third kind of token; what `admin` adds, only the hub's own API serves.
          role: user.scope === "read" ? "read" : "write",
          ...(tokenCreatedAt === null ? {} : { createdAt: new Date(tokenCreatedAt).toISOString() }),
        },
      },
    });
  })
  // Answers JSON even when the card is wrong: the client parses it before it looks at the status.
  .post("/api/validate-yaml", async (c) => {
    const { content, repoType } = await jsonBody(c, CardBody);
    const { errors, warnings } = checkCard(repoType === "dataset" ? "dataset" : "model", content);
    const told = (problems: readonly CardProblem[], kind: string) =>
      problems.map(({ message }) => ({ message: `${kind}: ${message}` }));
    const answer = { errors: told(errors, "Error"), warnings: told(warnings, "Warning") };
    const status = errors.length === 0 ? 200 : 400;
    // `RepoCard.validate` shows the body as it is.
    if (c.req.header("accept") !== "text/plain") return c.json(answer, status);
    return c.text([...answer.errors, ...answer.warnings].map(({ message }) => `- ${message}`).join("\n"), status);
  });
