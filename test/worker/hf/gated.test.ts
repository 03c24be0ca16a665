// Gated repositories: every way to their bytes, for everyone who may and everyone who may not; asking, deciding, and what the trail keeps.
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import {
  type Answer,
  administrator,
  anonymous,
  type Client,
  fileLine,
  lfsLine,
  uploadLfs,
  user,
} from "../../kit/actors";
import { safetensors } from "../../kit/jobs";
import { digestOf } from "../../kit/upkeep";
import { buildFile, randomBytes } from "../../kit/xet";
import { connect, type XetClient } from "../../kit/xet-client";

const REPO = "lab/gated";
const API = `/api/models/${REPO}`;
const CARD = `---
license: mit
extra_gated_prompt: For research only.
extra_gated_fields:
  Company: text
  Country: country
  Born: date_picker
  Purpose:
    type: select
    options: [Research, {label: Something else, value: other}]
  I agree: checkbox
---
# Gated
`;
const ANSWERS = { Company: "Acme", Country: "FR", Born: "1990-02-03", Purpose: "other", "I agree": true };
const WEIGHTS = safetensors({ w: [1, 2, 3, 4] });
const WEIGHTS_OID = digestOf(WEIGHTS);

let people: Record<string, Client>;
const who = (name: string): Client => people[name] ?? anonymous;
const ask = (name: string, answers: unknown = ANSWERS): Promise<Answer> =>
  who(name).post(`/${REPO}/ask-access`, answers);
const handle = (user: string, status: string, by = "ada"): Promise<Answer> =>
  who(by).post(`${API}/user-access-request/handle`, { user, status });

async function prepare(gated: "auto" | "manual" = "manual"): Promise<void> {
  const admin = await administrator();
  people = { root: admin };
  for (const name of ["ada", "wil", "rea", "stranger", "asked", "accepted", "rejected", "revoked"])
    people[name] = await user(admin, name);
  await who("ada").post("/api/v1/organizations", { name: "lab" });
  await who("ada").send("PUT", "/api/v1/organizations/lab/members/wil", { role: "write" });
  await who("ada").send("PUT", "/api/v1/organizations/lab/members/rea", { role: "read" });
  await who("ada").post("/api/repos/create", { name: "gated", organization: "lab" });
  await uploadLfs(who("ada"), REPO, WEIGHTS);
  await who("ada").commit(REPO, [
    fileLine("README.md", CARD),
    fileLine("config.json", "{}"),
    lfsLine("model.safetensors", WEIGHTS_OID, WEIGHTS.length),
  ]);
  expect((await who("ada").send("PUT", `${API}/settings`, { gated })).status).toBe(200);
}

