// Collections as the Hugging Face clients list, read and keep them.
import { Hono } from "hono";
import * as z from "zod";
import { requireUser } from "../../access/caller";
import { HubError } from "../../errors";
import {
  addItem,
  changeItem,
  findSubject,
  findSubjects,
  type Item,
  itemsOf,
  type NamedSubject,
  removeItem,
} from "../../hub/collection-items";
import {
  type Collection,
  changeCollection,
  createCollection,
  deleteCollection,
  findCollection,
  listCollections,
  parseCollectionSlug,
  slugOf,
  THEMES,
} from "../../hub/collections";
import { parseAccountName } from "../../ids";
import type { AppEnv } from "../app-env";
import { accountSummary } from "./accounts";
import { API_TYPES, type Ctx, callerOf, decodeCursor, jsonBody, limitOf, list, originOf, paged } from "./request";

const PAGE = 100;
/** Each collection of a list shows this many items; the collection itself shows all. */
const LISTED_ITEMS = 4;
/** So many names one filter takes. */
const MAX_NAMES = 100;

const Title = z.string().trim().min(1, "must not be empty").max(100);
const Description = z.string().max(1000);
const Note = z.string().max(500);
const Position = z.int().min(0).max(1_000_000);

const ResourceGroup = z.null("resource groups are not served by this hub: leave it out").optional();
const NewCollection = z.object({
  title: Title,
  namespace: z.string().nullish(),
  description: Description.nullish(),
  private: z.boolean().nullish(),
  resourceGroupId: ResourceGroup,
});
const CollectionChange = z.object({
  title: Title.optional(),
  description: Description.optional(),
  private: z.boolean().optional(),
  theme: z.enum(THEMES).optional(),
  position: Position.optional(),
});
const NewItem = z.object({
  item: z.object({
    id: z.string().max(300),
    type: z.enum(
      ["model", "dataset", "collection"],
      "must be model, dataset or collection: spaces, papers and buckets are not served by this hub",
    ),
  }),
  note: Note.nullish(),
});
const ItemChange = z.object({ note: Note.nullable().optional(), position: Position.optional() });

const time = (ms: number): string => new Date(ms).toISOString();
const shareUrl = (c: Ctx, slug: string): string => `${originOf(c)}/collections/${slug}`;
const escaped = (text: string): string => text.replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);

function itemResource(c: Ctx, item: Item) {
  const at = {
    _id: item.id,
    position: item.position,
    ...(item.note === null ? {} : { note: { text: item.note, html: escaped(item.note) } }),
  };
  if (item.type === "collection") {
    const { nested } = item;
    const slug = slugOf(nested);
    return {
      ...at,
      type: item.type,
      id: nested.id,
      slug,
      title: nested.title,
      ...(nested.description === null ? {} : { description: nested.description }),
      owner: accountSummary(c, nested.owner),
      lastUpdated: time(nested.updatedAt),
      numberItems: nested.items,
      theme: nested.theme,
      private: nested.private,
      shareUrl: shareUrl(c, slug),
      upvotes: 0,
      isUpvotedByUser: false,
    };
  }
  return {
    ...at,
    type: item.type,
    repoType: item.type,
    id: `${item.owner}/${item.name}`,
    author: item.owner,
    private: item.private,
    gated: item.gated ?? false,
    lastModified: time(item.updatedAt),
    likes: item.likes,
    isLikedByUser: item.liked,
    downloads: item.downloads,
    ...(item.pipelineTag === null ? {} : { pipeline_tag: item.pipelineTag }),
    ...(item.parameters === null ? {} : { numParameters: item.parameters }),
    ...(item.type === "model" ? { availableInferenceProviders: [] } : {}),
  };
}

/** As lists show it: clients number the collections of a list themselves, so `position` must not be there. */
const listed = (c: Ctx, collection: Collection, items: readonly Item[]) => ({
  slug: slugOf(collection),
  title: collection.title,
  ...(collection.description === null ? {} : { description: collection.description }),
  owner: accountSummary(c, collection.owner),
  lastUpdated: time(collection.updatedAt),
  gating: false,
  theme: collection.theme,
  private: collection.private,
  upvotes: 0,
  isUpvotedByUser: false,
  items: items.filter(({ collectionId }) => collectionId === collection.id).map((item) => itemResource(c, item)),
});

async function whole(c: Ctx, collection: Collection) {
  const { position } = collection;
  const items = await itemsOf(callerOf(c), [collection]);
  return { ...listed(c, collection, items), position, shareUrl: shareUrl(c, slugOf(collection)) };
}

