// Collections: kept by those who may write in their namespace, read by those who may, and never a way to what is private.
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, user } from "../../kit/actors";

const Item = z.looseObject({
  _id: z.string(),
  id: z.string(),
  type: z.string(),
  position: z.number(),
  slug: z.string().optional(),
  numberItems: z.number().optional(),
  note: z.object({ text: z.string(), html: z.string() }).optional(),
});
const Whole = z.looseObject({
  slug: z.string(),
  title: z.string(),
  owner: z.looseObject({ name: z.string(), type: z.string() }),
  items: z.array(Item),
  lastUpdated: z.iso.datetime(),
  position: z.number(),
  private: z.boolean(),
  theme: z.string(),
  upvotes: z.number(),
  description: z.string().optional(),
});
const List = z.array(Whole.omit({ position: true }).extend({ position: z.undefined().optional() }));

let admin: Client;
let ada: Client;
let bob: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  await ada.post("/api/repos/create", { name: "digits" });
  await ada.post("/api/repos/create", { name: "secret", private: true });
  await bob.post("/api/repos/create", { name: "faces", type: "dataset" });
});

async function make(who: Client, body: Record<string, unknown>): Promise<string> {
  const answer = await who.post("/api/collections", body);
  expect(answer.status).toBe(200);
  return Whole.parse(answer.body).slug;
}
const read = async (who: Client, slug: string) => Whole.parse((await who.get(`/api/collections/${slug}`)).body);
const add = (who: Client, slug: string, type: string, id: string, note?: string) =>
  who.post(`/api/collections/${slug}/items`, { item: { type, id }, ...(note === undefined ? {} : { note }) });
const itemIds = async (who: Client, slug: string) => (await read(who, slug)).items.map(({ id }) => id);
const listed = async (who: Client, query = "") => List.parse((await who.get(`/api/collections${query}`)).body);
const titles = async (who: Client, query = "") => (await listed(who, query)).map(({ title }) => title);

describe("a collection", () => {
  it("is made, found by any slug with its id, renamed, and deleted once", async () => {
    const slug = await make(ada, { title: "  Café & Crème: 2026 ", namespace: "ada", description: "Good ones" });
    expect(slug).toMatch(/^ada\/cafe-creme-2026-[0-9a-f]{24}$/);
    const made = await read(anonymous, slug);
    expect(made).toMatchObject({
      title: "Café & Crème: 2026",
      description: "Good ones",
      owner: { name: "ada", type: "user" },
      private: false,
      items: [],
      upvotes: 0,
    });
    const changed = await ada.send("PATCH", `/api/collections/${slug}`, {
      title: "Better",
      theme: "pink",
      position: 3,
    });
    expect(changed.status).toBe(200);
    const { data } = z.object({ data: Whole }).parse(changed.body);
    expect(data).toMatchObject({ title: "Better", theme: "pink", position: 3, description: "Good ones" });
    expect(data.slug).not.toBe(slug);
    expect(data.slug.slice(-24)).toBe(slug.slice(-24));
    expect((await read(anonymous, slug)).slug).toBe(data.slug);
    expect((await anonymous.get(`/api/collections/bob/better-${slug.slice(-24)}`)).status).toBe(404);
    expect((await ada.send("DELETE", `/api/collections/${slug}`)).status).toBe(200);
    expect((await ada.send("DELETE", `/api/collections/${slug}`)).status).toBe(404);
  });

  it("has its title alone in its namespace, also when two are made at once", async () => {
    const answers = await Promise.all(["Same", "SAME"].map((title) => ada.post("/api/collections", { title })));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409]);
    const [made, refused] = answers.toSorted((a, b) => a.status - b.status);
    expect(refused?.body).toMatchObject({ slug: Whole.parse(made?.body).slug });
    await make(bob, { title: "Same" });
    const other = await make(ada, { title: "Other" });
    expect((await ada.send("PATCH", `/api/collections/${other}`, { title: "same" })).status).toBe(409);
  });

  it("is kept by writers of its namespace only, with a token that may write", async () => {
    await admin.post("/api/v1/organizations", { name: "lab" });
    await admin.send("PUT", "/api/v1/organizations/lab/members/ada", { role: "write" });
    await admin.send("PUT", "/api/v1/organizations/lab/members/bob", { role: "read" });
    const slug = await make(ada, { title: "Ours", namespace: "lab", private: true });
    const reading = await user(admin, "ada", "read");
    expect((await read(bob, slug)).owner).toMatchObject({ name: "lab", type: "org" });
    for (const [who, status] of [
      [bob, 403],
      [reading, 403],
      [anonymous, 404],
    ] as const) {
      expect((await who.send("PATCH", `/api/collections/${slug}`, { title: "Mine" })).status).toBe(status);
      expect((await who.send("DELETE", `/api/collections/${slug}`)).status).toBe(status);
      expect((await add(who, slug, "model", "ada/digits")).status).toBe(status);
    }
    expect((await bob.post("/api/collections", { title: "T", namespace: "lab" })).status).toBe(403);
    expect((await anonymous.post("/api/collections", { title: "T", namespace: "lab" })).status).toBe(401);
    expect((await ada.post("/api/collections", { title: "T", namespace: "nobody" })).status).toBe(404);
  });

  it("that is private does not exist for others, by any route", async () => {
    const slug = await make(ada, { title: "Hidden", private: true });
    for (const who of [bob, anonymous]) {
      expect((await who.get(`/api/collections/${slug}`)).status).toBe(404);
      expect(await titles(who, "?owner=ada")).toEqual([]);
      expect(await titles(who, `?item=collections/${slug}`)).toEqual([]);
    }
    const mine = await make(bob, { title: "Mine" });
    expect((await add(bob, mine, "collection", slug)).status).toBe(404);
    expect((await add(bob, mine, "collection", slug.slice(-24))).status).toBe(404);
    expect(await titles(ada, "?owner=ada")).toEqual(["Hidden"]);
    expect(await titles(admin, "?owner=ada")).toEqual(["Hidden"]);
  });

  it("refuses what it can't be", async () => {
    const slug = await make(ada, { title: "A" });
    const bad: unknown[] = [
      {},
      { title: "" },
      { title: "x".repeat(101) },
      { title: 3 },
      { title: "B", resourceGroupId: "1" },
      [],
    ];
    for (const body of bad)
      expect((await ada.post("/api/collections", body)).status).toBe(422 - (Array.isArray(body) ? 22 : 0));
    for (const body of [{ theme: "black" }, { position: -1 }, { position: 1.5 }, { title: "" }, { private: "yes" }])
      expect((await ada.send("PATCH", `/api/collections/${slug}`, body)).status).toBe(422);
    for (const path of ["ada/none", `ada/${"0".repeat(24)}`, "ada/%2e%2e", `ada/x%2F${slug.slice(-24)}`])
      expect((await ada.get(`/api/collections/${path}`)).status).toBe(404);
    expect((await ada.post(`/api/collections/${slug}/resource-group`, { resourceGroupId: "x" })).status).toBe(501);
  });
});