describe("the bytes of a gated repository", () => {
  const IN = ["root", "ada", "wil", "accepted"];
  const OUT = ["anonymous", "stranger", "asked", "rejected", "revoked", "rea"];
  const file = buildFile(randomBytes(7, 200_000));
  let reading: Map<string, XetClient>;

  /** What each way answers when it opens. */
  const WAYS: [string, number, (client: Client, name: string) => Promise<Response>][] = [
    ["auth-check", 200, (client) => client.raw("GET", `${API}/auth-check`)],
    ["a small file", 200, (client) => client.raw("GET", `/${REPO}/resolve/main/config.json`)],
    ["an LFS file", 200, (client) => client.raw("GET", `/${REPO}/resolve/main/model.safetensors`)],
    ["HEAD of a file", 200, (client) => client.raw("HEAD", `/${REPO}/resolve/main/config.json`)],
    [
      "a range",
      206,
      (client) => client.raw("GET", `/${REPO}/resolve/main/config.json`, { headers: { range: "bytes=0-0" } }),
    ],
    ["raw", 200, (client) => client.raw("GET", `/${REPO}/raw/main/config.json`)],
    ["a pointer", 200, (client) => client.raw("GET", `/${REPO}/raw/main/model.safetensors`)],
    ["a Xet token", 200, (client) => client.raw("GET", `${API}/xet-read-token/main`)],
    [
      "a reconstruction with a token of before",
      200,
      async (_, name) => {
        const xet = reading.get(name);
        if (xet === undefined) throw new Error("no token");
        return xet.cas("GET", `/v2/reconstructions/${file.file.hash}`);
      },
    ],
    [
      "the LFS batch call",
      200,
      (client) =>
        client.raw("POST", `/${REPO}.git/info/lfs/objects/batch`, {
          body: JSON.stringify({ operation: "download", objects: [{ oid: WEIGHTS_OID, size: WEIGHTS.length }] }),
        }),
    ],
    ["an LFS object", 200, (client) => client.raw("GET", `/${REPO}.git/info/lfs/objects/${WEIGHTS_OID}`)],
    [
      "git",
      200,
      (client) =>
        client.raw("GET", `/${REPO}.git/info/refs?service=git-upload-pack`, {
          headers: { "git-protocol": "version=2" },
        }),
    ],
    [
      "git's packs",
      200,
      (client) =>
        client.raw("POST", `/${REPO}.git/git-upload-pack`, {
          headers: { "git-protocol": "version=2", "content-type": "application/x-git-upload-pack-request" },
          body: "0014command=ls-refs\n0000",
        }),
    ],
    ["the page of a file", 200, (client) => client.raw("GET", `/${REPO}/blob/main/config.json`)],
  ];

  beforeEach(async () => {
    await prepare();
    const writing = await connect(who("ada"), REPO, "write");
    await writing.upload(file);
    // Whoever had a token while the files were open to all holds it still.
    await who("ada").send("PUT", `${API}/settings`, { gated: false });
    reading = new Map();
    for (const name of [...IN, ...OUT]) reading.set(name, await connect(who(name), REPO, "read"));
    await who("ada").send("PUT", `${API}/settings`, { gated: "manual" });
    for (const name of ["asked", "accepted", "rejected", "revoked"]) await ask(name);
    for (const name of ["accepted", "revoked"]) await handle(name, "accepted");
    await handle("rejected", "rejected");
    await handle("revoked", "pending");
  });

  it("are there for writers and whoever was let in, and for nobody else, whichever way they come", async () => {
    for (const [way, opens, take] of WAYS) {
      for (const name of IN) {
        const answer = await take(who(name), name);
        await answer.arrayBuffer();
        expect([way, name, answer.status]).toEqual([way, name, opens]);
      }
      for (const name of OUT) {
        const answer = await take(who(name), name);
        await answer.arrayBuffer();
        expect([way, name, answer.status]).toEqual([way, name, name === "anonymous" ? 401 : 403]);
        if (["git", "git's packs", "the page of a file", "a reconstruction with a token of before"].includes(way))
          continue;
        expect([way, name, answer.headers.get("x-error-code")]).toEqual([way, name, "GatedRepo"]);
        expect(answer.headers.get("x-error-message")).toContain(`/${REPO}/ask-access`);
      }
    }
  });

  it("leave their metadata to everyone who sees the repository", async () => {
    for (const name of [...IN, ...OUT])
      for (const path of [API, `${API}/tree/main`, `${API}/refs`, `${API}/commits/main`, `/${REPO}`])
        expect([name, path, (await who(name).get(path)).status]).toEqual([name, path, 200]);
    expect((await anonymous.get(API)).body).toMatchObject({ gated: "manual", private: false });
    expect(await anonymous.raw("GET", `/${REPO}`).then((page) => page.text())).toContain("ask-access");
  });

  it("are no input of a job for who has no access", async () => {
    await who("ada").post("/api/repos/create", { name: "data", type: "dataset" });
    for (const [name, status] of [
      ["stranger", 403],
      ["accepted", 422],
    ] as const) {
      const request = { kind: "evaluate", model: REPO, dataset: "ada/data", split: "test" };
      // Who may use the files is told what else is wrong: there is nothing to evaluate on.
      expect((await who(name).post("/api/v1/jobs", request)).status).toBe(status);
    }
  });

  it("are linked by their digest only by who has access", async () => {
    for (const [name, status] of [
      ["stranger", 422],
      ["revoked", 422],
      ["accepted", 200],
    ] as const) {
      await who(name).post("/api/repos/create", { name: "copy" });
      const line = lfsLine("stolen.safetensors", WEIGHTS_OID, WEIGHTS.length);
      expect([name, (await who(name).commit(`${name}/copy`, [line])).status]).toEqual([name, status]);
      const verified = await who(name).post(`/${name}/copy.git/info/lfs/verify`, {
        oid: WEIGHTS_OID,
        size: WEIGHTS.length,
      });
      expect([name, verified.status]).toEqual([name, status]);
    }
  });

  it("are not built into another file by who only knows their chunks", async () => {
    await who("stranger").post("/api/repos/create", { name: "thief" });
    const thief = await connect(who("stranger"), "stranger/thief", "write");
    expect((await thief.sendBytes("/v2/shards", file.shard)).text).toContain("may not refer to it");
    const member = await connect(who("wil"), REPO, "write");
    expect((await member.sendBytes("/v2/shards", file.shard)).text).toContain('"type":"result"');
  });

  it("can't be copied within the repository by a proposal of who may not read them", async () => {
    const line = { key: "copyFile", value: { path: "copy.json", srcPath: "config.json", srcRevision: "main" } };
    const propose = (name: string) =>
      who(name).raw("POST", `${API}/commit/main?create_pr=1`, {
        body: [{ key: "header", value: { summary: "copy" } }, line].map((one) => JSON.stringify(one)).join("\n"),
      });
    expect((await propose("stranger")).status).toBe(403);
    expect((await propose("accepted")).status).toBe(200);
  });
});

