// Where the bucket has addresses of its own, large whole files are fetched there; everything else stays as it was.
import { beforeEach, expect, it } from "vitest";
import { administrator, anonymous, Batch, type Client, fileLine, lfsLine, user } from "../../kit/actors";
import { settled } from "../../kit/settled";

const REPO = "ada/digits";
const S3 = {
  R2_S3_ENDPOINT: "https://account.r2.cloudflarestorage.com",
  R2_ACCESS_KEY_ID: "id",
  R2_SECRET_ACCESS_KEY: "key",
  R2_BUCKET: "blobs",
};
const DOMAIN = { DOWNLOAD_DOMAIN: "https://files.example", DOWNLOAD_DOMAIN_SECRET: "a secret of the domain" };
const LARGE = new Uint8Array(4 * 1024 * 1024 + 1);
const WEIGHTS = `/${REPO}/resolve/main/model.safetensors`;
let ada: Client;

beforeEach(async () => {
  ada = await user(await administrator(), "ada");
  await ada.post("/api/repos/create", { name: "digits" });
  const oid = Buffer.from(await crypto.subtle.digest("SHA-256", LARGE)).toString("hex");
  // As git-lfs uploads: a file is one PUT, whatever its size.
  const batch = await ada.post(`/${REPO}.git/info/lfs/objects/batch`, {
    operation: "upload",
    transfers: ["basic"],
    objects: [{ oid, size: LARGE.byteLength }],
    hash_algo: "sha256",
  });
  const href = Batch.parse(batch.body).objects[0]?.actions?.upload.href ?? "";
  const put = await anonymous.raw("PUT", href, { body: LARGE, headers: { "content-length": `${LARGE.byteLength}` } });
  expect(put.status).toBe(200);
  await ada.commit(REPO, [lfsLine("model.safetensors", oid, LARGE.byteLength), fileLine("config.json", "{}")]);
});

it("sends a reader of a large file to the bucket, with what clients look for on the way", async () => {
  const without = await settled(anonymous, WEIGHTS);
  const { status, headers } = await settled(anonymous, WEIGHTS, { settings: S3 });
  expect(status).toBe(302);
  const location = headers.get("location") ?? "";
  expect(location).toMatch(/^https:\/\/account\.r2\.cloudflarestorage\.com\/blobs\/blobs\//);
  expect(new URL(location).searchParams.get("response-content-disposition")).toContain('filename="model.safetensors"');
  for (const name of ["etag", "x-linked-etag", "x-linked-size", "x-repo-commit"])
    expect(headers.get(name)).toBe(without.headers.get(name));
  expect(headers.get("cache-control")).toBe("private, no-store");
});

it("sends it to the custom domain as long as the repository is public", async () => {
  const locationOf = async (client: Client, settings: Record<string, string>) =>
    (await settled(client, WEIGHTS, { settings })).headers.get("location");
  expect(await locationOf(anonymous, { ...S3, ...DOMAIN })).toMatch(
    /^https:\/\/files\.example\/blobs\/.*\?verify=\d+-/,
  );
  await ada.send("PUT", `/api/models/${REPO}/settings`, { private: true });
  expect(await locationOf(ada, { ...S3, ...DOMAIN })).toMatch(/^https:\/\/account\./);
  expect(await locationOf(ada, DOMAIN)).toBeNull();
});

it("serves HEAD, what the client has already, small files, and an endpoint on its own host itself", async () => {
  const etag = (await settled(anonymous, WEIGHTS)).headers.get("etag") ?? "";
  const status = async (path: string, init: Parameters<typeof settled>[2] = {}) =>
    (await settled(anonymous, path, { settings: S3, ...init })).status;
  expect(await status(WEIGHTS, { method: "HEAD" })).toBe(200);
  expect(await status(WEIGHTS, { headers: { "if-none-match": etag } })).toBe(304);
  expect(await status(`/${REPO}/resolve/main/config.json`)).toBe(200);
  const own = { ...S3, R2_S3_ENDPOINT: "http://hub.test:9000/cdn-cgi/local/r2/s3" };
  expect(await status(WEIGHTS, { settings: own })).toBe(200);
});