describe("the items", () => {
  it("are added, noted, moved and removed", async () => {
    const slug = await make(ada, { title: "Mixed" });
    const nested = await make(ada, { title: "Nested" });
    const first = await add(ada, slug, "model", "Ada/Digits", "<b>mine</b>");
    expect(Whole.parse(first.body).items).toHaveLength(1);
    expect((await add(ada, slug, "dataset", "datasets/bob/faces")).status).toBe(200);
    expect((await add(ada, slug, "collection", nested)).status).toBe(200);
    expect((await add(ada, slug, "collection", slug.slice(-24))).status).toBe(200);
    expect((await add(ada, slug, "model", "ada/digits")).status).toBe(409);
    expect((await add(ada, slug, "dataset", "ada/digits")).status).toBe(404);
    for (const type of ["space", "paper", "bucket"]) expect((await add(ada, slug, type, "a/b")).status).toBe(422);
    const { items } = await read(ada, slug);
    expect(items.map(({ type, id }) => [type, id])).toEqual([
      ["model", "ada/digits"],
      ["dataset", "bob/faces"],
      ["collection", nested.slice(-24)],
      ["collection", slug.slice(-24)],
    ]);
    expect(items[0]).toMatchObject({ note: { text: "<b>mine</b>" }, repoType: "model", author: "ada", private: false });
    expect(items[0]?.note?.html).not.toContain("<");
    expect(items[2]?.slug).toBe(nested);
    expect(items[3]?.numberItems).toBe(4);
    const at = (i: number): string => `/api/collections/${slug}/items/${items[i]?._id}`;
    expect((await ada.send("PATCH", at(0), { position: 1, note: "new" })).status).toBe(200);
    expect((await ada.send("PATCH", at(3), { position: 0 })).status).toBe(200);
    expect((await read(ada, slug)).items.map(({ _id, position }) => [_id, position])).toEqual(
      [3, 1, 0, 2].map((was, is) => [items[was]?._id, is]),
    );
    expect((await ada.send("PATCH", at(3), { position: 99 })).status).toBe(200);
    expect((await read(ada, slug)).items.at(-1)?._id).toBe(items[3]?._id);
    expect((await ada.send("DELETE", at(1))).status).toBe(200);
    expect((await ada.send("DELETE", at(1))).status).toBe(404);
    expect((await ada.send("PATCH", at(1), { note: "gone" })).status).toBe(404);
    expect((await add(ada, slug, "dataset", "bob/faces")).status).toBe(200);
    expect((await itemIds(ada, slug)).at(-1)).toBe("bob/faces");
  });

  it("of one collection are not changed through another", async () => {
    const [mine, theirs] = [await make(ada, { title: "Mine" }), await make(bob, { title: "Theirs" })];
    await add(ada, mine, "model", "ada/digits");
    const [item] = (await read(ada, mine)).items;
    for (const method of ["PATCH", "DELETE"]) {
      const answer = await bob.send(method, `/api/collections/${theirs}/items/${item?._id}`, { note: "bob was here" });
      expect(answer.status).toBe(404);
    }
    expect((await read(ada, mine)).items).toEqual([item]);
  });

  it("that the reader may not see are left out, everywhere", async () => {
    const slug = await make(ada, { title: "Some" });
    const hidden = await make(ada, { title: "Hidden", private: true });
    await add(ada, slug, "model", "ada/secret");
    await add(ada, slug, "model", "ada/digits");
    await add(ada, slug, "collection", hidden);
    const outer = await make(bob, { title: "Outer" });
    await add(bob, outer, "collection", slug);
    for (const who of [bob, anonymous]) {
      expect(await itemIds(who, slug)).toEqual(["ada/digits"]);
      expect((await listed(who, "?owner=ada")).map(({ items }) => items.map(({ id }) => id))).toEqual([["ada/digits"]]);
      expect(await titles(who, "?item=models/ada/secret")).toEqual([]);
      expect((await read(who, outer)).items[0]?.numberItems).toBe(1);
    }
    expect(await itemIds(ada, slug)).toEqual(["ada/secret", "ada/digits", hidden.slice(-24)]);
    const page = await anonymous.get(`/collections/${slug}`);
    expect(page.text).toContain('href="/ada/digits"');
    expect(page.text).not.toContain("secret");
    expect(page.text).not.toContain("Hidden");
    expect((await anonymous.get(`/collections/${hidden}`)).status).toBe(404);
    expect(await titles(ada, "?item=models/ada/secret")).toEqual(["Some"]);
    expect((await add(bob, outer, "model", "ada/secret")).status).toBe(404);
  });

  it("go with what they name", async () => {
    const slug = await make(ada, { title: "Some" });
    const nested = await make(ada, { title: "Nested" });
    await add(ada, slug, "model", "ada/digits");
    await add(ada, slug, "collection", nested);
    await ada.send("DELETE", "/api/repos/delete", { name: "digits" });
    await ada.send("DELETE", `/api/collections/${nested}`);
    expect(await itemIds(ada, slug)).toEqual([]);
  });

  it("are added once when two try, and keep whole numbers", async () => {
    const slug = await make(ada, { title: "Race" });
    const answers = await Promise.all([
      add(ada, slug, "model", "ada/digits"),
      add(ada, slug, "model", "ada/digits"),
      add(ada, slug, "dataset", "bob/faces"),
      add(ada, slug, "model", "ada/secret"),
    ]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 409]);
    expect((await read(ada, slug)).items.map(({ position }) => position)).toEqual([0, 1, 2]);
  });
});

