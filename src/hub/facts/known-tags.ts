// The tags that there are to filter by: the conventions' own, and those that public repositories have.
import { sql } from "drizzle-orm";
import * as z from "zod";
import { queryRows } from "../../db/client";
import { LIBRARIES, LICENSES, PIPELINE_TAGS, SIZE_CATEGORIES } from "../../formats/card/vocabulary";
import type { RepoType } from "../../ids";
import type { Platform } from "../../platform/platform";
import { keep, recall } from "../../store/public-cache";

export type KnownTag = {
  readonly id: string;
  readonly label: string;
  /** What kind of thing it names, `other` where that is not known. */
  readonly type: string;
};

/** As many as a person looks through; of more the first ones by name. */
const MAX_TAGS = 5000;
const KEPT_S = 600;
/** Tags of these kinds name single things: there are as many as repositories. */
const UNLISTED = ["arxiv", "doi", "base_model"];
const PREFIXED: Record<RepoType, ReadonlySet<string>> = {
  model: new Set(["license", "dataset", "region"]),
  dataset: new Set([
    "annotations_creators",
    "format",
    "language",
    "language_creators",
    "library",
    "license",
    "multilinguality",
    "region",
    "size_categories",
    "source_datasets",
    "task_categories",
    "task_ids",
  ]),
};

export async function knownTags(platform: Platform, type: RepoType): Promise<Partial<Record<string, KnownTag[]>>> {
  const tags = new Set([...conventional(type), ...(await usedTags(platform, type))]);
  return Object.groupBy(
    [...tags].map((tag) => kindOf(type, tag)),
    (tag) => tag.type,
  );
}

const conventional = (type: RepoType): string[] => [
  ...[...LICENSES].map((license) => `license:${license}`),
  ...(type === "model"
    ? [...PIPELINE_TAGS, ...LIBRARIES]
    : [
        ...[...PIPELINE_TAGS].map((task) => `task_categories:${task}`),
        ...[...SIZE_CATEGORIES].map((size) => `size_categories:${size}`),
      ]),
];

function kindOf(type: RepoType, id: string): KnownTag {
  const [prefix = "", ...rest] = id.split(":");
  if (rest.length > 0 && PREFIXED[type].has(prefix)) return { id, label: rest.join(":"), type: prefix };
  if (type === "dataset") return { id, label: id, type: "other" };
  const kind = PIPELINE_TAGS.has(id)
    ? "pipeline_tag"
    : LIBRARIES.has(id)
      ? "library"
      : /^[a-z]{2}$/.test(id)
        ? "language"
        : "other";
  return { id, label: id, type: kind };
}

const Tags = z.array(z.string());

/** From one to the next in the index, so that the work follows the tags and not the repositories that have them. */
async function usedTags(platform: Platform, type: RepoType): Promise<readonly string[]> {
  const open = { private: false, gated: null };
  const key = `tags/${type}`;
  const kept = platform.config.edgeCache ? await recall(platform, open, key, Tags) : null;
  if (kept !== null) return kept;
  // Past all tags of an unlisted kind at once: the semicolon follows the colon.
  const next = sql`case ${sql.join(
    UNLISTED.map((kind) => sql`when t.tag like ${`${kind}:%`} then ${`${kind};`}`),
    sql` `,
  )} else t.tag end`;
  const isListed = sql.join(
    UNLISTED.map((kind) => sql`tag not like ${`${kind}:%`}`),
    sql` and `,
  );
  const rows = await queryRows(
    platform.db,
    z.object({ tag: z.string() }),
    sql`with recursive tags (tag) as (
        select min(tag) from repo_tags
        union all
        select (select min(tag) from repo_tags where tag > ${next}) from tags t where t.tag is not null
        limit ${MAX_TAGS})
      select tag from tags where ${isListed} and exists (
        select 1 from repo_tags t join repos r on r.id = t.repo_id where t.tag = tags.tag and r.type = ${type} and r.private = 0)`,
  );
  const tags = rows.map((row) => row.tag);
  if (platform.config.edgeCache) platform.defer(keep(platform, open, key, JSON.stringify(tags), KEPT_S));
  return tags;
}
