// Garbage collection over the hub's own API: what its administrators see and start, and nobody else.
import { beforeEach, describe, expect, it } from "vitest";
import { administrator, anonymous, type Client, fileLine, uploadLfs, user } from "../../kit/actors";

const NO_OBJECTS = { staged: 0, condemned: 0, due: 0, next_due_at: null };

let admin: Client;
let ada: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  await ada.post("/api/repos/create", { name: "digits" });
});

describe("the collection report", () => {
  it("is empty on a hub where everything is named", async () => {
    await ada.commit("ada/digits", [fileLine("config.json", "{}")]);
    const step = await admin.post("/api/v1/collection");
    expect(step.status).toBe(200);
    expect(step.body).toMatchObject({ marked: 0, deleted_objects: 0 });
    const report = await admin.get("/api/v1/collection");
    const none = { rows: 0, bytes: 0, due_rows: 0, due_bytes: 0, next_due_at: null };
    expect(report.body).toEqual({
      idle: ["holdings", "contents", "files", "xorbs"].map((kind) => ({ kind, ...none })),
      objects: NO_OBJECTS,
    });
  });

  it("tells of an upload that nobody commits: idle from the step that found it, due after the grace", async () => {
    await uploadLfs(ada, "ada/digits", new Uint8Array(5000).fill(7));
    expect((await admin.post("/api/v1/collection")).body).toMatchObject({ marked: 1 });
    const { body } = await admin.get("/api/v1/collection");
    expect(body).toMatchObject({
      idle: [
        { kind: "holdings", rows: 1, due_rows: 0, next_due_at: expect.stringMatching(/^\d{4}-/) },
        { rows: 0 },
        { rows: 0 },
        { rows: 0 },
      ],
    });
  });

  it("tells of the bytes of a deleted repository", async () => {
    await ada.commit("ada/digits", [fileLine("weights.txt", "w".repeat(1234))]);
    await ada.send("DELETE", "/api/repos/delete", { name: "digits" });
    await admin.post("/api/v1/collection");
    const { body } = await admin.get("/api/v1/collection");
    // .gitattributes and the one file.
    expect(body).toMatchObject({ idle: [{ rows: 0 }, { kind: "contents", rows: 2, due_rows: 0 }, {}, {}] });
  });
});

it("is for the hub's administrators only", async () => {
  for (const method of ["GET", "POST"]) {
    expect((await anonymous.send(method, "/api/v1/collection")).status).toBe(401);
    expect((await ada.send(method, "/api/v1/collection")).status).toBe(403);
  }
});