describe("the list", () => {
  it("is paged, filtered and shows four items of each", async () => {
    const slugs: string[] = [];
    for (const title of ["One", "Two", "Three"]) slugs.push(await make(ada, { title, description: `about ${title}` }));
    await make(bob, { title: "Four" });
    for (const [i, name] of ["a", "b", "c", "d", "e"].entries()) {
      await ada.post("/api/repos/create", { name });
      await add(ada, slugs[0] ?? "", "model", `ada/${name}`, `note ${i}`);
    }
    expect(await titles(anonymous)).toEqual(["One", "Four", "Three", "Two"]);
    expect((await listed(anonymous))[0]?.items.map(({ id }) => id)).toEqual(["ada/a", "ada/b", "ada/c", "ada/d"]);
    expect(await titles(anonymous, "?item=models/ada/e&item=models/ada/nothing")).toEqual(["One"]);
    expect(await titles(anonymous, "?item=papers/2311.12983")).toEqual([]);
    expect(await titles(anonymous, "?owner=BOB&owner=nobody")).toEqual(["Four"]);
    expect(await titles(anonymous, "?q=ABOUT T&sort=trending")).toEqual(["Three", "Two"]);
    const pages: string[][] = [];
    let next: string | undefined = "/api/collections?limit=2&owner=ada&sort=upvotes";
    while (next !== undefined) {
      const answer = await anonymous.get(next);
      pages.push(List.parse(answer.body).map(({ title }) => title));
      next = /^<(http:\/\/hub\.test[^>]+)>; rel="next"$/.exec(answer.headers.get("link") ?? "")?.[1];
    }
    expect(pages).toEqual([["One", "Three"], ["Two"]]);
    for (const query of ["?cursor=forged", "?sort=size", `?${"owner=x&".repeat(101)}`])
      expect((await anonymous.get(`/api/collections${query}`)).status).toBe(400);
    expect((await anonymous.get("/api/collections?limit=0")).status).toBe(422);
  });
});
