// Lists of repositories: whatever the filters, the order and the page, exactly what the caller may see, each once.
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { identify } from "../../../src/access/tokens";
import { type Filter, listRepos, type Order } from "../../../src/hub/listing";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";
import { countRowsRead } from "../../kit/round-trips";

let admin: Client;
let ada: Client;
let bob: Client;

beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
});

type Fixture = {
  readonly type: "model" | "dataset";
  readonly owner: string;
  readonly name: string;
  readonly private: boolean;
  readonly gated: boolean;
  readonly likes: number;
  readonly downloads: number;
  readonly updated: number;
  readonly parameters: number;
  readonly task: string | null;
  readonly tags: readonly string[];
};

/** Rows as the hub would have written them; ids are in the order of creation. */
async function plant(repos: readonly Fixture[]): Promise<void> {
  const rows = repos.map((repo, i) => ({ ...repo, id: String(i).padStart(6, "0"), created: 1000 + i }));
  const from = `from json_each(?) v`;
  const of = (name: string) => `v.value ->> '${name}'`;
  const run = (sql: string) => env.DB.prepare(sql).bind(JSON.stringify(rows));
  await env.DB.batch([
    run(`insert into repos (id, type, owner_id, name, name_key, private, created_at, updated_at, gated, likes, downloads)
      select ${of("id")}, ${of("type")}, (select id from accounts where name = ${of("owner")}), ${of("name")}, lower(${of("name")}),
        ${of("private")}, ${of("created")}, ${of("updated")}, iif(${of("gated")}, 'auto', null), ${of("likes")}, ${of("downloads")} ${from}`),
    run(`insert into repo_index (repo_id, tree, version, pipeline_tag, parameters, used_storage)
      select ${of("id")}, '', 1, ${of("task")}, ${of("parameters")}, 0 ${from}`),
    run(`insert into repo_tags (repo_id, tag) select ${of("id")}, t.value ${from}, json_each(v.value, '$.tags') t`),
  ]);
}

const one: Fixture = {
  type: "model",
  owner: "ada",
  name: "one",
  private: false,
  gated: false,
  likes: 0,
  downloads: 0,
  updated: 1000,
  parameters: 0,
  task: null,
  tags: [],
};

const Items = z.array(z.object({ _id: z.string(), id: z.string() }));
const nextOf = (headers: Headers): string | undefined =>
  /^<(http[^>]*)>; rel="next"$/.exec(headers.get("link") ?? "")?.[1];

