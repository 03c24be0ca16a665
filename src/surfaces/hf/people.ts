// Users and organizations as the Hugging Face clients look them up and follow them.
import { Hono } from "hono";
import * as z from "zod";
import {
  type Circle,
  findOverview,
  listPeople,
  type Overview,
  organizationsOf,
  type Person,
  setFollowed,
} from "../../hub/people";
import { parseAccountName } from "../../ids";
import type { AppEnv } from "../app-env";
import { avatarUrl } from "./accounts";
import { type Ctx, callerOf, decodeCursor, limitOf, paged } from "./request";

const PAGE = 500;

/** The account that the route names. Names that can't be one are answered like those that nobody has. */
const nameOf = (c: Ctx) => parseAccountName(c.req.param("name") ?? "", "name");

const counts = (overview: Overview) => ({
  numModels: overview.models,
  numDatasets: overview.datasets,
  numSpaces: 0,
  numPapers: 0,
  numFollowers: overview.followers,
  isFollowing: overview.followed,
  createdAt: new Date(overview.createdAt).toISOString(),
});

const user = (c: Ctx, { id, name, fullname }: Person) => ({
  _id: id,
  type: "user",
  user: name,
  fullname,
  avatarUrl: avatarUrl(c, name),
  isPro: false,
});
const organization = (c: Ctx, { id, name, fullname }: Person) => ({
  _id: id,
  type: "org",
  name,
  fullname,
  avatarUrl: avatarUrl(c, name),
});

async function userOverview(c: Ctx) {
  const overview = await findOverview(callerOf(c), nameOf(c), "user");
  const orgs = await organizationsOf(callerOf(c), overview.id);
  return c.json({
    ...user(c, overview),
    ...counts(overview),
    numLikes: overview.likes,
    numDiscussions: overview.discussions,
    numUpvotes: 0,
    numFollowing: overview.following,
    orgs: orgs.map((one) => organization(c, one)),
  });
}

async function organizationOverview(c: Ctx) {
  const overview = await findOverview(callerOf(c), nameOf(c), "org");
  return c.json({ ...organization(c, overview), ...counts(overview), isVerified: false, numUsers: overview.members });
}

const Cursor = z.object({ id: z.string() });

async function listing(c: Ctx, kind: Person["kind"], circle: Circle) {
  const limit = limitOf(c, PAGE);
  const cursor = c.req.query("cursor");
  const found = await listPeople(callerOf(c), nameOf(c), kind, circle, {
    limit: limit + 1,
    ...(cursor === undefined ? {} : { after: decodeCursor(Cursor, cursor).id }),
  });
  return c.json(paged(c, found, limit, ({ id }) => ({ id })).map((one) => user(c, one)));
}

export const people = new Hono<AppEnv>()
  .get("/api/users/:name/overview", userOverview)
  .get("/api/users/:name/followers", (c) => listing(c, "user", "followers"))
  .get("/api/users/:name/following", (c) => listing(c, "user", "following"))
  .get("/api/organizations/:name/overview", organizationOverview)
  .get("/api/organizations/:name/members", (c) => listing(c, "org", "members"))
  .get("/api/organizations/:name/followers", (c) => listing(c, "org", "followers"));
for (const [segment, kind] of [
  ["users", "user"],
  ["organizations", "org"],
] as const) {
  const at = `/api/${segment}/:name/follow`;
  people.post(at, async (c) => {
    await setFollowed(callerOf(c), nameOf(c), kind, true);
    return c.json({ success: true });
  });
  people.delete(at, async (c) => {
    await setFollowed(callerOf(c), nameOf(c), kind, false);
    return c.json({ success: true });
  });
}
