// Presigned addresses against an S3 endpoint that checks them: the one that the bucket's simulator serves.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from "miniflare";
import { afterAll, beforeAll, expect, it } from "vitest";
import { unstable_getMiniflareWorkerOptions } from "wrangler";
import type { S3Bucket } from "../../src/config";
import { presignGet } from "../../src/platform/s3";

const KEY = `xorbs/ab/${"ab".repeat(32)}/01owner/${"0".repeat(32)}`;
const BYTES = "0123456789";
const CREDENTIALS = { accessKeyId: "local-id", secretAccessKey: "local-secret" };
let folder: string;
let miniflare: Miniflare;
let s3: S3Bucket;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "owm-s3-"));
  writeFileSync(join(folder, "worker.js"), "export default { fetch: () => new Response() }");
  const config = join(folder, "wrangler.toml");
  writeFileSync(
    config,
    `name = "bucket"
main = "worker.js"
compatibility_date = "2026-11-01"
[[r2_buckets]]
binding = "BLOBS"
bucket_name = "blobs"
[r2_buckets.local_dev.experimental_s3_credentials]
accessKeyId = "${CREDENTIALS.accessKeyId}"
secretAccessKey = "${CREDENTIALS.secretAccessKey}"
`,
  );
  const { workerOptions } = unstable_getMiniflareWorkerOptions(config);
  const { modulesRules: _, ...options } = workerOptions;
  const worker = {
    ...options,
    name: "bucket",
    modules: true,
    script: "export default { fetch: () => new Response() }",
  };
  const shared = { cf: false, log: new Log(LogLevel.ERROR), resourcePersistencePath: join(folder, "state") };
  miniflare = new Miniflare(convertV4MiniflareOptions({ ...shared, workers: [worker] }));
  const url = await miniflare.ready;
  const bucket = await miniflare.getR2Bucket("BLOBS");
  await bucket.put(KEY, BYTES);
  s3 = { endpoint: new URL("cdn-cgi/local/r2/s3", url).href, bucket: "blobs", ...CREDENTIALS };
}, 60_000);
afterAll(async () => {
  await miniflare.dispose();
  rmSync(folder, { recursive: true, force: true });
});

const presigned = (more: { range?: string; disposition?: string; issuedAt?: number } = {}) =>
  presignGet(s3, { key: KEY, issuedAt: Date.now() - 60_000, lifetimeS: 3600, ...more });

async function answer(url: string, headers: Record<string, string> = {}) {
  const response = await fetch(url, { headers });
  return { status: response.status, text: await response.text(), headers: response.headers };
}

it("opens an object, in any ranges, without another credential", async () => {
  const url = await presigned();
  expect(await answer(url)).toMatchObject({ status: 200, text: BYTES });
  expect(await answer(url, { range: "bytes=2-4" })).toMatchObject({ status: 206, text: "234" });
});

it("opens only the range that was signed, where one was", async () => {
  const url = await presigned({ range: "bytes=2-4" });
  expect(await answer(url, { range: "bytes=2-4" })).toMatchObject({ status: 206, text: "234" });
  for (const headers of [{}, { range: "bytes=2-5" }, { range: "bytes=0-9" }])
    expect((await answer(url, headers)).status).toBe(403);
});

it("is refused for another object, with another signature, and when it is too old", async () => {
  const url = await presigned();
  expect((await answer(url.replace("xorbs", "blobs"))).status).toBe(403);
  expect((await answer(url.replace(/Signature=../, "Signature=zz"))).status).toBe(403);
  expect((await answer(await presigned({ issuedAt: Date.now() - 3_700_000 }))).status).toBe(403);
});

it("tells the name to save under", async () => {
  const disposition = "inline; filename*=UTF-8''w%C3%A9ights.bin; filename=\"w_ights.bin\";";
  const { status, text } = await answer(await presigned({ disposition }));
  expect({ status, text }).toEqual({ status: 200, text: BYTES });
});