/** All pages. */
async function listed(client: Client, path: string): Promise<string[]> {
  const ids: string[] = [];
  for (let next: string | undefined = path; next !== undefined; ) {
    const page = await client.get(next);
    expect([page.status, page.text.slice(0, 200)]).toEqual([200, expect.stringMatching(/^\[/)]);
    ids.push(...Items.parse(page.body).map(({ id }) => id));
    next = nextOf(page.headers);
  }
  return ids;
}

describe("any query over any repositories", () => {
  const OWNERS = ["ada", "bob"] as const;
  const TAGS = ["gguf", "license:mit", "language:de", "de"] as const;
  const TASKS = ["text-generation", "fill-mask"] as const;
  const ORDERS = ["lastModified", "createdAt", "likes", "downloads", "num_parameters"] as const;
  const few = fc.integer({ min: 0, max: 3 });
  const fixture = fc.record({
    type: fc.constantFrom("model", "dataset"),
    owner: fc.constantFrom(...OWNERS),
    name: fc.stringMatching(/^[abAB]{1,4}$/),
    private: fc.boolean(),
    gated: fc.boolean(),
    likes: few,
    downloads: few,
    updated: few,
    parameters: few,
    task: fc.option(fc.constantFrom(...TASKS)),
    tags: fc.subarray([...TAGS]),
  });
  const filter: fc.Arbitrary<Filter> = fc.oneof(
    fc.record({ kind: fc.constant("search" as const), text: fc.stringMatching(/^[abAB/]{1,5}$/) }),
    fc.record({ kind: fc.constant("author" as const), name: fc.constantFrom("ada", "BOB", "nobody") }),
    fc.record({ kind: fc.constant("tag" as const), anyOf: fc.subarray([...TAGS], { minLength: 1 }) }),
    fc.record({ kind: fc.constant("task" as const), task: fc.constantFrom(...TASKS) }),
    fc.record({ kind: fc.constant("gated" as const), gated: fc.boolean() }),
    fc.record({ kind: fc.constant("parameters" as const), min: few, max: few }),
  );

  const holds = (repo: Fixture, wanted: Filter): boolean => {
    switch (wanted.kind) {
      case "search":
        return `${repo.owner}/${repo.name}`.toLowerCase().includes(wanted.text.toLowerCase());
      case "author":
        return repo.owner === wanted.name.toLowerCase();
      case "tag":
        return wanted.anyOf.some((tag) => repo.tags.includes(tag));
      case "task":
        return repo.task === wanted.task;
      case "gated":
        return repo.gated === wanted.gated;
      case "parameters":
        return repo.parameters >= Math.max(1, wanted.min) && repo.parameters <= wanted.max;
    }
  };
  const sortedBy = (repo: Fixture, created: number, order: Order): number => {
    if (order === "createdAt") return created;
    if (order === "num_parameters") return repo.parameters;
    return order === "likes" || order === "downloads" ? repo[order] : repo.updated;
  };

  it("gives the matching ones that the caller may see, each once and in order, found or gone through", async () => {
    const clients = { ada, bob, admin, anonymous };
    const actors = new Map<string, Awaited<ReturnType<typeof identify>>>();
    const platform = cloudflarePlatform(env, "listing", () => {});
    for (const [name, { token }] of Object.entries(clients))
      actors.set(name, await identify(platform, token === undefined ? null : `Bearer ${token}`));
    const query = fc.record({
      type: fc.constantFrom("model" as const, "dataset" as const),
      filters: fc.array(filter, { maxLength: 3 }),
      order: fc.constantFrom(...ORDERS),
      ascending: fc.boolean(),
      limit: fc.integer({ min: 1, max: 7 }),
      who: fc.constantFrom("ada", "bob", "admin", "anonymous"),
      found: fc.constantFrom(0, 3, 1000),
      walked: fc.constantFrom(1, 4, 5000),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fixture, { maxLength: 30 }),
        fc.array(query, { minLength: 4, maxLength: 8 }),
        async (drawn, queries) => {
          const named = new Map(drawn.map((repo) => [`${repo.type} ${repo.owner}/${repo.name.toLowerCase()}`, repo]));
          const repos = [...named.values()];
          await env.DB.batch(
            ["repos", "repo_index", "repo_tags", "repo_grams"].map((table) => env.DB.prepare(`delete from ${table}`)),
          );
          await plant(repos);
          for (const { who, found, walked, ...rest } of queries) {
            const actor = actors.get(who);
            if (actor === undefined) throw new Error(who);
            const got: string[] = [];
            let cursor: string | null = "";
            while (cursor !== null) {
              const page = await listRepos(
                { platform, actor },
                { ...rest, ...(cursor === "" ? {} : { cursor }) },
                { found, walked },
              );
              expect(page.repos.length).toBeLessThanOrEqual(rest.limit);
              got.push(...page.repos.map(({ repo }) => repo.id));
              cursor = page.next;
            }
            const sign = rest.ascending ? 1 : -1;
            const expected = repos
              .map((repo, i) => ({ repo, id: String(i).padStart(6, "0"), value: sortedBy(repo, i, rest.order) }))
              .filter(({ repo }) => repo.type === rest.type && rest.filters.every((wanted) => holds(repo, wanted)))
              .filter(({ repo }) => !repo.private || who === "admin" || who === repo.owner)
              .sort((a, b) => sign * (a.value - b.value || (a.id < b.id ? -1 : 1)))
              .map(({ id }) => id);
            expect(got).toEqual(expected);
          }
        },
      ),
      { numRuns: 15 },
    );
  }, 60_000);
});

