// Likes, as the Hugging Face clients give, take back and list them.
import { Hono } from "hono";
import { LikePosition, like, listLiked, listLikers, unlike } from "../../hub/likes";
import { repoName } from "../../hub/repositories";
import { parseAccountName, type RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { avatarUrl } from "./accounts";
import { API_TYPES, type Ctx, callerOf, decodeCursor, limitOf, paged, repoIdOf } from "./request";

const PAGE = 1000;

const pageOf = (c: Ctx) => {
  const cursor = c.req.query("cursor");
  const limit = limitOf(c, PAGE);
  return {
    limit,
    page: { limit: limit + 1, ...(cursor === undefined ? {} : { after: decodeCursor(LikePosition, cursor) }) },
  };
};

async function likers(c: Ctx, type: RepoType): Promise<Response> {
  const { page, limit } = pageOf(c);
  const found = paged(c, await listLikers(callerOf(c), repoIdOf(c, type), page), limit, ({ position }) => position);
  return c.json(
    found.map(({ name, fullname }) => ({ user: name, fullname, type: "user", avatarUrl: avatarUrl(c, name) })),
  );
}

async function liked(c: Ctx): Promise<Response> {
  const { page, limit } = pageOf(c);
  const who = parseAccountName(c.req.param("user") ?? "", "user");
  const found = paged(c, await listLiked(callerOf(c), who, page), limit, ({ position }) => position);
  return c.json(
    found.map(({ repo, position }) => ({
      createdAt: new Date(position.at).toISOString(),
      repo: { name: repoName(repo), type: repo.type },
    })),
  );
}

export const likes = new Hono<AppEnv>().get("/api/users/:user/likes", liked);
for (const [segment, type] of Object.entries(API_TYPES)) {
  const one = `/api/${segment}/:owner/:name`;
  likes.post(`${one}/like`, async (c) => {
    await like(callerOf(c), repoIdOf(c, type));
    return c.json({});
  });
  likes.delete(`${one}/like`, async (c) => {
    await unlike(callerOf(c), repoIdOf(c, type));
    return c.json({});
  });
  likes.get(`${one}/likers`, (c) => likers(c, type));
}