/** The collection that the route's `:owner/:slug` name. */
const found = (c: Ctx): Promise<Collection> =>
  findCollection(callerOf(c), parseCollectionSlug(`${c.req.param("owner") ?? ""}/${c.req.param("slug") ?? ""}`));

const Cursor = z.object({ updatedAt: z.number(), id: z.string() });
const SORTS = ["lastModified", "trending", "upvotes"];

const ITEM_KINDS = new Map<string, NamedSubject["type"]>([...Object.entries(API_TYPES), ["collections", "collection"]]);

/** `models/owner/name`, as filters name items. What no collection here can hold matches nothing. */
function namedItem(text: string): NamedSubject[] {
  const [kind = "", ...name] = text.split("/");
  const type = ITEM_KINDS.get(kind);
  return type === undefined ? [] : [{ type, name: name.join("/") }];
}

async function listing(c: Ctx) {
  const sort = c.req.query("sort");
  // Nothing is voted for here, so each of them comes to the same order: last changed first.
  if (sort !== undefined && !SORTS.includes(sort))
    throw new HubError("invalid_request", { problem: `sort: must be one of ${SORTS.join(", ")}` });
  const owners = list(c, "owner");
  const items = list(c, "item");
  if (owners.length > MAX_NAMES || items.length > MAX_NAMES)
    throw new HubError("invalid_request", { problem: `owner, item: at most ${MAX_NAMES} of each` });
  const limit = limitOf(c, PAGE);
  const cursor = c.req.query("cursor");
  const search = c.req.query("q");
  const caller = callerOf(c);
  const collections = await listCollections(caller, {
    owners,
    limit: limit + 1,
    ...(items.length === 0 ? {} : { holding: await findSubjects(caller, items.flatMap(namedItem)) }),
    ...(search === undefined ? {} : { search }),
    ...(cursor === undefined ? {} : { before: decodeCursor(Cursor, cursor) }),
  });
  const page = paged(c, collections, limit, ({ updatedAt, id }) => ({ updatedAt, id }));
  const shown = await itemsOf(caller, page, LISTED_ITEMS);
  return c.json(page.map((collection) => listed(c, collection, shown)));
}

export const collections = new Hono<AppEnv>()
  .get("/api/collections", listing)
  .post("/api/collections", async (c) => {
    const body = await jsonBody(c, NewCollection);
    const collection = await createCollection(callerOf(c), {
      owner: parseAccountName(body.namespace ?? requireUser(callerOf(c)).name, "namespace"),
      title: body.title,
      description: body.description || null,
      private: body.private === true,
    });
    return c.json(await whole(c, collection));
  })
  .get("/api/collections/:owner/:slug", async (c) => c.json(await whole(c, await found(c))))
  .patch("/api/collections/:owner/:slug", async (c) => {
    const { description, title, theme, position, ...body } = await jsonBody(c, CollectionChange);
    const changed = await changeCollection(callerOf(c), await found(c), {
      ...(title === undefined ? {} : { title }),
      ...(description === undefined ? {} : { description: description || null }),
      ...(theme === undefined ? {} : { theme }),
      ...(position === undefined ? {} : { position }),
      ...(body.private === undefined ? {} : { private: body.private }),
    });
    return c.json({ success: true, data: await whole(c, changed) });
  })
  .delete("/api/collections/:owner/:slug", async (c) => {
    await deleteCollection(callerOf(c), await found(c));
    return c.json({ success: true });
  })
  .post("/api/collections/:owner/:slug/items", async (c) => {
    const { item, note } = await jsonBody(c, NewItem);
    const collection = await found(c);
    const subject = await findSubject(callerOf(c), { type: item.type, name: item.id });
    await addItem(callerOf(c), collection, subject, note || null);
    return c.json({ success: true, ...(await whole(c, await found(c))) });
  })
  .patch("/api/collections/:owner/:slug/items/:item", async (c) => {
    const { note, position } = await jsonBody(c, ItemChange);
    await changeItem(callerOf(c), await found(c), c.req.param("item"), {
      ...(note === undefined ? {} : { note: note || null }),
      ...(position === undefined ? {} : { position }),
    });
    return c.json({ success: true });
  })
  .delete("/api/collections/:owner/:slug/items/:item", async (c) => {
    await removeItem(callerOf(c), await found(c), c.req.param("item"));
    return c.json({ success: true });
  })
  .post("/api/collections/:owner/:slug/resource-group", () => {
    throw new HubError("not_served", { what: "Resource groups" });
  });
