// Transfers by parts under every setting of the stock Python client, broken off in the middle, in ranges, and beside clients without Xet.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { eventually, within } from "../faults/client.ts";
import { callHub, newPerson, newToken, type Person, sharedHub } from "./people.ts";
import { hf, pythonStep, type Session, startStep, VERSIONS } from "./python-client.ts";
import { REQUESTS, recordedHub } from "./recorded-hub.ts";
import { seededBytes, weightsFile, writeFiles } from "./sample-files.ts";
import { fileSha256, folderDigests, scratchFolder, sha256 } from "./scratch.ts";
import { download, upload, xetSession } from "./xet-steps.ts";

const exec = promisify(execFile);
const scratch = scratchFolder();
const recorded = recordedHub();
const MB = 1_000_000;

/** Another machine: nothing in its cache. */
const machine = (person?: Person, more: Partial<Session> = {}): Session =>
  xetSession(recorded, scratch("home"), {
    version: "2.4.0",
    ...(person === undefined ? {} : { token: person.token }),
    ...more,
  });

function written(name: string, bytes: Uint8Array): string {
  const path = scratch(name);
  writeFileSync(path, bytes);
  return path;
}

const BASE = seededBytes("transfers base", 6 * MB);
/** Pieces of the base between pieces of its own: a file of many ranges of several xorbs. */
const patchwork = (seed: string): Buffer =>
  Buffer.concat([
    BASE.subarray(3 * MB, 4 * MB),
    weightsFile(`${seed} weights`, MB),
    BASE.subarray(0.5 * MB, 1.5 * MB),
    seededBytes(`${seed} random`, 0.3 * MB),
    BASE.subarray(4.5 * MB, 5.5 * MB),
  ]);
/** Of the float32 values among them. */
const WEIGHTS = 4 * MB;

const Job = z.looseObject({ id: z.string(), result: z.unknown(), error: z.unknown() });
const Merged = z.looseObject({ record: z.looseObject({ bytes_uploaded: z.number() }) });

let owner: Person;
let repo: string;

beforeAll(async () => {
  owner = await newPerson("transfers");
  repo = `${owner.name}/transfers`;
  await upload(machine(owner), { repo, from: written("base.bin", BASE), path: "base.bin" });
});

const [LATEST, OLDER] = VERSIONS;
const asked = (all: readonly { path: string }[], path: string): boolean => all.some((one) => one.path.startsWith(path));

describe("settings of the client", () => {
  it.each([
    { version: OLDER, name: "HF_XET_XORB_COMPRESSION_POLICY", value: "none" },
    { version: OLDER, name: "HF_XET_XORB_COMPRESSION_POLICY", value: "lz4" },
    { version: OLDER, name: "HF_XET_XORB_COMPRESSION_POLICY", value: "bg4-lz4" },
    ...[LATEST, OLDER].flatMap((version) =>
      [
        "HF_XET_CLIENT_RECONSTRUCTION_API_VERSION",
        "HF_XET_CLIENT_SHARD_API_VERSION",
        "HF_XET_CLIENT_ENABLE_MULTIRANGE_FETCHING",
        "HF_XET_HIGH_PERFORMANCE",
      ].map((name) => ({ version, name, value: "1" })),
    ),
  ])("huggingface_hub $version with $name=$value", async ({ version, name, value }) => {
    const bytes = patchwork(`${version} ${name} ${value}`);
    const settings = { [name]: value };
    const path = `${version}/${name}/${value}.bin`;
    recorded.traffic();
    await upload(machine(owner, { version, settings }), { repo, from: written("patchwork.bin", bytes), path });
    const sent = recorded.traffic();
    expect(await download(machine(owner, { version, settings }), { repo, path })).toBe(sha256(bytes));
    const { all } = recorded.traffic();
    expect(sent.xorbs).toBeGreaterThan(0);
    if (value === "none") expect(sent.xorbBytes).toBeGreaterThan(WEIGHTS);
    if (value === "bg4-lz4") expect(sent.xorbBytes).toBeLessThan(0.9 * (WEIGHTS + MB));
    const [v1, v2] = ["/cas/v1/", "/cas/v2/"];
    expect(asked(sent.all, `${v1}shards`)).toBe(name.includes("SHARD_API"));
    expect(asked(sent.all, `${v2}shards`)).toBe(!name.includes("SHARD_API"));
    expect(asked(all, `${v1}reconstructions`)).toBe(name.includes("RECONSTRUCTION_API"));
    expect(asked(all, `${v2}reconstructions`)).toBe(!name.includes("RECONSTRUCTION_API"));
  });
});

