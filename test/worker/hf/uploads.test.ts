// Bytes on their way in: whatever is not exactly what was declared leaves nothing behind and says why.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { administrator, anonymous, Batch, type Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";

const REPO = "ada/weights";
/** The test hub splits uploads at 256 KiB. */
const PART = 262_144;

let admin: Client;
let ada: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  await ada.post("/api/repos/create", { name: "weights" });
});

const bytesOf = (size: number, seed = 1) =>
  Uint8Array.from({ length: size }, (_, i) => (i * 31 + seed * 7 + (i >> 8)) & 255);
const digestOf = async (bytes: Uint8Array) => Buffer.from(await crypto.subtle.digest("SHA-256", bytes)).toString("hex");
const objects = async () => (await env.BLOBS.list()).objects.map((object) => object.key);

async function open(oid: string, size: number, transfers = ["basic", "multipart"], client = ada) {
  const answer = await client.post(`/${REPO}.git/info/lfs/objects/batch`, {
    operation: "upload",
    transfers,
    objects: [{ oid, size }],
  });
  const action = Batch.parse(answer.body).objects[0]?.actions?.upload;
  if (action === undefined) throw new Error(`no upload action in ${answer.text}`);
  return action;
}

const put = (href: string, body: BodyInit, length: number) =>
  anonymous.raw("PUT", href, { body, headers: { "content-length": String(length) } });

describe("a single PUT", () => {
  it("stores the declared bytes, once, and needs no token", async () => {
    const bytes = bytesOf(1000);
    const oid = await digestOf(bytes);
    const { href } = await open(oid, 1000);
    const before = await objects();
    const response = await put(href, bytes, 1000);
    expect(response.status).toBe(200);
    expect(response.headers.get("etag")).toBe(`"${oid}"`);
    expect((await objects()).length).toBe(before.length + 1);
    // A client that lost the answer sends it again.
    expect((await put(href, bytes, 1000)).status).toBe(200);
    expect((await objects()).length).toBe(before.length + 1);
  });

  it("of what another tenant has is stored like any other: how long it takes tells nothing", async () => {
    await ada.post("/api/repos/create", { name: "hidden", private: true });
    const oid = await uploadLfs(ada, "ada/hidden", bytesOf(1000));
    const eve = await user(admin, "eve");
    await eve.post("/api/repos/create", { name: "own" });
    const before = await objects();
    expect(await uploadLfs(eve, "eve/own", bytesOf(1000))).toBe(oid);
    expect((await objects()).length).toBe(before.length + 1);
    const committed = await ada.commit("ada/hidden", [fileLine("secret.txt", "hidden words\n")]);
    expect(committed.status).toBe(200);
    const stored = await objects();
    expect((await eve.commit("eve/own", [fileLine("guess.txt", "hidden words\n")])).status).toBe(200);
    expect((await objects()).length).toBe(stored.length + 1);
  });

  it("of other bytes answers both digests and stores nothing", async () => {
    const bytes = bytesOf(1000);
    const oid = await digestOf(bytes);
    const { href } = await open(oid, 1000);
    const before = await objects();
    const wrong = bytesOf(1000, 2);
    const response = await put(href, wrong, 1000);
    expect(response.status).toBe(422);
    const text = await response.text();
    expect(text).toContain(oid);
    expect(text).toContain(await digestOf(wrong));
    expect(await objects()).toEqual(before);
    expect((await ada.commit(REPO, [lfsLine("m.bin", oid, 1000)])).status).toBe(422);
  });

  it("of another length is refused before a byte is stored", async () => {
    const oid = await digestOf(bytesOf(1000));
    const { href } = await open(oid, 1000);
    const before = await objects();
    for (const size of [999, 1001, 0]) {
      const response = await put(href, bytesOf(size), size);
      expect(response.status).toBe(422);
      expect(await response.text()).toContain("1000");
    }
    expect(await objects()).toEqual(before);
  });

  it("whose connection breaks off leaves nothing behind", async () => {
    const bytes = bytesOf(200_000);
    const oid = await digestOf(bytes);
    const { href } = await open(oid, bytes.length);
    const before = await objects();
    let sent = false;
    const broken = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (sent) controller.error(new Error("connection lost"));
        else controller.enqueue(bytes.subarray(0, 100_000));
        sent = true;
      },
    });
    const response = await put(href, broken, bytes.length).catch(() => null);
    expect(response === null || response.status >= 400).toBe(true);
    expect(await objects()).toEqual(before);
    expect((await put(href, bytes, bytes.length)).status).toBe(200);
  });

  it("to a forged address is refused", async () => {
    const oid = await digestOf(bytesOf(10));
    const { href } = await open(oid, 10);
    const forged = new URL(href);
    forged.searchParams.set("signature", `A${forged.searchParams.get("signature")?.slice(1)}`);
    expect((await put(forged.href, bytesOf(10), 10)).status).toBe(404);
  });

  it("takes any size where a client can only send files whole", async () => {
    const bytes = bytesOf(PART * 2 + 5);
    const action = await open(await digestOf(bytes), bytes.length, ["basic"]);
    expect(action.header).toBeUndefined();
    expect((await put(action.href, bytes, bytes.length)).status).toBe(200);
  });
});

