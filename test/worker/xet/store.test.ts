// The store on the wire: a file uploaded by its parts, committed, and had again in every way that clients know.
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { xetHashOf } from "../../../src/formats/xet/hash";
import { administrator, anonymous, Batch, type Client, lfsLine, uploadLfs, user } from "../../kit/actors";
import { countRoundTrips } from "../../kit/round-trips";
import { Backroom } from "../../kit/upkeep";
import { type BuiltFile, buildFile, encodeShard, randomBytes, sha256Of, xorbSpec } from "../../kit/xet";
import { connect, V1, V2, type XetClient } from "../../kit/xet-client";

const REPO = "ada/digits";
const SECRET = "ada/secret";
const ABSENT = "0123456789abcdef".repeat(4);
const bytes = randomBytes(1, 700_000);
const sha256 = sha256Of(bytes);
let built: BuiltFile;
let admin: Client;
let ada: Client;
let eve: Client;
let writer: XetClient;
let reader: XetClient;

beforeEach(async () => {
  built = buildFile(bytes, 4);
  admin = await administrator();
  ada = await user(admin, "ada");
  eve = await user(admin, "eve");
  await ada.post("/api/repos/create", { name: "digits" });
  await ada.post("/api/repos/create", { name: "secret", private: true });
  writer = await connect(ada, REPO, "write");
  reader = await connect(anonymous, REPO, "read");
});

