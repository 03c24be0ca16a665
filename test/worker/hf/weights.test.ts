// The headers of sharded weights in one answer: all of them, or the reason why not.
import { beforeEach, expect, it } from "vitest";
import { administrator, anonymous, type Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";
import { safetensors } from "../../kit/jobs";

const REPO = "ada/sharded";
const AT = `/api/models/${REPO}/safetensors-metadata`;
const INDEX = "model.safetensors.index.json";
const [FIRST, SECOND] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

let ada: Client;
beforeEach(async () => {
  ada = await user(await administrator(), "ada");
  await ada.post("/api/repos/create", { name: "sharded" });
});

const index = (map: Record<string, string>, folder = "") =>
  fileLine(`${folder}${INDEX}`, JSON.stringify({ metadata: { total_size: 12 }, weight_map: map }));

it("tells of every file that the index names", async () => {
  const [a, b] = [safetensors({ w: [1, 2] }), safetensors({ b: [3] })];
  for (const folder of ["", "old/"]) {
    const lines = [
      lfsLine(`${folder}${FIRST}`, await uploadLfs(ada, REPO, a)),
      lfsLine(`${folder}${SECOND}`, await uploadLfs(ada, REPO, b)),
      index({ w: FIRST, b: SECOND }, folder),
    ];
    expect((await ada.commit(REPO, lines)).status).toBe(200);
  }
  const expected = {
    index: { metadata: { total_size: 12 } },
    headers: {
      [FIRST]: { w: { dtype: "F32", shape: [2], data_offsets: [0, 8] } },
      [SECOND]: { b: { dtype: "F32", shape: [1], data_offsets: [0, 4] } },
    },
  };
  for (const path of [INDEX, `old/${INDEX}`]) expect((await anonymous.get(`${AT}/${path}`)).body).toEqual(expected);
  await ada.send("PUT", `/api/models/${REPO}/settings`, { gated: "manual" });
  const gated = await anonymous.get(`${AT}/${INDEX}`);
  expect([gated.status, gated.headers.get("x-error-code")]).toEqual([401, "GatedRepo"]);
  await ada.send("PUT", `/api/models/${REPO}/settings`, { private: true });
  expect((await anonymous.get(`${AT}/${INDEX}`)).headers.get("x-error-code")).toBe("RepoNotFound");
});

it("says what is wrong with the index or with a file", async () => {
  const missing = await anonymous.get(`${AT}/${INDEX}`);
  expect([missing.status, missing.headers.get("x-error-code")]).toEqual([404, "EntryNotFound"]);
  const broken = [
    [index({ w: "gone.safetensors" })],
    [index({ w: "../../other.safetensors" })],
    [fileLine(INDEX, "no JSON")],
    [fileLine(INDEX, "{}")],
    [index({ w: FIRST }), lfsLine(FIRST, await uploadLfs(ada, REPO, new Uint8Array(100).fill(7)))],
  ];
  for (const lines of broken) {
    expect((await ada.commit(REPO, lines)).status).toBe(200);
    expect((await anonymous.get(`${AT}/${INDEX}`)).status).toBe(422);
  }
  expect((await anonymous.get(`${AT}/..%2F${INDEX}`)).status).toBe(422);
});
