// Collections and who one is, as the stock JavaScript client speaks of them.
import { createCollection, createRepo, deleteCollection, listCollections, whoAmI } from "@huggingface/hub";
import { describe, expect, it } from "vitest";
import { newPerson, sharedHub } from "./people.ts";

describe("@huggingface/hub", () => {
  it("keeps collections", async () => {
    const { name, token } = await newPerson("collector");
    const hub = { hubUrl: sharedHub().endpoint, accessToken: token };
    await createRepo({ ...hub, repo: `${name}/model` });
    const { slug } = await createCollection({ ...hub, collection: { title: "Test Collection", namespace: name } });
    expect(slug).toMatch(new RegExp(`^${name}/test-collection-[0-9a-f]{24}$`));
    // What the client does not export it would send so: it names a collection by its id.
    for (const [type, id] of [
      ["collection", slug.slice(-24)],
      ["model", `${name}/model`],
    ]) {
      const answer = await fetch(`${hub.hubUrl}/api/collections/${slug}/items`, {
        method: "POST",
        body: JSON.stringify({ item: { type, id }, note: "a <note>" }),
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      });
      expect(answer.status).toBe(200);
    }
    const found: unknown[] = [];
    for await (const one of listCollections({ ...hub, search: { owner: [name] } })) found.push(one);
    expect(found).toMatchObject([
      {
        slug,
        title: "Test Collection",
        gating: false,
        theme: "orange",
        private: false,
        owner: { name, type: "user", isPro: false },
        items: [
          { type: "collection", id: slug.slice(-24), slug, note: { text: "a <note>" }, numberItems: 2 },
          { type: "model", id: `${name}/model`, author: name, gated: false, likes: 0, private: false },
        ],
      },
    ]);
    const titles: string[] = [];
    for await (const one of listCollections({ ...hub, search: { item: [`models/${name}/model`] } }))
      titles.push(one.title);
    expect(titles).toEqual(["Test Collection"]);
    await deleteCollection({ ...hub, slug });
    await expect(deleteCollection({ ...hub, slug })).rejects.toMatchObject({ statusCode: 404 });
  });

  it("knows who it is", async () => {
    const { name, token } = await newPerson("self");
    const me = await whoAmI({ hubUrl: sharedHub().endpoint, accessToken: token });
    expect(me).toMatchObject({ type: "user", name, fullname: name, auth: { accessToken: { role: "write" } } });
    expect(me.auth.accessToken?.createdAt).toBeInstanceOf(Date);
  });
});
