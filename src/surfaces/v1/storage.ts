// What a repository takes in storage, revision by revision.
import { createRoute, z } from "@hono/zod-openapi";
import { findSnapshot, repoName } from "../../hub/repositories";
import { readStorage } from "../../hub/storage";
import { parseRepoId, parseRevision } from "../../ids";
import { isoTime, json, newRouter, problems } from "./router";

const bytes = (description: string) => z.int().meta({ description });

const Revision = z
  .object({
    commit: z.string(),
    committed_at: z.iso.datetime(),
    summary: z.string(),
    files: z.int(),
    logical_bytes: bytes("Sizes of the files, added up"),
    stored_bytes: bytes("What they take in storage, packed; what is in several of them counts once"),
    new_bytes: bytes("Of those: what neither older revisions nor other repositories have, as far as you may see them"),
    shared_bytes: z
      .object({
        revisions: bytes("With older revisions of this repository"),
        owner: bytes("Else with other repositories of the owner that you can read"),
        public: bytes("Else with public repositories of others"),
      })
      .meta({
        description: "Each byte counts in the first that applies; with `new_bytes` they add up to `stored_bytes`",
      }),
    waiting: z
      .object({ ingestion: z.int(), verification: z.int() })
      .meta({ description: "Files that are still to be deduplicated, and files whose SHA-256 is still to be checked" }),
    quarantined: z.int().meta({ description: "Files that do not have the SHA-256 under which they were published" }),
  })
  .openapi("RevisionStorage");

const storageRoute = createRoute({
  method: "get",
  path: "/repos/{type}/{owner}/{name}/storage",
  tags: ["storage"],
  summary: "What was new and what shared in each revision of a branch or tag, newest first",
  request: {
    params: z.object({ type: z.enum(["model", "dataset"]), owner: z.string().max(96), name: z.string().max(96) }),
    query: z.object({
      revision: z.string().max(250).default("main").meta({ description: "Branch, tag or commit" }),
      limit: z.coerce.number().int().min(1).max(50).default(20),
      cursor: z
        .string()
        .regex(/^[0-9a-f]{40}\.[0-9]{1,7}$/)
        .optional()
        .meta({ description: "`next` of the page before" }),
    }),
  },
  responses: {
    200: json(z.object({ repo: z.string(), revisions: z.array(Revision), next: z.string().nullable() }), "A page"),
    ...problems,
  },
});

export const storage = newRouter().openapi(storageRoute, async (c) => {
  const { type, owner, name } = c.req.valid("param");
  const { revision, limit, cursor } = c.req.valid("query");
  const { caller } = c.var;
  // The cursor holds on to the commit that the first page began with, wherever the branch has moved since.
  const [start = revision, skipped = "0"] = cursor?.split(".") ?? [];
  const offset = Number(skipped);
  const snapshot = await findSnapshot(caller, parseRepoId(type, `${owner}/${name}`), parseRevision(start));
  const revisions = await readStorage(caller, snapshot, { offset, limit });
  return c.json(
    {
      repo: repoName(snapshot.repo),
      revisions: revisions.map((one) => ({
        commit: one.commit,
        committed_at: isoTime(one.authoredAt * 1000),
        summary: one.summary,
        files: one.files,
        logical_bytes: one.logicalBytes,
        stored_bytes: one.storedBytes,
        new_bytes: one.newBytes,
        shared_bytes: {
          revisions: one.sharedWithRevisions,
          owner: one.sharedWithOwner,
          public: one.sharedWithPublic,
        },
        waiting: { ingestion: one.waitingForIngestion, verification: one.waitingForVerification },
        quarantined: one.quarantined,
      })),
      next: revisions.length < limit ? null : `${snapshot.commit}.${offset + limit}`,
    },
    200,
  );
});
