// Uploads that nobody finishes, and what crashes leave of those that somebody did: gone once they expire, and nothing else with them.
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import { beforeEach, describe, expect, it } from "vitest";
import * as z from "zod";
import { queryRows } from "../../../src/db/client";
import { cloudflarePlatform } from "../../../src/platform/cloudflare";
import type { Platform } from "../../../src/platform/platform";
import { readContent, SegmentsColumn, sha256Of } from "../../../src/store/contents";
import {
  completeUpload,
  openUploads,
  receivePart,
  sweepUploads,
  type Upload,
  uploadLinks,
} from "../../../src/store/uploads";
import { readAll } from "../../../src/streams/chunks";

/** The test hub splits uploads at 256 KiB. */
const PART = 262_144;
const DAY_MS = 24 * 3600 * 1000;
const HOUR_MS = 3600 * 1000;

const bytes = Uint8Array.from({ length: 2 * PART + 100 }, (_, i) => (i * 17 + (i >> 9)) & 255);
const sha256 = sha256Of(bytes);
const part = (number: number): Uint8Array => bytes.slice((number - 1) * PART, number * PART);

let time: number;
let platform: Platform;
beforeEach(async () => {
  time = Date.now();
  platform = { ...cloudflarePlatform(env, "test", () => {}), now: () => time };
  await env.DB.prepare(
    "insert into repos (id, type, owner_id, name, name_key, private, created_at, updated_at) values ('repo', 'model', 'ada', 'r', 'r', 0, 0, 0)",
  ).run();
});

async function open(): Promise<Upload> {
  const [upload] = await openUploads(platform, { repoId: "repo" }, [{ sha256, size: bytes.length }]);
  if (upload === undefined) throw new Error("no upload was opened");
  return upload;
}

async function put(upload: Upload, number: number, body = part(number)): Promise<string> {
  const { parts } = await uploadLinks(platform, "http://hub.test", upload);
  const signature = new URL(parts[number - 1]?.url ?? "").searchParams.get("signature") ?? "";
  const stream = new Blob([body]).stream();
  return receivePart(platform, { id: upload.id, number, signature, body: stream, contentLength: body.length });
}

async function complete(upload: Upload, etags: readonly string[]): Promise<void> {
  const { completeUrl } = await uploadLinks(platform, "http://hub.test", upload);
  const signature = new URL(completeUrl ?? "").searchParams.get("signature") ?? "";
  await completeUpload(platform, {
    id: upload.id,
    signature,
    etags: etags.map((etag, i) => ({ number: i + 1, etag })),
  });
}

async function putAll(upload: Upload): Promise<string[]> {
  return [await put(upload, 1), await put(upload, 2), await put(upload, 3)];
}

/** Objects of an upload that are not on their way out. */
const objectsOf = async (upload: Upload) =>
  (
    await platform.db.get<{ n: number }>(
      sql`select count(*) as n from objects where key like ${`uploads/${upload.id}/%`} and state <> 'condemned'`,
    )
  )?.n;
const rowsOf = async (upload: Upload) =>
  platform.db.get<{ uploads: number; parts: number }>(
    sql`select (select count(*) from uploads where id = ${upload.id}) as uploads, (select count(*) from upload_parts where upload_id = ${upload.id}) as parts`,
  );

async function stored(): Promise<Uint8Array | null> {
  const [row] = await queryRows(
    platform.db,
    z.object({ size: z.number(), segments: SegmentsColumn }),
    sql`select size, segments from contents where sha256 = ${sha256}`,
  );
  if (row === undefined) return null;
  const { size, segments } = row;
  return readAll(await readContent(platform, { size, source: { kind: "segments", segments } }), size);
}

const afterExpiry = () => {
  time += DAY_MS + 2 * HOUR_MS;
};

describe("an upload that nobody finishes", () => {
  it("keeps its parts until it expires, and then nothing", async () => {
    const upload = await open();
    await put(upload, 1);
    await put(upload, 2);
    time += DAY_MS - HOUR_MS;
    await sweepUploads(platform);
    expect(await objectsOf(upload)).toBe(2);
    time += 3 * HOUR_MS;
    await sweepUploads(platform);
    expect(await objectsOf(upload)).toBe(0);
    expect(await rowsOf(upload)).toEqual({ uploads: 0, parts: 0 });
  });

  it("takes no part and no end once it has expired", async () => {
    const upload = await open();
    const etags = await putAll(upload);
    time += DAY_MS + 1;
    await expect(put(upload, 1)).rejects.toMatchObject({ code: "upload_not_found" });
    await expect(complete(upload, etags)).rejects.toMatchObject({ code: "upload_not_found" });
  });

  it("does not keep others from being swept: each call takes some", async () => {
    const uploads = [];
    for (let i = 0; i < 45; i++) uploads.push(await open());
    for (const upload of uploads.slice(0, 3)) await put(upload, 1);
    afterExpiry();
    for (let i = 0; i < 3; i++) await sweepUploads(platform);
    for (const upload of uploads) expect(await rowsOf(upload)).toEqual({ uploads: 0, parts: 0 });
    for (const upload of uploads.slice(0, 3)) expect(await objectsOf(upload)).toBe(0);
  });
});

describe("an upload that was finished", () => {
  it("keeps of a part that was sent twice the second, and its rows until it expires", async () => {
    const upload = await open();
    await put(upload, 1);
    const etags = await putAll(upload);
    await complete(upload, etags);
    expect(await objectsOf(upload)).toBe(3);
    expect(await rowsOf(upload)).toEqual({ uploads: 1, parts: 0 });
    afterExpiry();
    await sweepUploads(platform);
    expect(await objectsOf(upload)).toBe(3);
    expect(await stored()).toEqual(bytes);
    expect(await rowsOf(upload)).toEqual({ uploads: 0, parts: 0 });
  });

  it("by a second client of the same bytes leaves the first one's", async () => {
    const [first, second] = [await open(), await open()];
    await complete(first, await putAll(first));
    await complete(second, await putAll(second));
    expect([await objectsOf(first), await objectsOf(second)]).toEqual([3, 0]);
    afterExpiry();
    await sweepUploads(platform);
    expect(await stored()).toEqual(bytes);
  });

  it("with other bytes than declared is dropped", async () => {
    const upload = await open();
    const etags = [await put(upload, 1), await put(upload, 2), await put(upload, 3, new Uint8Array(100))];
    await expect(complete(upload, etags)).rejects.toMatchObject({ code: "digest_mismatch" });
    await expect(complete(upload, etags)).rejects.toMatchObject({ code: "upload_not_found" });
    expect(await objectsOf(upload)).toBe(0);
    afterExpiry();
    await sweepUploads(platform);
    expect(await objectsOf(upload)).toBe(0);
    expect(await rowsOf(upload)).toEqual({ uploads: 0, parts: 0 });
  });
});

describe("a part that comes too late", () => {
  it("for an upload that ended while it was sent is staged for nothing", async () => {
    const upload = await open();
    const etags = await putAll(upload);
    const { parts } = await uploadLinks(platform, "http://hub.test", upload);
    const signature = new URL(parts[0]?.url ?? "").searchParams.get("signature") ?? "";
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const late = receivePart(platform, { id: upload.id, number: 1, signature, body: readable, contentLength: PART });
    const refused = expect(late).rejects.toMatchObject({ code: "upload_not_found" });
    await writer.write(part(1).slice(0, 1000));
    await complete(upload, etags);
    await writer.write(part(1).slice(1000));
    await writer.close();
    await refused;
    expect(await objectsOf(upload)).toBe(4);
    expect(await stored()).toEqual(bytes);
  });
});