async function publish(repo = REPO, path = "model.safetensors"): Promise<string> {
  await (await connect(ada, repo, "write")).upload(built);
  const answer = await ada.commit(repo, [lfsLine(path, sha256, bytes.length)]);
  return z.object({ commitOid: z.string() }).parse(answer.body).commitOid;
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

describe("an upload", () => {
  it("says of each xorb whether it was new, and takes it again", async () => {
    const [first] = built.xorbs;
    const path = `/v1/xorbs/default/${first?.hash}`;
    const body = first?.body ?? new Uint8Array();
    expect((await writer.sendBytes(path, body)).body).toEqual({ was_inserted: true });
    expect((await writer.sendBytes(path, body)).body).toEqual({ was_inserted: false });
    const head = await reader.cas("HEAD", path);
    expect([head.status, head.headers.get("content-length")]).toEqual([200, String(body.length)]);
  });

  it("by the first version says whether the shard was new", async () => {
    expect((await writer.upload(built, 1)).body).toEqual({ result: 1 });
    expect((await writer.upload(built, 1)).body).toEqual({ result: 0 });
  });

  it("by the second version ends with the result", async () => {
    const answer = await writer.upload(built);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("application/x-ndjson");
    const lines = answer.text.split("\n");
    expect(lines.pop()).toBe("");
    expect(JSON.parse(lines.at(-1) ?? "")).toEqual({ type: "result", result: 1 });
  });

  it("can be committed, and is then what the repository holds", async () => {
    await publish();
    const tree = await anonymous.get(`/api/models/${REPO}/tree/main?recursive=true`);
    expect(tree.body).toContainEqual(
      expect.objectContaining({
        path: "model.safetensors",
        size: bytes.length,
        xetHash: built.file.hash,
        lfs: expect.objectContaining({ oid: sha256, size: bytes.length }),
      }),
    );
    const paths = await anonymous.post(`/api/models/${REPO}/paths-info/main`, {
      paths: ["model.safetensors", ".gitattributes"],
    });
    const hashes = z.array(z.object({ path: z.string(), xetHash: z.string().optional() })).parse(paths.body);
    expect(Object.fromEntries(hashes.map((one) => [one.path, one.xetHash]))).toEqual({
      "model.safetensors": built.file.hash,
      ".gitattributes": undefined,
    });
  });

  it("to one repository gives nothing to another", async () => {
    await writer.upload(built);
    const answer = await ada.commit(SECRET, [lfsLine("model.safetensors", sha256, bytes.length)]);
    expect(answer.status).toBe(422);
    const elsewhere = await connect(ada, SECRET, "write");
    expect((await elsewhere.ask("GET", `/v2/reconstructions/${built.file.hash}`)).status).toBe(404);
  });

  it("of a shard whose xorbs are missing is refused, in both versions", async () => {
    for (const version of [1, 2]) {
      const answer = await writer.sendBytes(`/v${version}/shards`, built.shard);
      expect([answer.status, answer.body]).toEqual([400, expect.objectContaining({ code: "xet_xorb_missing" })]);
    }
  });
});

describe("who may only propose a change", () => {
  const other = randomBytes(3, 50_000);

  /** What a stranger sends who calls other bytes by the digest of ours. */
  async function lie(): Promise<number> {
    const { file, xorbs } = buildFile(other);
    const shard = encodeShard({ files: [{ ...file, sha256 }], xorbs: xorbs.map(xorbSpec) });
    const proposer = await connect(eve, REPO, "write", "?create_pr=1");
    return (await proposer.upload({ file, xorbs, shard })).status;
  }
  const served = async (): Promise<Uint8Array> =>
    new Uint8Array(await (await anonymous.raw("GET", `/${REPO}/resolve/main/model.safetensors`)).arrayBuffer());

  it("puts no other bytes under a digest that is committed", async () => {
    await publish();
    expect(await lie()).toBe(503);
    expect(same(await served(), bytes)).toBe(true);
    await new Backroom().run();
    expect(await lie()).toBe(200);
    expect(same(await served(), bytes)).toBe(true);
  });

  it("waits for another's claim on the same digest, and mends a wrong one", async () => {
    expect(await lie()).toBe(200);
    const proposer = await connect(eve, REPO, "write", "?create_pr=1");
    expect((await proposer.upload(built)).status).toBe(503);
    await new Backroom().run();
    expect((await proposer.upload(built)).status).toBe(200);
    await new Backroom().run();
    expect((await ada.commit(REPO, [lfsLine("model.safetensors", sha256, bytes.length)])).status).toBe(200);
    expect(same(await served(), bytes)).toBe(true);
  });

  it("can't get its own committed by the owner in their place", async () => {
    expect(await lie()).toBe(200);
    await publish();
    expect(same(await served(), bytes)).toBe(true);
  });

  it("can upload what its pull request needs", async () => {
    const proposer = await connect(eve, REPO, "write", "?create_pr=1");
    expect((await proposer.upload(built)).status).toBe(200);
    const body = [
      { key: "header", value: { summary: "weights", description: "" } },
      lfsLine("model.safetensors", sha256, bytes.length),
    ];
    const answer = await eve.raw("POST", `/api/models/${REPO}/commit/main?create_pr=1`, {
      body: body.map((line) => JSON.stringify(line)).join("\n"),
      headers: { "content-type": "application/x-ndjson" },
    });
    expect(answer.status).toBe(200);
    const proposed = await anonymous.raw("GET", `/${REPO}/resolve/refs%2Fpr%2F1/model.safetensors`);
    expect(same(new Uint8Array(await proposed.arrayBuffer()), bytes)).toBe(true);
  });
});

describe("a download by parts", () => {
  for (const version of [1, 2] as const) {
    it(`gives the file, by version ${version}`, async () => {
      await publish();
      expect(same(await reader.download(built.file.hash, version), bytes)).toBe(true);
    });

    it(`gives any range of it, by version ${version}`, async () => {
      await publish();
      for (const [first, last] of [
        [0, 0],
        [0, 255_999_999],
        [1, 300_000],
        [299_999, 300_001],
        [bytes.length - 1, bytes.length - 1],
        [bytes.length - 10, bytes.length + 10],
      ] as const) {
        const range = `bytes=${first}-${last}`;
        const part = await reader.download(built.file.hash, version, range);
        expect([range, same(part, bytes.slice(first, last + 1))]).toEqual([range, true]);
      }
    });

    it(`answers 416 behind the end, by version ${version}`, async () => {
      await publish();
      for (const range of [`bytes=${bytes.length}-`, "bytes=256000000-767999999"]) {
        const answer = await reader.ask("GET", `/v${version}/reconstructions/${built.file.hash}`, {
          headers: { range },
        });
        expect([range, answer.status]).toEqual([range, 416]);
        expect(answer.headers.get("content-range")).toBe(`bytes */${bytes.length}`);
      }
    });
  }

  it("names each chunk in one address, in the words of both versions", async () => {
    await publish();
    const path = `/reconstructions/${built.file.hash}`;
    const v1 = V1.parse((await reader.ask("GET", `/v1${path}`)).body);
    const v2 = V2.parse((await reader.ask("GET", `/v2${path}`)).body);
    expect(v1.terms).toEqual(v2.terms);
    expect(v1.offset_into_first_range).toBe(0);
    expect(new Set(Object.keys(v1.fetch_info))).toEqual(new Set(built.xorbs.map((xorb) => xorb.hash)));
    expect(Object.keys(v1.fetch_info)).toEqual(Object.keys(v2.xorbs));
  });

  it("is one event of the trail, however many windows it takes", async () => {
    await publish();
    for (const range of ["bytes=0-99999", "bytes=100000-199999", "bytes=200000-299999"])
      await reader.download(built.file.hash, 2, range);
    await runInDurableObject(env.EVENT_BUFFER.get(env.EVENT_BUFFER.idFromName("hub")), (buffer) => buffer.flush());
    const trail = await ada.get("/api/v1/audit?type=content.used");
    expect(trail.text.match(/"type":"content.used"/g)).toHaveLength(1);
    expect(trail.text).toContain(sha256);
  });

  it("asks the database twice: for rights and file, and for the terms", async () => {
    await publish(SECRET);
    const own = await connect(ada, SECRET, "read");
    const { d1, r2, result } = await countRoundTrips(() => own.ask("GET", `/v2/reconstructions/${built.file.hash}`));
    expect([result.status, d1, r2]).toEqual([200, 2, 0]);
  });

  it("is told the file's size by HEAD", async () => {
    await publish();
    const head = await reader.cas("HEAD", `/v1/files/${built.file.hash}`);
    expect([head.status, head.headers.get("content-length")]).toEqual([200, String(bytes.length)]);
  });

  it("of what is private needs a token of who may read it", async () => {
    await publish(SECRET);
    const own = await connect(ada, SECRET, "read");
    expect(same(await own.download(built.file.hash), bytes)).toBe(true);
    expect((await reader.ask("GET", `/v2/reconstructions/${built.file.hash}`)).status).toBe(404);
    expect((await eve.get(`/api/models/${SECRET}/xet-read-token/main`)).status).toBe(404);
  });

  it("goes on for who holds its addresses, until they expire, and only for the bytes that they name", async () => {
    await publish(SECRET);
    const own = await connect(ada, SECRET, "read");
    const { xorbs } = V2.parse((await own.ask("GET", `/v2/reconstructions/${built.file.hash}`)).body);
    const [entry] = Object.values(xorbs).flat();
    const url = entry?.url ?? "";
    const { start = 0, end = 0 } = entry?.ranges[0].bytes ?? {};
    const whole = await anonymous.raw("GET", url, { headers: { range: `bytes=${start}-${end}` } });
    expect([whole.status, whole.headers.get("cache-control")]).toEqual([206, "private, no-store"]);
    expect((await whole.arrayBuffer()).byteLength).toBe(end - start + 1);
    for (const [name, value] of [
      ["bytes", `${start}-${end + 2}`],
      ["expires", "99999999999"],
      ["public", "1"],
      ["signature", "AAAA"],
    ] as const) {
      const forged = new URL(url);
      forged.searchParams.set(name, value);
      expect([name, (await anonymous.raw("GET", forged.href)).status]).toEqual([name, 403]);
    }
    const now = Date.now();
    const clock = vi.spyOn(Date, "now").mockReturnValue(now + 3_700_000);
    const late = await anonymous.raw("GET", url);
    clock.mockRestore();
    expect(late.status).toBe(403);
  });
});

describe("resolve of a file that is kept as Xet", () => {
  const get = (method: string, headers: Record<string, string> = {}) =>
    anonymous.raw(method, `/${REPO}/resolve/main/model.safetensors`, { headers });

  it("says so on HEAD, without leaving for elsewhere", async () => {
    const commit = await publish();
    const response = await get("HEAD");
    expect(response.status).toBe(200);
    const refresh = `http://hub.test/api/models/${REPO}/xet-read-token/${commit}`;
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "x-repo-commit": commit,
      "x-linked-etag": `"${sha256}"`,
      "x-linked-size": String(bytes.length),
      "x-xet-hash": built.file.hash,
      "x-xet-refresh-route": refresh,
      link: `<${refresh}>; rel="xet-auth", <http://hub.test/cas/v1/reconstructions/${built.file.hash}>; rel="xet-reconstruction-info"`,
      "content-length": String(bytes.length),
    });
    expect((await anonymous.get(refresh)).status).toBe(200);
  });

  it("gives who asks for it what the file is, instead of the file", async () => {
    await publish();
    const response = await get("GET", {
      range: "bytes=0-0",
      accept: "application/vnd.xet-fileinfo+json, */*",
    });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/vnd.xet-fileinfo+json");
    expect(response.headers.get("x-linked-size")).toBe(String(bytes.length));
    expect(response.headers.get("vary")).toContain("accept");
    expect(await response.json()).toMatchObject({ hash: built.file.hash, size: bytes.length });
  });

  it("gives everybody else the bytes, with ranges", async () => {
    await publish();
    expect(same(new Uint8Array(await (await get("GET")).arrayBuffer()), bytes)).toBe(true);
    for (const [range, first, last] of [
      ["bytes=0-9", 0, 10],
      ["bytes=299990-300010", 299_990, 300_011],
      ["bytes=-7", bytes.length - 7, bytes.length],
      ["bytes=699000-", 699_000, bytes.length],
    ] as const) {
      const response = await get("GET", { range });
      expect([range, response.status]).toEqual([range, 206]);
      expect(same(new Uint8Array(await response.arrayBuffer()), bytes.slice(first, last))).toBe(true);
    }
    const other = await get("GET", { range: "bytes=699000-", "if-range": '"another version"' });
    expect(other.status).toBe(200);
    expect(same(new Uint8Array(await other.arrayBuffer()), bytes)).toBe(true);
    expect((await get("GET", { range: `bytes=${bytes.length}-` })).status).toBe(416);
  });

  it("is no different for a git client", async () => {
    await publish();
    const response = await anonymous.raw("GET", `/${REPO}.git/info/lfs/objects/${sha256}`);
    expect(same(new Uint8Array(await response.arrayBuffer()), bytes)).toBe(true);
    const verified = await ada.post(`/${REPO}.git/info/lfs/verify`, { oid: sha256, size: bytes.length });
    expect(verified.status).toBe(200);
  });

  it("says nothing of Xet for files that are kept otherwise", async () => {
    const plain = randomBytes(2, 1000);
    const oid = await uploadLfs(ada, REPO, plain);
    await ada.commit(REPO, [lfsLine("plain.bin", oid)]);
    const response = await anonymous.raw("GET", `/${REPO}/resolve/main/plain.bin`, {
      headers: { accept: "application/vnd.xet-fileinfo+json, */*" },
    });
    expect(response.headers.get("content-type")).toBe("application/octet-stream");
    expect(response.headers.has("x-xet-hash")).toBe(false);
    expect(same(new Uint8Array(await response.arrayBuffer()), plain)).toBe(true);
  });
});

