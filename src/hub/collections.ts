// Collections: lists of models, datasets and other collections that a namespace keeps and shows.
import { eq, type SQL, sql } from "drizzle-orm";
import * as z from "zod";
import { authorize, authorizeSight, type Caller, may } from "../access/caller";
import { asJson, commitBatch, type Guard, isUniqueViolation, queryRows, type Statement } from "../db/client";
import { collections } from "../db/schema";
import { HubError } from "../errors";
import { allowedEvent, eventStatement } from "../events/trail";
import { type AccountName, objectId } from "../ids";
import { findAccount } from "./accounts";
import { ownersOf } from "./repositories";

export const THEMES = ["orange", "blue", "green", "purple", "pink", "indigo"] as const;
export type Theme = (typeof THEMES)[number];

export type Owner = {
  readonly id: string;
  readonly name: string;
  readonly fullname: string;
  readonly kind: "user" | "org";
};

export type Collection = {
  /** 24 hex digits; stays when the title, and with it the slug, changes. */
  readonly id: string;
  readonly ownerId: string;
  readonly owner: Owner;
  readonly title: string;
  readonly description: string | null;
  readonly theme: Theme;
  readonly private: boolean;
  readonly position: number;
  readonly updatedAt: number;
};

/** What the address of a collection names: the text before the id may be that of a former title. */
export type CollectionAddress = { readonly owner: string; readonly id: string };

const SLUG = /^(?:.*-)?([0-9a-f]{24})$/;
const MAX_SLUG_TITLE = 80;

/** @throws collection_not_found for what can be no slug */
export function parseCollectionSlug(slug: string): CollectionAddress {
  const [owner, rest, ...more] = slug.split("/");
  const id = SLUG.exec(rest ?? "")?.[1];
  if (owner === undefined || id === undefined || more.length > 0)
    throw new HubError("collection_not_found", { slug: slug.slice(0, 200) });
  return { owner, id };
}

export function slugOf({ owner, title, id }: Pick<Collection, "title" | "id"> & { owner: { name: string } }): string {
  const words = title
    .normalize("NFKD")
    .toLowerCase()
    .replace(/\p{M}/gu, "")
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, MAX_SLUG_TITLE)
    .replace(/^-+|-+$/g, "");
  return `${owner.name}/${words === "" ? "" : `${words}-`}${id}`;
}

const titleKey = (title: string): string => title.normalize("NFC").toLowerCase();
const subjectOf = (owner: string, id: string): string => `collection:${owner}/${id}`;
export const targetOf = (collection: Collection) => ({
  subject: subjectOf(collection.owner.name, collection.id),
  scopeId: collection.ownerId,
});

export const CollectionRow = z.object({
  id: z.string(),
  owner_id: z.string(),
  owner: z.string(),
  owner_fullname: z.string(),
  owner_kind: z.enum(["user", "org"]),
  title: z.string(),
  description: z.string().nullable(),
  theme: z.enum(THEMES),
  private: z.number(),
  position: z.number(),
  updated_at: z.number(),
});

/** Columns of `CollectionRow`, of collection `c` and its owner `o`. */
const selectCollection = sql`c.id, c.owner_id, o.name as owner, o.fullname as owner_fullname, o.kind as owner_kind, c.title, c.description,
  c.theme, c.private, c.position, c.updated_at`;

const collectionOf = (row: z.output<typeof CollectionRow>): Collection => ({
  id: row.id,
  ownerId: row.owner_id,
  owner: { id: row.owner_id, name: row.owner, fullname: row.owner_fullname, kind: row.owner_kind },
  title: row.title,
  description: row.description,
  theme: row.theme,
  private: row.private === 1,
  position: row.position,
  updatedAt: row.updated_at,
});

/** @throws collection_not_found, also for who may not see it */
export async function findCollection(caller: Caller, { owner, id }: CollectionAddress): Promise<Collection> {
  const { db, session } = caller.platform;
  const query = sql`select ${selectCollection} from collections c join accounts o on o.id = c.owner_id
    where c.id = ${id} and o.name_key = ${owner.toLowerCase()}`;
  let [row] = await queryRows(db, CollectionRow, query);
  if (row === undefined && session.mayLag()) {
    session.toPrimary();
    [row] = await queryRows(db, CollectionRow, query);
  }
  const notFound = new HubError("collection_not_found", { slug: `${owner}/${id}` });
  if (row === undefined) throw notFound;
  const collection = collectionOf(row);
  authorizeSight(caller, { action: "collection.read", collection }, targetOf(collection), notFound);
  return collection;
}

/** An item as filters name it: a repository or, by its id, another collection. */
export type Subject = { readonly type: "model" | "dataset" | "collection"; readonly id: string };

export type CollectionQuery = {
  readonly owners: readonly string[];
  /** Only collections that hold one of these. */
  readonly holding?: readonly Subject[];
  readonly search?: string;
  readonly before?: { readonly updatedAt: number; readonly id: string };
  readonly limit: number;
};