describe("asking for access", () => {
  beforeEach(() => prepare());

  it("needs an answer to each question of the card, of the kind that it asks for", async () => {
    for (const [field, wrong] of [
      ["Company", ""],
      ["Company", "x".repeat(2001)],
      ["Country", "France"],
      ["Born", "1990-13-45"],
      ["Purpose", "Mischief"],
      ["I agree", false],
    ] as const) {
      const answer = await ask("stranger", { ...ANSWERS, [field]: wrong });
      expect([answer.status, answer.body]).toMatchObject([422, { field }]);
      const { [field]: _, ...rest } = ANSWERS;
      expect((await ask("stranger", rest)).body).toMatchObject({ field });
    }
    expect((await who("ada").get(`${API}/user-access-request/pending`)).body).toEqual([]);
  });

  it("takes forms and JSON, once, and shows the answers to those who decide", async () => {
    const form = new URLSearchParams(
      Object.entries(ANSWERS).map(([name, value]): [string, string] => [name, String(value)]),
    );
    const asked = await who("stranger").raw("POST", `/${REPO}/ask-access`, { body: form });
    expect([asked.status, await asked.json()]).toEqual([200, { status: "pending" }]);
    expect((await ask("stranger")).status).toBe(409);
    expect((await ask("asked")).body).toEqual({ status: "pending" });
    const { body } = await who("wil").get(`${API}/user-access-request/pending`);
    expect(body).toMatchObject([
      { user: { user: "asked" }, status: "pending" },
      {
        user: { user: "stranger", fullname: "stranger" },
        status: "pending",
        fields: { Company: "Acme", "I agree": "true" },
      },
    ]);
  });

  it("is answered at once where the gate is automatic", async () => {
    await who("ada").send("PUT", `${API}/settings`, { gated: "auto" });
    expect((await ask("stranger")).body).toEqual({ status: "accepted" });
    expect((await who("stranger").get(`/${REPO}/resolve/main/config.json`)).status).toBe(200);
  });

  it("can be taken back, but a rejection stays", async () => {
    expect((await who("asked").send("DELETE", `/${REPO}/ask-access`)).status).toBe(404);
    await ask("asked");
    expect((await who("asked").send("DELETE", `/${REPO}/ask-access`)).status).toBe(200);
    await ask("asked");
    await handle("asked", "accepted");
    expect((await who("asked").post(`${API}/user-access-request/cancel`)).status).toBe(200);
    expect((await who("asked").get(`/${REPO}/resolve/main/config.json`)).status).toBe(403);
    await ask("asked");
    await handle("asked", "rejected");
    expect((await who("asked").send("DELETE", `/${REPO}/ask-access`)).status).toBe(404);
    expect((await ask("asked")).status).toBe(409);
  });

  it("of two at once one is a request", async () => {
    const statuses = (await Promise.all([ask("asked"), ask("asked"), ask("asked")])).map(({ status }) => status);
    expect(statuses.sort()).toEqual([200, 409, 409]);
  });

  it("is refused to visitors, for what is open, and where nothing is seen", async () => {
    expect((await anonymous.post(`/${REPO}/ask-access`, ANSWERS)).status).toBe(401);
    await who("ada").send("PUT", `${API}/settings`, { gated: false });
    expect((await ask("stranger")).status).toBe(400);
    await who("ada").send("PUT", `${API}/settings`, { gated: "auto", visibility: "private" });
    expect((await ask("stranger")).status).toBe(404);
    expect((await who("stranger").post("/api/gated/ask-access", {})).status).toBe(404);
    const broken = await who("rea").raw("POST", `/${REPO}/ask-access`, {
      body: "no boundary",
      headers: { "content-type": "multipart/form-data" },
    });
    expect(broken.status).toBe(400);
  });
});