describe("a multipart upload", () => {
  const bytes = bytesOf(PART * 2 + 100);

  async function started() {
    const oid = await digestOf(bytes);
    const action = await open(oid, bytes.length);
    const { chunk_size: size, ...numbered } = action.header ?? {};
    return { oid, completion: action.href, size: Number(size), urls: Object.values(numbered) };
  }
  const partOf = (i: number, from = bytes) => from.slice(i * PART, (i + 1) * PART);

  async function send(urls: string[], from = bytes) {
    const parts: { partNumber: number; etag: string | null }[] = [];
    for (const [i, url] of urls.entries()) {
      const part = partOf(i, from);
      const response = await put(url, part, part.length);
      parts.push({ partNumber: i + 1, etag: response.headers.get("etag") });
    }
    return parts;
  }

  it("gives as many addresses as there are parts, numbered in order", async () => {
    const { size, urls } = await started();
    expect(size).toBe(PART);
    expect(urls).toHaveLength(3);
  });

  it("joins its parts, and is read back as one file, also across their seams", async () => {
    const oid = await uploadLfs(ada, REPO, bytes);
    await ada.commit(REPO, [lfsLine("m.bin", oid)]);
    const whole = await anonymous.raw("GET", `/${REPO}/resolve/main/m.bin`);
    expect(new Uint8Array(await whole.arrayBuffer())).toEqual(bytes);
    const seam = await anonymous.raw("GET", `/${REPO}/resolve/main/m.bin`, {
      headers: { range: `bytes=${PART - 3}-${2 * PART + 2}` },
    });
    expect(seam.status).toBe(206);
    expect(new Uint8Array(await seam.arrayBuffer())).toEqual(bytes.slice(PART - 3, 2 * PART + 3));
  });

  it("can be completed again by a client that lost the answer", async () => {
    const { oid, completion, urls } = await started();
    const parts = await send(urls);
    expect((await anonymous.post(completion, { oid, parts })).status).toBe(200);
    expect((await anonymous.post(completion, { oid, parts })).status).toBe(200);
  });

  it("with a missing part says which, and can go on", async () => {
    const { oid, completion, urls } = await started();
    const parts = await send(urls.slice(0, 2));
    const answer = await anonymous.post(completion, { oid, parts });
    expect(answer.status).toBe(422);
    expect(answer.text).toContain("part 3 of 3");
    const all = await send(urls);
    expect((await anonymous.post(completion, { oid, parts: all })).status).toBe(200);
  });

  it("whose parts are other bytes is dropped whole", async () => {
    const { oid, completion, urls } = await started();
    const parts = await send(urls, bytesOf(bytes.length, 9));
    const answer = await anonymous.post(completion, { oid, parts });
    expect(answer.status).toBe(422);
    expect(answer.text).toContain(oid);
    const { results } = await env.DB.prepare("select state from objects where key like 'uploads/%'").all();
    expect(results.map((row) => row.state)).toEqual(["condemned", "condemned", "condemned"]);
  });

  it("with an ETag that was not given is refused", async () => {
    const { oid, completion, urls } = await started();
    const parts = await send(urls);
    const answer = await anonymous.post(completion, {
      oid,
      parts: parts.with(1, { partNumber: 2, etag: '"nonsense"' }),
    });
    expect(answer.status).toBe(422);
    expect(answer.text).toContain("parts[1].etag");
  });
});

describe("the batch call", () => {
  it("asks for no upload of bytes the repository holds", async () => {
    const oid = await uploadLfs(ada, REPO, bytesOf(10));
    const answer = await ada.post(`/${REPO}.git/info/lfs/objects/batch`, {
      operation: "upload",
      objects: [{ oid, size: 10 }],
    });
    expect(Batch.parse(answer.body).objects).toEqual([{ oid, size: 10 }]);
  });

  it("names where a git client downloads the bytes, which only this repository's readers may", async () => {
    const bytes = bytesOf(10);
    const oid = await uploadLfs(ada, REPO, bytes);
    await ada.send("PUT", `/api/models/${REPO}/settings`, { private: true });
    const ghost = "0".repeat(64);
    const answer = await ada.post(`/${REPO}.git/info/lfs/objects/batch`, {
      operation: "download",
      objects: [
        { oid, size: 10 },
        { oid: ghost, size: 1 },
      ],
    });
    const href = /"href":"([^"]+)"/.exec(answer.text)?.[1] ?? "";
    expect(answer.text).toContain('"code":404');
    const range = await ada.raw("GET", href, { headers: { range: "bytes=2-3" } });
    expect(new Uint8Array(await range.arrayBuffer())).toEqual(bytes.slice(2, 4));
    const eve = await user(admin, "eve");
    expect((await eve.raw("GET", href)).status).toBe(404);
    expect((await anonymous.raw("GET", href)).status).toBe(401);
    expect((await ada.raw("GET", href.replace(oid, ghost))).status).toBe(404);
  });

  it("does not tell a stranger that a private repository holds them", async () => {
    await ada.post("/api/repos/create", { name: "secret", private: true });
    const oid = await uploadLfs(ada, "ada/secret", bytesOf(10));
    const eve = await user(admin, "eve");
    await eve.post("/api/repos/create", { name: "probe" });
    const answer = await eve.post("/eve/probe.git/info/lfs/objects/batch", {
      operation: "upload",
      objects: [{ oid, size: 10 }],
    });
    expect(Batch.parse(answer.body).objects[0]?.actions?.upload.href).toBeDefined();
  });

  it("is for writers where it names a branch, and for whoever may propose where it names none", async () => {
    const eve = await user(admin, "eve");
    const proposal = { operation: "upload", objects: [] };
    const push = { ...proposal, ref: { name: "main" } };
    const status = async (who: Client, body: unknown) =>
      (await who.post(`/${REPO}.git/info/lfs/objects/batch`, body)).status;
    expect([await status(eve, push), await status(anonymous, push)]).toEqual([403, 401]);
    expect([await status(eve, proposal), await status(anonymous, proposal)]).toEqual([200, 401]);
    expect(await status(ada, push)).toBe(200);
  });
});
