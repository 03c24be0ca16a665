// How much a model or dataset was used, day by day: what its downloads are summed up from.
import { createRoute, z } from "@hono/zod-openapi";
import { findRepo } from "../../hub/repositories";
import { readUsage } from "../../hub/tally";
import { parseRepoId, type RepoType } from "../../ids";
import { json, newRouter, problems } from "./router";

const MAX_DAYS = 366;

const Usage = z
  .object({
    downloads: z.int().meta({ description: "Of the last 30 days, as of some minutes ago" }),
    downloads_all_time: z.int(),
    days: z.array(
      z.object({
        date: z.iso.date().meta({ description: "In UTC; days without any use are left out" }),
        downloads: z.int().meta({ description: "Distinct clients that fetched files" }),
        looks: z.int().meta({ description: "Distinct clients that asked by HEAD, as those do that have the files" }),
        ci: z.int().meta({ description: "Distinct clients that said they were a CI run" }),
      }),
    ),
  })
  .openapi("Usage");

const usageRoute = (type: RepoType) =>
  createRoute({
    method: "get",
    path: `/${type}s/{owner}/{name}/usage`,
    tags: ["usage"],
    summary: `How often a ${type} was downloaded, by day, newest first`,
    request: {
      params: z.object({ owner: z.string().max(96), name: z.string().max(96) }),
      query: z.object({ days: z.coerce.number().int().min(1).max(MAX_DAYS).default(30) }),
    },
    responses: { 200: json(Usage, "Each client counts once a day"), ...problems },
  });

export const usage = newRouter();
for (const type of ["model", "dataset"] as const)
  usage.openapi(usageRoute(type), async (c) => {
    const { owner, name } = c.req.valid("param");
    const { caller } = c.var;
    const repo = await findRepo(caller, parseRepoId(type, `${owner}/${name}`));
    const { downloads, downloadsAllTime, days } = await readUsage(caller.platform, repo.id, c.req.valid("query").days);
    return c.json(
      {
        downloads,
        downloads_all_time: downloadsAllTime,
        days: days.map(({ day, fetches, looks, ci }) => ({
          date: new Date(day * 86_400_000).toISOString().slice(0, 10),
          downloads: fetches,
          looks,
          ci,
        })),
      },
      200,
    );
  });
