// What a collection holds: repositories and other collections, each with a note and a place in the order.
import { type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, type Caller, may } from "../access/caller";
import { asJson, commitBatch, type Guard, isUniqueViolation, queryRows, type Statement } from "../db/client";
import { collectionItems } from "../db/schema";
import { HubError } from "../errors";
import { objectId, parseRepoId, type RepoType } from "../ids";
import {
  type Collection,
  changeEvent,
  findCollection,
  type Owner,
  openTo,
  parseCollectionSlug,
  type Subject,
  stillThere,
  THEMES,
  type Theme,
  targetOf,
} from "./collections";
import { findRepo } from "./repositories";

/** A collection is answered whole. */
const MAX_ITEMS = 500;

type Placed = {
  readonly id: string;
  readonly collectionId: string;
  readonly position: number;
  readonly note: string | null;
};
export type RepositoryItem = Placed & {
  readonly type: RepoType;
  readonly owner: string;
  readonly name: string;
  readonly private: boolean;
  readonly gated: "auto" | "manual" | null;
  readonly likes: number;
  readonly liked: boolean;
  readonly downloads: number;
  readonly updatedAt: number;
  readonly pipelineTag: string | null;
  readonly parameters: number | null;
};
export type NestedItem = Placed & {
  readonly type: "collection";
  readonly nested: {
    readonly id: string;
    readonly owner: Owner;
    readonly title: string;
    readonly description: string | null;
    readonly theme: Theme;
    readonly private: boolean;
    readonly updatedAt: number;
    /** Of what everyone may see. */
    readonly items: number;
  };
};
export type Item = RepositoryItem | NestedItem;

const Gated = z.enum(["auto", "manual"]).nullable();
const placed = {
  id: z.string(),
  collection_id: z.string(),
  position: z.number(),
  note: z.string().nullable(),
  owner_id: z.string(),
  owner: z.string(),
  private: z.number(),
  updated_at: z.number(),
};
const ItemRow = z.discriminatedUnion("type", [
  z.object({
    ...placed,
    type: z.enum(["model", "dataset"]),
    name: z.string(),
    gated: Gated,
    likes: z.number(),
    liked: z.number(),
    downloads: z.number(),
    pipeline_tag: z.string().nullable(),
    parameters: z.number().nullable(),
  }),
  z.object({
    ...placed,
    type: z.literal("collection"),
    subject_id: z.string(),
    owner_fullname: z.string(),
    owner_kind: z.enum(["user", "org"]),
    title: z.string(),
    description: z.string().nullable(),
    theme: z.enum(THEMES),
    items: z.number(),
  }),
]);

/** How many items of a collection everyone may see. */
const openItems = (collectionId: SQL): SQL => sql`(select count(*) from collection_items n
  left join repos nr on n.type <> 'collection' and nr.id = n.subject_id
  left join collections nc on n.type = 'collection' and nc.id = n.subject_id
  where n.collection_id = ${collectionId} and coalesce(nr.private, nc.private) = 0)`;

/** The items of each collection that the caller may see, in their order: at most `each` of one. One query. */
export async function itemsOf(caller: Caller, of: readonly Collection[], each = MAX_ITEMS): Promise<Item[]> {
  if (of.length === 0) return [];
  const { actor, platform } = caller;
  const self = actor.kind === "user" ? actor.id : null;
  const rows = await queryRows(
    platform.db,
    ItemRow,
    sql`with placed as (
        select i.*, r.rowid as repo_row, c.rowid as nested_row,
            row_number() over (partition by i.collection_id order by i.position, i.id) as n
          from collection_items i
          left join repos r on i.type <> 'collection' and r.id = i.subject_id
          left join collections c on i.type = 'collection' and c.id = i.subject_id
          where i.collection_id in (select value from json_each(${asJson(of.map(({ id }) => id))}))
            and ${openTo(caller, sql`coalesce(r.private, c.private)`, sql`coalesce(r.owner_id, c.owner_id)`)})
      select p.id, p.collection_id, p.type, p.subject_id, p.position, p.note, o.id as owner_id, o.name as owner, o.fullname as owner_fullname,
          o.kind as owner_kind, coalesce(r.private, c.private) as private, coalesce(r.updated_at, c.updated_at) as updated_at,
          r.name, r.gated, r.likes, r.downloads, x.pipeline_tag, x.parameters, c.title, c.description, c.theme,
          exists (select 1 from likes l where l.repo_id = r.id and l.account_id = ${self}) as liked,
          case when c.id is not null then ${openItems(sql`c.id`)} end as items
        from placed p
        left join repos r on r.rowid = p.repo_row
        left join repo_index x on x.repo_id = r.id
        left join collections c on c.rowid = p.nested_row
        join accounts o on o.id = coalesce(r.owner_id, c.owner_id)
        where p.n <= ${each} order by p.collection_id, p.position, p.id`,
  );
  return rows.filter((row) => maySee(caller, row)).map(itemOf);
}