describe("the LFS batch call", () => {
  const ask = (transfers: string[], objects = [{ oid: sha256 as string, size: bytes.length }]) =>
    ada.post(`/${REPO}.git/info/lfs/objects/batch`, { operation: "upload", transfers, objects, ref: { name: "main" } });

  it("gives a client that offers Xet all that it needs", async () => {
    const answer = Batch.parse((await ask(["basic", "multipart", "xet"])).body);
    expect(answer.transfer).toBe("xet");
    const upload = answer.objects[0]?.actions?.upload;
    expect(upload?.href).toBe(`http://hub.test/api/models/${REPO}/xet-write-token`);
    const header = new Headers(upload?.header);
    expect(header.get("x-xet-cas-url")).toBe("http://hub.test/cas");
    expect(Number(header.get("x-xet-token-expiration"))).toBeGreaterThan(Date.now() / 1000 + 3000);
    expect(header.get("x-xet-session-id")).toMatch(/^[0-9a-f-]{36}$/);
    const client = writer.as(header.get("x-xet-access-token") ?? "");
    expect((await client.upload(built)).status).toBe(200);
    expect((await ada.get(`/api/models/${REPO}/xet-write-token`)).status).toBe(200);
  });

  it("asks for no upload of what the repository holds, once the hub knows that it is that", async () => {
    await publish();
    const claimed = Batch.parse((await ask(["basic", "multipart", "xet"])).body);
    expect(claimed.objects[0]?.actions).toBeDefined();
    const oid = await uploadLfs(ada, REPO, bytes);
    const verified = Batch.parse((await ask(["basic", "multipart", "xet"])).body);
    expect(verified.objects).toEqual([{ oid, size: bytes.length }]);
  });

  it("sends who names no branch to the token of a pull request", async () => {
    const body = { operation: "upload", transfers: ["xet"], objects: [{ oid: sha256, size: bytes.length }] };
    const answer = Batch.parse((await eve.post(`/${REPO}.git/info/lfs/objects/batch`, body)).body);
    const upload = answer.objects[0]?.actions?.upload;
    expect((await eve.get(new URL(upload?.href ?? "").pathname)).status).toBe(403);
    expect((await eve.get(upload?.href ?? "")).status).toBe(200);
    const client = writer.as(new Headers(upload?.header).get("x-xet-access-token") ?? "");
    expect((await client.upload(built)).status).toBe(200);
  });

  it("stays as it was for clients that do not", async () => {
    expect(Batch.parse((await ask(["basic"])).body).transfer).toBe("basic");
    expect(Batch.parse((await ask(["basic", "multipart"])).body).transfer).toBe("multipart");
  });
});