describe("parameters as clients send them", () => {
  beforeEach(() =>
    plant([
      {
        ...one,
        name: "Small-LM",
        tags: ["gguf", "license:mit", "en", "transformers"],
        parameters: 5e8,
        likes: 3,
        task: "text-generation",
      },
      {
        ...one,
        name: "big-lm",
        owner: "bob",
        tags: ["safetensors", "transformers", "en", "de"],
        parameters: 7e9,
        downloads: 9,
        gated: true,
      },
      { ...one, name: "secret-lm", private: true, tags: ["gguf"], likes: 9 },
      {
        ...one,
        type: "dataset",
        name: "words",
        tags: ["language:de", "size_categories:1K<n<10K", "task_categories:fill-mask"],
      },
    ]),
  );
  const SMALL = "ada/Small-LM";
  const BIG = "bob/big-lm";

  const SAME: [string, string[]][] = [
    ["", [BIG, SMALL]],
    ["?search=LM&search=ada", [SMALL]],
    ["?search=a/SMALL", [SMALL]],
    ["?search=nothing-of-this-name", []],
    ["?author=Bob", [BIG]],
    ["?author=nobody", []],
    ["?filter=transformers&filter=gguf", [SMALL]],
    ["?filter=transformers,gguf", [SMALL]],
    ["?filter[]=transformers&filter[]=de", [BIG]],
    ["?license=mit", [SMALL]],
    ["?filter=license:mit", [SMALL]],
    ["?language=de", [BIG]],
    ["?library=transformers&sort=downloads&direction=-1", [BIG, SMALL]],
    ["?pipeline_tag=text-generation", [SMALL]],
    ["?gated=true", [BIG]],
    ["?gated=false", [SMALL]],
    ["?num_parameters=min:6B,max:128B", [BIG]],
    ["?num_parameters=max:1B", [SMALL]],
    ["?num_parameters=min:0.4b", [BIG, SMALL]],
    ["?sort=likes", [SMALL, BIG]],
    ["?sort=downloads&direction=1", [SMALL, BIG]],
    ["?sort=id", [BIG, SMALL]],
    ["?sort=trendingScore&full=true&config=true&cardData=true", [BIG, SMALL]],
    ["?apps=ollama", [SMALL]],
    ["?apps=vllm,llama.cpp", [SMALL]],
    ["?inference=warm", []],
    ["?inference_provider=all", []],
  ];
  it("are understood in each dialect", async () => {
    for (const [query, expected] of SAME)
      expect([query, await listed(bob, `/api/models${query}`)]).toEqual([query, expected]);
    expect(await listed(ada, "/api/models?filter=gguf&sort=likes")).toEqual(["ada/secret-lm", SMALL]);
    expect(await listed(bob, "/api/datasets?language=de&size_categories=1K<n<10K")).toEqual(["ada/words"]);
    expect(await listed(bob, "/api/datasets?filter=task_categories:fill-mask")).toEqual(["ada/words"]);
  });

  it("name an unknown app in a warning, spaces are an empty list, and none is found", async () => {
    const apps = await bob.get("/api/models?apps=frob");
    expect([apps.body, apps.headers.get("x-hf-warning")]).toEqual([[], expect.stringMatching(/^apps; .*frob/)]);
    expect((await bob.get("/api/spaces?search=x")).body).toEqual([]);
    const space = await bob.get("/api/spaces/ada/demo");
    expect([space.status, space.headers.get("x-error-code")]).toEqual([404, "RepoNotFound"]);
    expect((await bob.post("/api/spaces/ada/demo/like")).headers.get("x-error-code")).toBe("RepoNotFound");
  });

  it("that are wrong are a 400 that says what is right", async () => {
    for (const query of [
      "expand=nonsense",
      "sort=size",
      "direction=up",
      "gated=perhaps",
      "num_parameters=6B",
      "num_parameters=min:-1B",
      `cursor=${encodeURIComponent("e30")}`,
      "cursor=",
      `filter=${Array.from({ length: 17 }, (_, i) => i).join()}`,
    ])
      expect([query, (await bob.get(`/api/models?${query}`)).status]).toEqual([query, 400]);
    const answer = await bob.get("/api/models?expand=nonsense");
    expect(answer.body).toEqual({ error: expect.stringMatching(/^"expand" must be one of \[author, /) });
  });

  it("are bound to the pages they were asked with", async () => {
    const first = await bob.get("/api/models?limit=1&search=lm");
    const next = new URL(nextOf(first.headers) ?? "");
    expect([next.origin, next.searchParams.get("search"), next.searchParams.get("limit")]).toEqual([
      "http://hub.test",
      "lm",
      "1",
    ]);
    expect(Items.parse((await anonymous.get(next.href)).body)).toHaveLength(1);
    const cursor = next.searchParams.get("cursor") ?? "";
    for (const query of ["", "search=l&", "search=lm&sort=likes&", "search=lm&direction=1&"])
      expect((await bob.get(`/api/models?${query}cursor=${cursor}`)).status).toBe(400);
    expect((await bob.get(`/api/datasets?search=lm&cursor=${cursor}`)).status).toBe(400);
    const forged = `${cursor.slice(0, -3)}${cursor.endsWith("AAA") ? "BBB" : "AAA"}`;
    expect((await bob.get(`/api/models?search=lm&cursor=${forged}`)).status).toBe(400);
  });
});

it("pages hold while repositories come, go, are renamed and change", async () => {
  await plant(Array.from({ length: 9 }, (_, i) => ({ ...one, name: `model-${i}`, updated: 100 + i })));
  const seen: string[] = [];
  let next: string | undefined = "/api/models?limit=2&search=model";
  for (let round = 0; next !== undefined; round++) {
    const page = await ada.get(next);
    seen.push(...Items.parse(page.body).map(({ id }) => id));
    next = nextOf(page.headers);
    if (round === 0) await ada.post("/api/repos/create", { name: "model-new" });
    if (round === 1) await ada.send("DELETE", "/api/repos/delete", { name: "ada/model-2" });
    if (round === 2)
      await env.DB.prepare("update repos set name = 'other', name_key = 'other' where name = 'model-1'").run();
  }
  expect(seen).toEqual([8, 7, 6, 5, 4, 3, 0].map((i) => `ada/model-${i}`));
  expect(await listed(ada, "/api/models?search=OTHER")).toEqual(["ada/other"]);
  expect(await listed(ada, "/api/models?search=odel-1")).toEqual([]);
});

it("a page costs about its own rows, not the hub's", async () => {
  const SIZE = 3000;
  await plant(
    Array.from({ length: SIZE }, (_, i) => ({
      ...one,
      name: `model-${i.toString(36)}${i === 77 ? "-needle" : ""}`,
      updated: i,
      likes: i % 100,
      tags: ["gguf", ...(i % 300 === 0 ? ["rare"] : [])],
      task: i % 2 === 0 ? "text-generation" : null,
    })),
  );
  const most = async (query: string, rows: number): Promise<void> => {
    const { result, read } = await countRowsRead(() => anonymous.get(`/api/models?limit=30${query}`));
    expect(result.status).toBe(200);
    expect(Items.parse(result.body).length).toBeGreaterThan(0);
    expect([query, read < rows, read]).toEqual([query, true, read]);
  };
  for (const order of ["lastModified", "createdAt", "likes", "downloads", "trendingScore", "num_parameters"])
    await most(`&sort=${order}`, 300);
  await most("&filter=rare", 200);
  await most("&search=needle", 100);
  await most("&search=needle&filter=gguf&sort=likes", 1500);
  await most("&filter=gguf", 1500);
  await most("&pipeline_tag=text-generation&sort=likes", 1500);
});

describe("entries", () => {
  const CARD = "---\nlicense: mit\ntags: [tiny]\npipeline_tag: text-generation\nbase_model: bob/base\n---\n# Tiny\n";
  const Entry = z.array(z.record(z.string(), z.unknown()));
  const entries = async (query: string) => Entry.parse((await ada.get(`/api/models?${query}`)).body);

  beforeEach(async () => {
    for (const name of ["tiny", "bare"]) await ada.post("/api/repos/create", { name });
    await ada.commit("ada/tiny", [fileLine("README.md", CARD), fileLine("a/b.txt", "b"), fileLine("a/c/d.txt", "d")]);
    await ada.post("/api/models/ada/tiny/like");
  });

  it("tell counts and what the files say, as the repository itself does", async () => {
    const [tiny, bare] = await entries("sort=likes");
    const whole = z.record(z.string(), z.unknown()).parse((await ada.get("/api/models/ada/tiny")).body);
    expect(tiny).toMatchObject({
      id: "ada/tiny",
      author: "ada",
      pipeline_tag: "text-generation",
      likes: 1,
      downloads: 0,
      private: false,
    });
    expect(tiny?.tags).toEqual(expect.arrayContaining(["tiny", "license:mit", "base_model:bob/base"]));
    for (const key of ["_id", "modelId", "sha", "createdAt", "lastModified", "tags", "gated", "likes"])
      expect([key, tiny?.[key]]).toEqual([key, whole[key]]);
    expect(tiny).not.toHaveProperty("siblings");
    expect(bare).toMatchObject({ id: "ada/bare", downloadsAllTime: 0, trendingScore: 0 });
    expect((await entries("filter=tiny&filter=license:mit&pipeline_tag=text-generation")).length).toBe(1);
  });

  it("hold files, cards and what is expanded where they are asked for", async () => {
    const [full] = await entries("full=true&cardData=true&search=tiny");
    const paths = [".gitattributes", "README.md", "a/b.txt", "a/c/d.txt"];
    expect(full?.siblings).toEqual(paths.map((rfilename) => ({ rfilename })));
    expect(full?.cardData).toMatchObject({ license: "mit", base_model: "bob/base" });
    const [some] = await entries("expand=likes&expand=baseModels&expand[]=trendingScore,gated&search=tiny");
    expect(some).toEqual({
      _id: full?._id,
      id: "ada/tiny",
      modelId: "ada/tiny",
      likes: 1,
      trendingScore: 0,
      gated: false,
      baseModels: { relation: "finetune", models: [{ id: "bob/base" }] },
    });
    expect((await entries("full=true&limit=1")).map(({ siblings }) => siblings)).toHaveLength(1);
  });
});