function maySee(
  caller: Caller,
  row: { readonly type: Subject["type"]; readonly owner_id: string; readonly private: number },
): boolean {
  const facts = { ownerId: row.owner_id, private: row.private === 1 };
  return row.type === "collection"
    ? may(caller, { action: "collection.read", collection: facts })
    : may(caller, { action: "repo.read", repo: facts });
}

function itemOf(row: z.output<typeof ItemRow>): Item {
  const { id, collection_id: collectionId, position, note, owner, updated_at: updatedAt } = row;
  const at = { id, collectionId, position, note };
  const isPrivate = row.private === 1;
  if (row.type !== "collection") {
    const { type, name, gated, likes, downloads, parameters, pipeline_tag: pipelineTag } = row;
    const liked = row.liked === 1;
    return {
      ...at,
      type,
      owner,
      name,
      private: isPrivate,
      gated,
      likes,
      liked,
      downloads,
      updatedAt,
      pipelineTag,
      parameters,
    };
  }
  const { title, description, theme, items } = row;
  const nestedOwner = { id: row.owner_id, name: owner, fullname: row.owner_fullname, kind: row.owner_kind };
  return {
    ...at,
    type: "collection",
    nested: {
      id: row.subject_id,
      owner: nestedOwner,
      title,
      description,
      theme,
      private: isPrivate,
      updatedAt,
      items,
    },
  };
}

export type NamedSubject = { readonly type: "model" | "dataset" | "collection"; readonly name: string };