describe("deciding over access", () => {
  const List = z.array(
    z.object({
      requestId: z.string(),
      user: z.looseObject({ user: z.string() }),
      status: z.string(),
      timestamp: z.iso.datetime(),
    }),
  );
  const listed = async (status: string) =>
    List.parse((await who("ada").get(`${API}/user-access-request/${status}`)).body);
  const grant = (name: string, by = "ada") => who(by).post(`${API}/user-access-request/grant`, { user: name });
  beforeEach(() => prepare());

  it("moves a request from list to list, and says when there is nothing to move", async () => {
    expect((await grant("stranger")).body).toEqual({});
    expect(await listed("accepted")).toMatchObject([{ user: { user: "stranger" }, status: "accepted" }]);
    expect(Object.keys((await listed("accepted"))[0]?.user ?? {})).not.toContain("email");
    expect((await grant("stranger")).status).toBe(400);
    for (const status of ["pending", "rejected", "accepted"]) {
      expect((await handle("stranger", status)).status).toBe(200);
      expect((await handle("stranger", status)).status).toBe(404);
      expect((await listed(status)).map(({ user: { user } }) => user)).toEqual(["stranger"]);
    }
    const [request] = await listed("accepted");
    const byId = { requestId: request?.requestId, status: "rejected", rejectionReason: "no" };
    expect((await who("wil").post(`${API}/user-access-request/handle`, byId)).status).toBe(200);
  });

  it("names who is no user, who did not ask, and what is not said", async () => {
    expect((await handle("nobody", "accepted")).status).toBe(404);
    expect((await handle("asked", "accepted")).status).toBe(404);
    expect((await grant("lab")).status).toBe(404);
    expect((await handle("asked", "perhaps")).status).toBe(422);
    expect((await who("ada").post(`${API}/user-access-request/handle`, { status: "accepted" })).status).toBe(422);
    expect((await who("ada").get(`${API}/user-access-request/pending?cursor=e30`)).status).toBe(400);
  });

  it("is for writers of a gated repository", async () => {
    for (const [name, status] of [
      ["anonymous", 401],
      ["stranger", 403],
      ["rea", 403],
      ["wil", 200],
    ] as const) {
      expect((await who(name).get(`${API}/user-access-request/pending`)).status).toBe(status);
      await handle("asked", "pending");
      expect((await grant("asked", name)).status).toBe(status);
      expect((await handle("asked", "rejected", name)).status).toBe(status);
    }
    await who("ada").send("PUT", `${API}/settings`, { gated: false });
    expect((await who("ada").get(`${API}/user-access-request/pending`)).status).toBe(400);
    expect((await handle("asked", "accepted")).status).toBe(400);
    expect((await grant("asked")).status).toBe(400);
  });

  it("pages through requests, newest first, each once", async () => {
    for (const name of ["asked", "accepted", "rejected"]) await ask(name);
    const seen: string[] = [];
    for (let path: string | undefined = `${API}/user-access-request/pending?limit=1`; path !== undefined; ) {
      const answer: Answer = await who("ada").get(path);
      seen.push(...List.parse(answer.body).map(({ user: { user } }) => user));
      path = /<([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];
    }
    expect(seen.sort()).toEqual(["accepted", "asked", "rejected"]);
  });

  it("leaves its steps in the trail", async () => {
    await ask("asked");
    await handle("asked", "accepted");
    await handle("asked", "pending");
    const { body } = await who("ada").get("/api/v1/audit?namespace=lab");
    const events = z.object({ events: z.array(z.looseObject({ type: z.string() })) }).parse(body).events;
    expect(events.map(({ type }) => type)).toEqual(
      expect.arrayContaining(["access.requested", "access.accepted", "access.reopened", "repo.gating_changed"]),
    );
  });
});

describe("settings", () => {
  beforeEach(() => prepare());

  it("are for admins, and what is not known is named", async () => {
    const put = (name: string, body: unknown) => who(name).send("PUT", `${API}/settings`, body);
    expect((await put("wil", { gated: "auto" })).status).toBe(403);
    expect((await put("ada", { gated: true })).status).toBe(422);
    expect(await put("ada", { description: "x" })).toMatchObject({
      status: 422,
      body: { error: expect.stringContaining("description") },
    });
    expect((await put("ada", { gated: "auto", private: true })).status).toBe(200);
    expect((await who("ada").get(API)).body).toMatchObject({ gated: "auto", private: true });
    expect((await put("ada", { visibility: "public", gated: false })).status).toBe(200);
    expect((await anonymous.get(API)).body).toMatchObject({ gated: false, private: false });
  });
});