/** Collections the caller may see, last changed first. The query preselects by namespace, the policy decides. */
export async function listCollections(caller: Caller, query: CollectionQuery): Promise<Collection[]> {
  const conditions: SQL[] = [openTo(caller, sql`c.private`, sql`c.owner_id`)];
  if (query.owners.length > 0)
    conditions.push(
      sql`c.owner_id in (select id from accounts where name_key in (select lower(value) from json_each(${asJson(query.owners)})))`,
    );
  if (query.holding !== undefined)
    conditions.push(sql`c.id in (select i.collection_id from json_each(${asJson(query.holding)}) w
      join collection_items i on i.type = w.value ->> 'type' and i.subject_id = w.value ->> 'id')`);
  if (query.search !== undefined)
    conditions.push(
      sql`instr(lower(c.title || char(10) || coalesce(c.description, '')), ${query.search.toLowerCase()}) > 0`,
    );
  if (query.before !== undefined)
    conditions.push(sql`(c.updated_at, c.id) < (${query.before.updatedAt}, ${query.before.id})`);
  const rows = await queryRows(
    caller.platform.db,
    CollectionRow,
    sql`select ${selectCollection} from collections c join accounts o on o.id = c.owner_id
      where ${sql.join(conditions, sql` and `)} order by c.updated_at desc, c.id desc limit ${query.limit}`,
  );
  return rows.map(collectionOf).filter((collection) => may(caller, { action: "collection.read", collection }));
}

/** SQL that narrows rows to what the caller may be able to read: it decides nothing. */
export const openTo = (caller: Caller, isPrivate: SQL, ownerId: SQL): SQL =>
  caller.actor.kind === "user" && caller.actor.isAdmin
    ? sql`true`
    : sql`(${isPrivate} = 0 or ${ownerId} in (${ownersOf(caller)}))`;

export type NewCollection = {
  readonly owner: AccountName;
  readonly title: string;
  readonly description: string | null;
  readonly private: boolean;
};

/** @throws collection_exists | forbidden */
export async function createCollection(caller: Caller, wanted: NewCollection): Promise<Collection> {
  const { platform } = caller;
  const account = await findAccount(platform, wanted.owner);
  const now = platform.now();
  const collection: Collection = {
    id: objectId(now),
    ownerId: account.id,
    owner: { id: account.id, name: account.name, fullname: account.fullname, kind: account.kind },
    title: wanted.title,
    description: wanted.description,
    theme: "orange",
    private: wanted.private,
    position: 0,
    updatedAt: now,
  };
  authorize(caller, { action: "collection.write", collection }, targetOf(collection));
  const { owner: _, ...row } = collection;
  await withFreeTitle(caller, collection, [], {
    change: platform.db.insert(collections).values({ ...row, titleKey: titleKey(row.title), createdAt: now }),
    event: { type: "collection.created", data: { private: wanted.private } },
  });
  return collection;
}

export type CollectionChange = Partial<Pick<Collection, "title" | "description" | "theme" | "private" | "position">>;

/** @throws collection_exists where another has the title */
export async function changeCollection(
  caller: Caller,
  collection: Collection,
  change: CollectionChange,
): Promise<Collection> {
  const { platform } = caller;
  authorize(caller, { action: "collection.write", collection }, targetOf(collection));
  const updatedAt = platform.now();
  const key = change.title === undefined ? {} : { titleKey: titleKey(change.title) };
  await withFreeTitle(caller, { ...collection, ...change }, [stillThere(collection)], {
    change: platform.db
      .update(collections)
      .set({ ...change, ...key, updatedAt })
      .where(eq(collections.id, collection.id)),
    event: { type: "collection.changed", data: change },
  });
  return { ...collection, ...change, updatedAt };
}

/** The collection with its items, and the entries of others that lead to it. */
export async function deleteCollection(caller: Caller, collection: Collection): Promise<void> {
  const { db } = caller.platform;
  authorize(caller, { action: "collection.write", collection }, targetOf(collection));
  await commitBatch(
    db,
    [stillThere(collection)],
    [
      sql`delete from collection_items where collection_id = ${collection.id}`,
      sql`delete from collection_items where type = 'collection' and subject_id = ${collection.id}`,
      db.delete(collections).where(eq(collections.id, collection.id)),
      changeEvent(caller, collection, "collection.deleted"),
    ],
  );
}

export const stillThere = (collection: Collection): Guard => ({
  holds: sql`exists (select 1 from collections where id = ${collection.id})`,
  otherwise: () => new HubError("collection_not_found", { slug: slugOf(collection) }),
});

export const changeEvent = (caller: Caller, collection: Collection, type: string, data?: unknown): Statement =>
  eventStatement(
    caller.platform.db,
    allowedEvent(caller.platform, caller.actor, {
      type,
      action: "collection.write",
      ...targetOf(collection),
      ...(data === undefined ? {} : { data }),
    }),
  );

async function withFreeTitle(
  caller: Caller,
  collection: Collection,
  guards: readonly Guard[],
  { change, event }: { readonly change: Statement; readonly event: { readonly type: string; readonly data: unknown } },
): Promise<void> {
  const { db } = caller.platform;
  try {
    await commitBatch(db, guards, [change, changeEvent(caller, collection, event.type, event.data)]);
  } catch (error) {
    if (!isUniqueViolation(error, "collections.owner_id")) throw error;
    // Who may write in the namespace sees all that is there, so the answer tells nothing new.
    const [existing] = await queryRows(
      db,
      z.object({ id: z.string(), title: z.string() }),
      sql`select id, title from collections where owner_id = ${collection.ownerId} and title_key = ${titleKey(collection.title)}`,
    );
    throw new HubError("collection_exists", { slug: slugOf({ ...collection, ...existing }) });
  }
}