/** What a client names, if the caller may see it. @throws repo_not_found | collection_not_found */
export async function findSubject(caller: Caller, { type, name }: NamedSubject): Promise<Subject> {
  if (type !== "collection") {
    // Ids come with the prefix of web addresses as well.
    const repo = await findRepo(caller, parseRepoId(type, name.replace(/^(models|datasets)\//, "")));
    return { type, id: repo.id };
  }
  const address = /^[0-9a-f]{24}$/.test(name) ? await addressOf(caller, name) : parseCollectionSlug(name);
  return { type, id: (await findCollection(caller, address)).id };
}

/** Those of the named that there are and that the caller may see, for a filter. One query. */
export async function findSubjects(caller: Caller, named: readonly NamedSubject[]): Promise<Subject[]> {
  const wanted = named.map(({ type, name }) => {
    const [owner = "", rest = ""] = name.toLowerCase().split("/");
    return { type, owner, name: type === "collection" ? rest.slice(-24) : rest };
  });
  const rows = await queryRows(
    caller.platform.db,
    z.object({
      type: z.enum(["model", "dataset", "collection"]),
      id: z.string(),
      owner_id: z.string(),
      private: z.number(),
    }),
    sql`with wanted as (select value ->> 'type' as type, value ->> 'owner' as owner, value ->> 'name' as name from json_each(${asJson(wanted)}))
      select w.type, r.id, r.owner_id, r.private from wanted w join accounts o on o.name_key = w.owner
        join repos r on r.owner_id = o.id and r.type = w.type and r.name_key = w.name
      union select w.type, c.id, c.owner_id, c.private from wanted w join collections c on c.id = w.name where w.type = 'collection'`,
  );
  return rows.filter((row) => maySee(caller, row)).map(({ type, id }) => ({ type, id }));
}

/** Some clients name a collection by its id alone. */
async function addressOf(caller: Caller, id: string) {
  const [row] = await queryRows(
    caller.platform.db,
    z.object({ owner: z.string() }),
    sql`select o.name as owner from collections c join accounts o on o.id = c.owner_id where c.id = ${id}`,
  );
  if (row === undefined) throw new HubError("collection_not_found", { slug: id });
  return { owner: row.owner, id };
}

/** Adds at the end. @throws collection_item_exists */
export async function addItem(
  caller: Caller,
  collection: Collection,
  subject: Subject,
  note: string | null,
): Promise<void> {
  const { platform } = caller;
  authorize(caller, { action: "collection.write", collection }, targetOf(collection));
  const now = platform.now();
  const last = sql<number>`(select coalesce(max(position), -1) + 1 from collection_items where collection_id = ${collection.id})`;
  const hasRoom: Guard = {
    holds: sql`(select count(*) from collection_items where collection_id = ${collection.id}) < ${MAX_ITEMS}`,
    otherwise: () => new HubError("invalid_request", { problem: `A collection holds at most ${MAX_ITEMS} items` }),
  };
  const table = subject.type === "collection" ? sql`collections` : sql`repos`;
  const stillThere: Guard = {
    holds: sql`exists (select 1 from ${table} where id = ${subject.id})`,
    otherwise: () => new HubError("repo_not_found"),
  };
  const row = { id: objectId(now), collectionId: collection.id, type: subject.type, subjectId: subject.id, note };
  try {
    await change(
      caller,
      collection,
      [hasRoom, stillThere],
      [platform.db.insert(collectionItems).values({ ...row, position: last, addedAt: now })],
      { added: row.id },
    );
  } catch (error) {
    if (isUniqueViolation(error, "collection_items.collection_id")) throw new HubError("collection_item_exists");
    throw error;
  }
}

export type ItemChange = { readonly note?: string | null; readonly position?: number };

/** `position` counts from 0 among all items. @throws collection_item_not_found */
export async function changeItem(
  caller: Caller,
  collection: Collection,
  itemId: string,
  { note, position }: ItemChange,
): Promise<void> {
  authorize(caller, { action: "collection.write", collection }, targetOf(collection));
  const statements: Statement[] = [];
  if (note !== undefined) statements.push(sql`update collection_items set note = ${note} where id = ${itemId}`);
  if (position !== undefined) statements.push(...moveTo(collection.id, itemId, position));
  await change(caller, collection, [hasItem(collection, itemId)], statements, { changed: itemId });
}

/** The others are numbered anew around the place that is left free. */
function moveTo(collectionId: string, itemId: string, position: number): Statement[] {
  const others = sql`(select id, row_number() over (order by position, id) - 1 as n from collection_items
    where collection_id = ${collectionId} and id <> ${itemId})`;
  return [
    sql`update collection_items set position = o.n + (o.n >= ${position}) from ${others} o where collection_items.id = o.id`,
    sql`update collection_items set position = min(${position}, (select count(*) - 1 from collection_items where collection_id = ${collectionId}))
      where id = ${itemId}`,
  ];
}

/** @throws collection_item_not_found */
export async function removeItem(caller: Caller, collection: Collection, itemId: string): Promise<void> {
  authorize(caller, { action: "collection.write", collection }, targetOf(collection));
  const gone = sql`delete from collection_items where id = ${itemId}`;
  await change(caller, collection, [hasItem(collection, itemId)], [gone], { removed: itemId });
}

const hasItem = (collection: Collection, itemId: string): Guard => ({
  holds: sql`exists (select 1 from collection_items where id = ${itemId} and collection_id = ${collection.id})`,
  otherwise: () => new HubError("collection_item_not_found"),
});

function change(
  caller: Caller,
  collection: Collection,
  guards: readonly Guard[],
  statements: readonly Statement[],
  data: unknown,
): Promise<void> {
  const { platform } = caller;
  return commitBatch(
    platform.db,
    [stillThere(collection), ...guards],
    [
      ...statements,
      sql`update collections set updated_at = ${platform.now()} where id = ${collection.id}`,
      changeEvent(caller, collection, "collection.changed", data),
    ],
  );
}