describe("what the store refuses", () => {
  const get = (path: string) => ["GET", path] as const;
  const ROUTES: [method: string, path: string, status: number, code: string][] = [
    [...get(`/v2/reconstructions/${ABSENT}`), 404, "entry_not_found"],
    [...get(`/v1/reconstructions/${ABSENT}`), 404, "entry_not_found"],
    [...get("/v2/reconstructions/nonsense"), 400, "invalid_field"],
    [...get(`/v2/reconstructions/${ABSENT.toUpperCase()}`), 400, "invalid_field"],
    [...get(`/v3/reconstructions/${ABSENT}`), 404, "not_found"],
    [...get(`/v2/file-chunk-hashes/${ABSENT}`), 404, "not_found"],
    [...get(`/v1/chunks/default/${ABSENT}`), 404, "entry_not_found"],
    [...get(`/v1/chunks/default-merkledb/${ABSENT}`), 404, "entry_not_found"],
    [...get(`/v1/chunks/other/${ABSENT}`), 404, "not_found"],
    [...get("/v1/chunks/default/nonsense"), 400, "invalid_field"],
    [...get(`/v1/xorbs/default/${ABSENT}`), 404, "not_found"],
    [...get(`/v1/files/${ABSENT}`), 404, "not_found"],
    [...get("/"), 404, "not_found"],
    [...get("/v1/xorbs"), 404, "not_found"],
    ["POST", `/v1/xorbs/other/${ABSENT}`, 404, "not_found"],
    ["POST", "/v1/xorbs/default/nonsense", 400, "invalid_field"],
    ["POST", `/v1/xorb-grants/default/${ABSENT}`, 404, "not_found"],
    ["PUT", `/v1/xorbs/default/${ABSENT}`, 404, "not_found"],
  ];
  for (const [method, path, status, code] of ROUTES)
    it(`${method} ${path} with ${status}`, async () => {
      const answer = await writer.ask(method, path);
      expect([answer.status, answer.body]).toEqual([status, expect.objectContaining({ code })]);
      expect(answer.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
    });

  it("HEAD of what is not there with 404", async () => {
    for (const path of [`/v1/xorbs/default/${ABSENT}`, `/v1/files/${ABSENT}`])
      expect((await reader.cas("HEAD", path)).status).toBe(404);
  });

  it("telemetry above 1 MiB, and takes what is below", async () => {
    const send = (size: number) => writer.sendBytes("/v1/telemetry", new Uint8Array(size));
    expect((await send(1 << 20)).status).toBe(200);
    expect((await send((1 << 20) + 1)).status).toBe(413);
    expect((await writer.post("/v1/telemetry", {})).status).toBe(200);
    expect((await anonymous.post("http://hub.test/cas/v1/telemetry", {})).status).toBe(401);
  });

  it("a xorb that says no length", async () => {
    const { body = new Uint8Array() } = built.xorbs[0] ?? {};
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(body);
        controller.close();
      },
    });
    const answer = await writer.ask("POST", `/v1/xorbs/default/${built.xorbs[0]?.hash}`, { body: stream });
    expect(answer.status).toBe(411);
  });

  it("whatever was changed on its way, never with a failure of its own", async () => {
    const [xorb] = built.xorbs;
    if (xorb === undefined) throw new Error("no xorb");
    await writer.upload(built);
    for (let round = 0; round < 24; round++) {
      const source = round % 2 === 0 ? xorb.body : built.shard;
      const path = round % 2 === 0 ? `/v1/xorbs/default/${xorb.hash}` : `/v${1 + ((round % 4) >> 1)}/shards`;
      const changed = source.slice(0, round % 3 === 0 ? (source.length * (round + 1)) / 30 : undefined);
      const at = (round * 7919) % changed.length;
      changed[at] = (changed[at] ?? 0) ^ (1 << (round % 8));
      const { status, body } = await writer.sendBytes(path, changed);
      // Some bits of a shard say nothing.
      expect([round, status === 200 || status === 400 ? 400 : status]).toEqual([round, 400]);
      if (status === 400) expect(body).toMatchObject({ error: expect.any(String), code: expect.any(String) });
    }
  });
});

describe("deduplication", () => {
  it("answers with a shard where the caller may see one, and with nothing elsewhere", async () => {
    await publish(SECRET);
    const [chunk] = built.xorbs[0]?.chunks ?? [];
    if (chunk === undefined) throw new Error("no chunk");
    const hash = xetHashOf(chunk.hash);
    const own = await connect(ada, SECRET, "write");
    const stranger = await connect(eve, REPO, "read");
    for (const prefix of ["default", "default-merkledb"]) {
      expect((await own.cas("GET", `/v1/chunks/${prefix}/${hash}`)).status).toBe(200);
      expect((await stranger.cas("GET", `/v1/chunks/${prefix}/${hash}`)).status).toBe(404);
    }
    const path = `/v1/xorbs/default/${built.xorbs[0]?.hash}`;
    expect((await own.cas("HEAD", path)).status).toBe(200);
    expect((await stranger.cas("HEAD", path)).status).toBe(404);
    expect((await reader.cas("HEAD", path)).status).toBe(404);
    const proposer = await connect(eve, REPO, "write", "?create_pr=1");
    expect((await proposer.cas("HEAD", path)).status).toBe(404);
  });
});
