// The stock Python client with nothing set but endpoint and token: files go and come by their parts, whole, and only once.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { newPerson, type Person } from "./people.ts";
import { pythonStep, type Version, XET_VERSIONS } from "./python-client.ts";
import { recordedHub } from "./recorded-hub.ts";
import { type Sample, seededBytes, weightsFile, writeFiles } from "./sample-files.ts";
import { scratchFolder, sha256 } from "./scratch.ts";
import { download, propose, snapshot, upload, xetSession } from "./xet-steps.ts";

const scratch = scratchFolder();
const recorded = recordedHub();
const MB = 1_000_000;

const Failure = z.object({ kinds: z.array(z.string()), message: z.string() });
const XET_OF: Record<Version, string> = { "2.4.0": "1.8.0", "2.0.0": "1.6.0", "1.33.0": "1.6.0" };

/** Another machine: nothing in its cache. */
const machine = (version: Version, person?: Person) =>
  xetSession(recorded, scratch("home"), { version, ...(person === undefined ? {} : { token: person.token }) });

const lfs = (bytes: Buffer): Sample => ({ bytes, lfs: true });

function modelFolder(seed: string): Record<string, Sample> {
  const random = seededBytes(`${seed} random`, 3 * MB);
  return {
    "README.md": { bytes: Buffer.from("# A model\n"), lfs: false },
    "model.safetensors": lfs(weightsFile(`${seed} weights`, 2 * MB)),
    "random.bin": lfs(random),
    "checkpoints/copy of random.bin": lfs(random),
    "checkpoints/zeros.bin": lfs(Buffer.alloc(2 * MB)),
    "checkpoints/one byte.bin": lfs(Buffer.from([7])),
    "empty.bin": { bytes: Buffer.alloc(0), lfs: false },
  };
}

describe.each(XET_VERSIONS)("huggingface_hub %s", (version) => {
  const files = modelFolder(version);
  let owner: Person;
  let repo: string;
  let folder: string;
  let home: ReturnType<typeof machine>;
  let digests: Record<string, string>;

  beforeAll(async () => {
    owner = await newPerson("xet");
    repo = `${owner.name}/model`;
    folder = scratch("folder");
    digests = writeFiles(folder, files);
    home = machine(version, owner);
  });

  it("uploads a folder by its parts, in fewer bytes than it has", async () => {
    recorded.traffic();
    const { hf_xet } = await upload(home, { repo, from: folder });
    expect(hf_xet).toBe(XET_OF[version]);
    const { lfsCalls, xorbs, xorbBytes, shards } = recorded.traffic();
    expect({ lfsCalls, shards }).toEqual({ lfsCalls: 0, shards: 1 });
    expect(xorbs).toBeGreaterThan(0);
    // A quarter of the float32 values' bytes hardly changes, zeros take nothing; files of one upload are not compared by the client.
    expect(xorbBytes).toBeGreaterThan(3 * MB);
    expect(xorbBytes).toBeLessThan(13 * MB);
  });

  it("sends none of it again, neither from the same machine nor from another", async () => {
    for (const session of [home, machine(version, owner)]) {
      recorded.traffic();
      await upload(session, { repo, from: join(folder, "random.bin"), path: `again ${sha256(session.home)}.bin` });
      const { xorbs, shards, sentBytes } = recorded.traffic();
      expect({ xorbs, shards }).toEqual({ xorbs: 0, shards: 1 });
      expect(sentBytes).toBeLessThan(100_000);
    }
  });

  it("downloads a public model without a token, by its parts", async () => {
    recorded.traffic();
    const found = await snapshot(machine(version), { repo });
    expect(found).toMatchObject(digests);
    const { reconstructions, dataBytes, all } = recorded.traffic();
    expect(reconstructions).toBeGreaterThanOrEqual(4);
    expect(dataBytes).toBeGreaterThan(3 * MB);
    const whole = all.filter(({ method, path }) => method === "GET" && /\/resolve\/.*(safetensors|\.bin)/.test(path));
    expect(whole.filter(({ path }) => !path.endsWith("empty.bin"))).toEqual([]);
    for (const path of ["model.safetensors", "checkpoints/one byte.bin"])
      expect(await download(machine(version), { repo, path })).toBe(digests[path]);
  });

  it("takes pull requests of files and folders, also from whoever may only read", async () => {
    const stranger = await newPerson("proposer");
    const people = version === "2.4.0" ? [owner, stranger] : [stranger];
    for (const person of people) {
      const bytes = seededBytes(`${version} proposal of ${person.name}`, 2 * MB);
      const file = scratch("proposal.bin");
      writeFileSync(file, bytes);
      const session = machine(version, person);
      recorded.traffic();
      const one = await propose(session, { repo, from: file, path: "proposed.bin" });
      const { lfsCalls, xorbs } = recorded.traffic();
      expect({ lfsCalls, xorbs }).toEqual({ lfsCalls: 0, xorbs: 1 });
      expect(one.revision).toMatch(/^refs\/pr\/\d+$/);
      expect(await download(machine(version), { repo, path: "proposed.bin", revision: one.revision })).toBe(
        sha256(bytes),
      );

      const inside = scratch("proposed folder");
      const proposed = writeFiles(inside, {
        "weights/a.bin": lfs(bytes.subarray(0, MB)),
        "note.txt": lfs(bytes.subarray(0, 5)),
      });
      const many = await propose(session, { repo, from: inside });
      expect(many.revision).not.toBe(one.revision);
      expect(await snapshot(machine(version), { repo, revision: many.revision })).toMatchObject({
        ...digests,
        ...proposed,
      });
    }
    expect(Object.keys(await snapshot(machine(version), { repo }))).not.toContain("proposed.bin");
  });

  it("keeps a private model from everybody else", async () => {
    const secret = `${owner.name}/secret`;
    const bytes = seededBytes(`${version} secret`, MB);
    const from = scratch("secret.bin");
    writeFileSync(from, bytes);
    await upload(machine(version, owner), { repo: secret, from, path: "secret.bin", private: true });
    expect(await download(machine(version, owner), { repo: secret, path: "secret.bin" })).toBe(sha256(bytes));
    for (const session of [machine(version), machine(version, await newPerson("stranger"))]) {
      const args = { repo: secret, path: "secret.bin", from };
      const refused = await pythonStep(
        session,
        "xet.py",
        "refused",
        args,
        z.object({ download: Failure, upload: Failure }),
      );
      expect(refused.download.kinds).toContain("RepositoryNotFoundError");
      expect(refused.upload.kinds).toContain("HfHubHTTPError");
    }
  });
});
