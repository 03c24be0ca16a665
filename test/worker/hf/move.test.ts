// Repositories that move: what their former names lead to, who is told, and what happens when several want one name at once.
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { administrator, anonymous, type Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";
import { digestOf } from "../../kit/upkeep";

const BYTES = new TextEncoder().encode("some weights");
const OID = digestOf(BYTES);
let ada: Client;
let eve: Client;

const move = (fromRepo: string, toRepo: string, by = ada, type = "model") =>
  by.post("/api/repos/move", { fromRepo, toRepo, type });
/** Where an address leads to, and what is there in the end. */
async function follow(client: Client, method: string, path: string, init: RequestInit = {}) {
  const hops: string[] = [];
  for (let at = path; ; ) {
    const response = await client.raw(method, at, init);
    await response.clone().arrayBuffer();
    if (response.status !== 307) return { hops, response };
    at = response.headers.get("location") ?? "";
    hops.push(at);
  }
}

beforeEach(async () => {
  const admin = await administrator();
  ada = await user(admin, "ada");
  eve = await user(admin, "eve");
  await ada.post("/api/v1/organizations", { name: "lab" });
  await ada.post("/api/repos/create", { name: "old" });
  await uploadLfs(ada, "ada/old", BYTES);
  await ada.commit("ada/old", [fileLine("a b.txt", "text"), lfsLine("w.bin", OID, BYTES.length)]);
});

describe("a repository that moved", () => {
  it("answers under its former name with a redirect there, in every protocol, for reads and writes", async () => {
    expect((await move("ada/old", "lab/New")).body).toEqual({});
    const reads = [
      ["/api/models/ada/old", "/api/models/lab/New"],
      ["/api/models/ADA/Old/revision/main?blobs=true", "/api/models/lab/New/revision/main?blobs=true"],
      ["/api/models/ada/old/tree/main", "/api/models/lab/New/tree/main"],
      ["/ada/old/resolve/main/a%20b.txt?download=true", "/lab/New/resolve/main/a%20b.txt?download=true"],
      ["/ada/old/raw/main/w.bin", "/lab/New/raw/main/w.bin"],
      ["/ada/old", "/lab/New"],
      ["/ada/old/tree/main", "/lab/New/tree/main"],
      ["/ada/old.git/info/refs?service=git-upload-pack", "/lab/New.git/info/refs?service=git-upload-pack"],
      [`/ada/old.git/info/lfs/objects/${OID}`, `/lab/New.git/info/lfs/objects/${OID}`],
      ["/api/models/ada/old/xet-read-token/main", "/api/models/lab/New/xet-read-token/main"],
      ["/api/v1/models/ada/old/evaluations", "/api/v1/models/lab/New/evaluations"],
      ["/api/v1/repos/model/ada/old/storage", "/api/v1/repos/model/lab/New/storage"],
    ] as const;
    for (const [from, to] of reads) {
      const { hops, response } = await follow(anonymous, "GET", from);
      expect([from, hops, response.status]).toEqual([from, [to], 200]);
    }
    const committed = await ada.raw("POST", "/api/models/ada/old/commit/main", { body: "{}" });
    expect([committed.status, committed.headers.get("location")]).toEqual([307, "/api/models/lab/New/commit/main"]);
    expect((await ada.send("PUT", "/api/models/ada/old/settings", { gated: "auto" })).status).toBe(307);
    expect((await ada.post("/ada/old.git/info/lfs/objects/batch", {})).headers.get("location")).toBe(
      "/lab/New.git/info/lfs/objects/batch",
    );
  });

  it("is found from every name it had, in one step, and has its own name back when it returns", async () => {
    await move("ada/old", "ada/second");
    await move("ada/second", "ada/third");
    for (const name of ["old", "second"])
      expect((await follow(anonymous, "GET", `/api/models/ada/${name}`)).hops).toEqual(["/api/models/ada/third"]);
    await move("ada/third", "ada/old");
    expect((await anonymous.get("/api/models/ada/old")).status).toBe(200);
    expect((await follow(anonymous, "GET", "/api/models/ada/second")).hops).toEqual(["/api/models/ada/old"]);
  });

  it("leaves its name to whoever takes it next, for good", async () => {
    await move("ada/old", "ada/new");
    await ada.post("/api/repos/create", { name: "old" });
    expect((await anonymous.get("/ada/old/resolve/main/w.bin")).status).toBe(404);
    await ada.send("DELETE", "/api/repos/delete", { name: "old" });
    expect((await ada.get("/api/models/ada/old")).status).toBe(404);
    await ada.post("/api/repos/create", { name: "other" });
    await move("ada/new", "ada/newer");
    expect((await move("ada/other", "ada/new")).status).toBe(200);
    expect((await anonymous.get("/ada/new/resolve/main/w.bin")).status).toBe(404);
  });

  it("takes its former names along when it is deleted", async () => {
    await move("ada/old", "ada/new");
    await ada.send("DELETE", "/api/repos/delete", { name: "new" });
    expect((await ada.get("/api/models/ada/old")).status).toBe(404);
  });

  it("shows its new name only to who may see it", async () => {
    await move("ada/old", "lab/secret");
    await ada.send("PUT", "/api/models/lab/secret/settings", { private: true });
    expect((await eve.get("/api/models/ada/old")).status).toBe(404);
    expect((await anonymous.get("/api/models/ada/old")).status).toBe(401);
    expect((await ada.get("/api/models/ada/old")).headers.get("location")).toBe("/api/models/lab/secret");
  });

  it("keeps to its type: a dataset of the name is another repository", async () => {
    await ada.post("/api/repos/create", { name: "old", type: "dataset" });
    expect((await move("ada/old", "ada/data", ada, "dataset")).status).toBe(200);
    expect((await anonymous.get("/api/models/ada/old")).status).toBe(200);
    expect((await follow(anonymous, "GET", "/datasets/ada/old/raw/main/.gitattributes")).hops).toEqual([
      "/datasets/ada/data/raw/main/.gitattributes",
    ]);
    expect((await anonymous.get("/api/models/ada/data")).status).toBe(401);
  });

  it("stays what it was for those who read it before: history, bytes, and a private one's own", async () => {
    await ada.send("PUT", "/api/models/ada/old/settings", { private: true });
    const before = (await ada.get("/api/models/ada/old/commits/main")).body;
    await move("ada/old", "lab/new");
    expect((await ada.get("/api/models/lab/new/commits/main")).body).toEqual(before);
    expect((await ada.get("/lab/new/resolve/main/w.bin")).text).toBe("some weights");
    expect((await eve.get("/lab/new/resolve/main/w.bin")).status).toBe(404);
    // Who knows the digest may not link it, and members of its new owner may.
    const line = lfsLine("w.bin", OID, BYTES.length);
    await eve.post("/api/repos/create", { name: "mine" });
    await ada.post("/api/repos/create", { name: "other", organization: "lab" });
    expect((await eve.commit("eve/mine", [line])).status).toBe(422);
    expect((await ada.commit("lab/other", [line])).status).toBe(200);
  });

  it("can change the case of its name, and nothing else follows from that", async () => {
    expect((await move("ada/old", "ada/Old")).status).toBe(200);
    expect((await anonymous.get("/api/models/ada/old")).body).toMatchObject({ id: "ada/Old" });
    await ada.send("DELETE", "/api/repos/delete", { name: "old" });
    expect((await ada.get("/api/models/ada/Old")).status).toBe(404);
  });
});

describe("a move", () => {
  it("is for admins of the repository who may create where it goes", async () => {
    expect((await move("ada/old", "eve/old", eve)).status).toBe(403);
    expect((await move("ada/old", "eve/old")).status).toBe(403);
    expect((await move("ada/old", "ada/new", anonymous)).status).toBe(401);
    await ada.send("PUT", "/api/v1/organizations/lab/members/eve", { role: "write" });
    await move("ada/old", "lab/old");
    expect((await move("lab/old", "lab/new", eve)).status).toBe(403);
    expect((await move("lab/old", "eve/new", eve)).status).toBe(403);
  });

  it("says what is wrong with a name", async () => {
    await ada.post("/api/repos/create", { name: "taken" });
    for (const to of ["ada/taken", "ada/TAKEN", "ada/old"])
      expect(await move("ada/old", to)).toMatchObject({
        status: 409,
        body: { error: expect.stringMatching(/A model repository called .* already exists/) },
      });
    expect((await move("ada/nothing", "ada/new")).headers.get("x-error-code")).toBe("RepoNotFound");
    expect((await move("ada/old", "nobody/new")).status).toBe(404);
    for (const to of ["new", "ada/..", "ada/a/b", "api/new", ""])
      expect(await move("ada/old", to)).toMatchObject({ status: 422, body: { field: "toRepo" } });
    expect((await move("ada/old", "ada/new", ada, "space")).status).toBe(422);
  });

  it("of two to one name succeeds once, and so does one of two of the same repository", async () => {
    await ada.post("/api/repos/create", { name: "other" });
    const statuses = async (moves: Promise<{ status: number }>[]) =>
      (await Promise.all(moves)).map(({ status }) => status).sort();
    expect(await statuses([move("ada/old", "ada/goal"), move("ada/other", "ada/goal")])).toEqual([200, 409]);
    expect(await statuses([move("ada/goal", "ada/left"), move("ada/goal", "ada/right")])).toEqual([200, 404]);
    const List = z.array(z.object({ id: z.string() }));
    expect(List.parse((await ada.get("/api/models?author=ada")).body)).toHaveLength(2);
    const answers = await Promise.all([
      move("ada/left", "ada/one"),
      move("ada/right", "ada/one"),
      ada.post("/api/repos/create", { name: "one" }),
    ]);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    expect((await anonymous.get("/api/models/ada/one")).status).toBe(200);
  });

  it("and commits at the same time lose nothing", async () => {
    const answers = await Promise.all([
      ada.commit("ada/old", [fileLine("one.txt", "1")]),
      move("ada/old", "lab/new"),
      ada.commit("ada/old", [fileLine("two.txt", "2")]),
    ]);
    for (const [i, path] of [
      [0, "one.txt"],
      [2, "two.txt"],
    ] as const) {
      const status = answers[i]?.status ?? 0;
      expect([200, 307]).toContain(status);
      expect((await anonymous.get(`/lab/new/resolve/main/${path}`)).status).toBe(status === 200 ? 200 : 404);
    }
  });

  it("is told to both owners", async () => {
    await ada.post("/api/v1/organizations", { name: "other" });
    await move("ada/old", "lab/new");
    for (const [namespace, data] of [
      ["ada", { movedTo: "lab/new" }],
      ["lab", { movedFrom: "ada/old" }],
    ] as const)
      expect((await ada.get(`/api/v1/audit?namespace=${namespace}&type=repo.moved`)).body).toMatchObject({
        events: [{ type: "repo.moved", data }],
      });
  });
});