it.each(VERSIONS)("%s sends of an edit from another machine only what is new", async (version) => {
  const bytes = seededBytes(`edited ${version}`, 40 * MB);
  const path = `${version}/large.bin`;
  await upload(machine(owner, { version }), { repo, from: written("before.bin", bytes), path });
  const edited = Buffer.from(bytes);
  edited.set(seededBytes("sixteen bytes", 16), 17 * MB);
  recorded.traffic();
  await upload(machine(owner, { version }), { repo, from: written("after.bin", edited), path });
  const { sentBytes, xorbs } = recorded.traffic();
  expect(xorbs).toBe(1);
  expect(sentBytes).toBeLessThan(200_000);
  expect(await download(machine(owner, { version }), { repo, path })).toBe(sha256(edited));
});

describe("what breaks off", () => {
  async function killed(child: Awaited<ReturnType<typeof startStep>>["child"]): Promise<void> {
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  it("an upload goes on where it was killed", async () => {
    // Two xorbs: the client dies in the middle of one of them.
    const bytes = seededBytes("resumed upload", 100 * MB);
    const args = { repo, from: written("large.bin", bytes), path: "resumed.bin" };
    // How often the client notes which xorbs it has sent.
    const session = machine(owner, { settings: { HF_XET_DATA_SESSION_XORB_METADATA_FLUSH_INTERVAL: "1s" } });
    recorded.traffic();
    const hold = recorded.network.hold(REQUESTS.XORB, "half-sent", 1);
    const { child, answer } = await startStep(session, "xet.py", "up", args, z.unknown());
    answer.catch(() => undefined);
    const held = await within(hold, "the second xorb");
    await eventually("the client's note of the first xorb", async () =>
      globSync("xet/**/*.mdb", { cwd: session.home }).length > 0 ? true : null,
    );
    await killed(child);
    held.drop();
    const before = recorded.traffic();
    await upload(session, args);
    const after = recorded.traffic();
    expect([before.xorbs, after.xorbs]).toEqual([1, 1]);
    expect(before.xorbBytes + after.xorbBytes).toBeLessThan(101 * MB);
    expect(await download(machine(), { repo, path: "resumed.bin" })).toBe(sha256(bytes));
  });

  it("a download that was killed comes whole the next time", async () => {
    const session = machine();
    const hold = recorded.network.hold(REQUESTS.DATA, "half-answered");
    const { child, answer } = await startStep(session, "xet.py", "down", { repo, path: "base.bin" }, z.unknown());
    answer.catch(() => undefined);
    const held = await within(hold, "the file's bytes");
    await killed(child);
    held.drop();
    expect(await download(session, { repo, path: "base.bin" })).toBe(sha256(BASE));
  });

  it("a connection that breaks in the middle of a xorb or of a file's bytes is tried again by the client", async () => {
    const bytes = seededBytes("broken connection", 5 * MB);
    for (const [match, point] of [
      [REQUESTS.XORB, "half-sent"],
      [REQUESTS.DATA, "half-answered"],
    ] as const)
      void recorded.network.hold(match, point).then((held) => held.drop());
    const args = { repo, from: written("broken.bin", bytes), path: "broken.bin" };
    await upload(machine(owner), args);
    expect(await download(machine(), args)).toBe(sha256(bytes));
  });

  it.each([
    { what: "an upload", match: REQUESTS.XORB, step: "up" },
    { what: "a download", match: REQUESTS.RECONSTRUCTION, step: "down" },
  ] as const)("$what ends when its token is revoked meanwhile", async ({ match, step }) => {
    const secret = `${owner.name}/revoked-${step}`;
    const from = written("secret.bin", seededBytes(`revoked ${step}`, 2 * MB));
    await upload(machine(owner), { repo: secret, from, path: "first.bin", private: true });
    const asOwner = { ...sharedHub(), token: await newToken(owner.name, "admin") };
    const token = await newToken(owner.name, "write");
    const Tokens = z.object({ tokens: z.array(z.object({ id: z.string() })) });
    const [newest] = Tokens.parse(await callHub(asOwner, "GET", "/tokens")).tokens;
    const other = written("other.bin", seededBytes(`revoked ${step} other`, 2 * MB));
    const hold = recorded.network.hold(match, "arrived");
    const path = step === "up" ? "second.bin" : "first.bin";
    const args = { repo: secret, from: other, path };
    const { answer } = await startStep(machine({ ...owner, token }), "xet.py", step, args, z.unknown());
    const ended = answer.then(
      () => "succeeded",
      () => "failed",
    );
    const held = await within(hold, `${match.path}`);
    await callHub(asOwner, "DELETE", `/tokens/${newest?.id}`);
    held.release();
    expect(await ended).toBe("failed");
    const listed = await fetch(`${recorded.endpoint}/api/models/${secret}/tree/main`, {
      headers: { authorization: `Bearer ${owner.token}` },
    });
    const paths = z.array(z.object({ path: z.string() })).parse(await listed.json());
    expect(paths.map((one) => one.path).sort()).toEqual([".gitattributes", "first.bin"]);
  });
});

describe("parts of a file", () => {
  const bytes = patchwork("ranges");
  const RANGES = [
    [0, 1],
    [65_535, 2],
    [999_990, 4_000_020],
    [bytes.length - 5, 5],
  ] as const;
  let url: string;

  beforeAll(async () => {
    await upload(machine(owner), { repo, from: written("ranges.bin", bytes), path: "ranges.bin" });
    url = `${recorded.endpoint}/${repo}/resolve/main/ranges.bin`;
  });

  it("come through the client's file system", async () => {
    const Answer = z.object({ parts: z.array(z.string()), tail: z.string(), size: z.number() });
    const args = { repo, path: "ranges.bin", ranges: RANGES, block: MB };
    const { parts, tail, size } = await pythonStep(machine(), "files.py", "read_parts", args, Answer);
    expect(size).toBe(bytes.length);
    expect(tail).toBe(bytes.subarray(-16).toString("hex"));
    expect(parts.map(sha256)).toEqual(
      RANGES.map(([start, length]) => sha256(bytes.subarray(start, start + length).toString("hex"))),
    );
  });

  const curl = async (address: string, ...options: string[]) => {
    const file = scratch("by-curl");
    const { stdout } = await exec("curl", ["-sS", "-o", file, "-w", "%{http_code}", ...options, address]);
    return { status: Number(stdout), file };
  };

  it("come by plain HTTP, and the whole, resumed", async () => {
    for (const [start, length] of RANGES) {
      const { status, file } = await curl(url, "--range", `${start}-${start + length - 1}`);
      expect(status).toBe(206);
      expect(sha256(readFileSync(file))).toBe(sha256(bytes.subarray(start, start + length)));
    }
    expect((await curl(url, "--range", `${bytes.length}-`)).status).toBe(416);
    const begun = written("begun.bin", bytes.subarray(0, 1_234_567));
    await exec("curl", ["-sS", "--fail", "-C", "-", "-o", begun, url]);
    expect(await fileSha256(begun)).toBe(sha256(bytes));
  });

  it("come to git lfs", async () => {
    const Batch = z.object({
      objects: z.tuple([z.object({ actions: z.object({ download: z.object({ href: z.url() }) }) })]),
    });
    const response = await fetch(`${recorded.endpoint}/${repo}.git/info/lfs/objects/batch`, {
      method: "POST",
      headers: { "content-type": "application/vnd.git-lfs+json" },
      body: JSON.stringify({ operation: "download", objects: [{ oid: sha256(bytes), size: bytes.length }] }),
    });
    const { href } = Batch.parse(await response.json()).objects[0].actions.download;
    const whole = await curl(href);
    expect([whole.status, await fileSha256(whole.file)]).toEqual([200, sha256(bytes)]);
    const part = await curl(href, "--range", "1000000-");
    expect([part.status, await fileSha256(part.file)]).toEqual([206, sha256(bytes.subarray(MB))]);
  });
});

describe("clients without Xet", () => {
  const bytes = Buffer.concat([BASE.subarray(MB, 3 * MB), seededBytes("by lfs", 2 * MB)]);

  it("upload files that Xet clients get by their parts, once the hub has taken them in", async () => {
    const args = { repo, from: written("by-lfs.bin", bytes), path: "by-lfs.bin" };
    recorded.traffic();
    await upload(machine(owner, { withoutXet: true }), args);
    const { xorbs, lfsCalls, all } = recorded.traffic();
    expect({ xorbs, lfsCalls }).toEqual({ xorbs: 0, lfsCalls: 1 });
    expect(all.filter(({ method }) => method === "PUT")).toHaveLength(1);
    await eventually("the hub to take the file in", async () => {
      const response = await fetch(`${recorded.endpoint}/${repo}/resolve/main/by-lfs.bin`, { method: "HEAD" });
      return response.headers.get("x-xet-hash");
    });
    recorded.traffic();
    expect(await download(machine(), args)).toBe(sha256(bytes));
    expect(recorded.traffic().reconstructions).toBeGreaterThan(0);
    // What the hub made of it is found by the next upload of the same bytes.
    const longer = written("longer.bin", Buffer.concat([bytes, Buffer.from("an end of its own")]));
    recorded.traffic();
    await upload(machine(owner), { repo, from: longer, path: "longer.bin" });
    expect(recorded.traffic().sentBytes).toBeLessThan(200_000);
  });

  it("download what Xet clients have uploaded", async () => {
    recorded.traffic();
    expect(await download(machine(undefined, { withoutXet: true }), { repo, path: "base.bin" })).toBe(sha256(BASE));
    expect(recorded.traffic().reconstructions).toBe(0);
  });
});

it("believes an uploader's SHA-256 beyond the repository once it is computed from the content", async () => {
  const bytes = seededBytes("claimed", 3 * MB);
  await upload(machine(owner), { repo, from: written("claimed.bin", bytes), path: "claimed.bin" });
  const stranger = await newPerson("links");
  const theirs = `${stranger.name}/theirs`;
  await upload(machine(stranger), { repo: theirs, from: written("x.bin", Buffer.from("x")), path: "x.bin" });
  // A repository that may link the bytes is told to upload nothing.
  const Batch = z.object({ objects: z.tuple([z.object({ actions: z.unknown().optional() })]) });
  await eventually("the digest to be verified", async () => {
    const response = await fetch(`${recorded.endpoint}/${theirs}.git/info/lfs/objects/batch`, {
      method: "POST",
      headers: { "content-type": "application/vnd.git-lfs+json", authorization: `Bearer ${stranger.token}` },
      body: JSON.stringify({ operation: "upload", objects: [{ oid: sha256(bytes), size: bytes.length }] }),
    });
    return Batch.parse(await response.json()).objects[0].actions === undefined ? true : null;
  });
});

it("takes a merge by its parts, and nothing of one whose weights are stored already", async () => {
  const hub = { ...sharedHub(), token: owner.token };
  for (const name of ["a", "b"]) {
    const from = scratch(`model ${name}`);
    writeFiles(from, {
      "model.safetensors": { bytes: weightsFile(`merged ${name}`, MB / 2), lfs: true },
      "config.json": { bytes: Buffer.from("{}"), lfs: false },
    });
    await upload(machine(owner), { repo: `${owner.name}/${name}`, from });
  }
  const merge = async (into: string) => {
    const [a, b] = [`${owner.name}/a`, `${owner.name}/b`];
    const request = { kind: "merge", method: "linear", a, b, lambda: 0.5, output: { repo: `${owner.name}/${into}` } };
    const { id } = Job.parse(await callHub(hub, "POST", "/jobs", request));
    const ended = await eventually("the merge to end", async () => {
      const job = Job.parse(await callHub(hub, "GET", `/jobs/${id}`));
      return job.result ?? job.error ?? null;
    });
    return Merged.parse(ended).record.bytes_uploaded;
  };
  const [first, again] = [await merge("merged"), await merge("merged-again")];
  expect(first).toBeGreaterThan(MB);
  expect(again).toBeLessThan(20_000);
  const weights = (name: string) => download(machine(), { repo: `${owner.name}/${name}`, path: "model.safetensors" });
  expect(await weights("merged")).toBe(await weights("merged-again"));
});

describe("the command line", () => {
  it.each(VERSIONS)("`hf upload` and `hf download` of %s", async (version) => {
    const bytes = weightsFile(`by hf ${version}`, MB);
    const mine = `${owner.name}/by-hf-${version}`;
    recorded.traffic();
    await hf(machine(owner, { version }), "upload", mine, written("w.safetensors", bytes), "w.safetensors");
    const { xorbs, lfsCalls } = recorded.traffic();
    expect({ xorbs, lfsCalls }).toEqual({ xorbs: 1, lfsCalls: 0 });
    const into = scratch("by-hf");
    await hf(machine(undefined, { version }), "download", mine, "--local-dir", into);
    expect(folderDigests(into)).toEqual({ "w.safetensors": sha256(bytes) });
    expect(recorded.traffic().reconstructions).toBeGreaterThan(0);
  });
});
