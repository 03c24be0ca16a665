// Our Xet codecs, in workerd, against hf_xet itself: its hashes and cuts are ours, we read what it writes, it reads what we write.
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { build } from "esbuild";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { workerModules } from "../../cli/worker-bundle";

const ROOT = path.join(import.meta.dirname, "../..");
const PYTHON = path.join(ROOT, "gpu-service/.venv/bin/python");
const SCRIPT = path.join(ROOT, "test/clients/python/xet_oracle.py");
const POLICIES = ["auto", "none", "lz4", "bg4-lz4"] as const;
type Policy = (typeof POLICIES)[number];

const known = z.array(z.object({ name: z.string(), hash: z.string(), size: z.int(), sha256: z.string() }));
const file = z.object({ hash: z.string(), sha256: z.string(), chunks: z.array(z.tuple([z.string(), z.int()])) });
const xorb = z.object({
  footerAt: z.int(),
  packedSize: z.int(),
  chunks: z.array(z.string()),
  schemes: z.array(z.int()),
  index: z.string(),
});
const shard = z.object({
  files: z.array(
    z.object({ hash: z.string(), sha256: z.string().nullable(), proven: z.boolean(), rebuilt: z.string() }),
  ),
  xorbs: z.array(z.object({ hash: z.string(), same: z.boolean() })),
});

const folder = mkdtempSync(path.join(tmpdir(), "owm-xet-"));
const storeOf = (policy: Policy): string => path.join(folder, policy, "store/xet/xorbs");
let workerd: Miniflare;
const written = new Map<Policy, z.infer<typeof known>>();

/** Runs a step of the script with settings and caches of its own. */
async function python(step: string, policy: Policy, input = ""): Promise<unknown> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(HF_|HUGGING|PYTHON)/.test(name));
  const home = path.join(folder, `home-${policy}-${step}`);
  mkdirSync(home);
  const env = { ...Object.fromEntries(inherited), HF_HOME: home, HF_XET_XORB_COMPRESSION_POLICY: policy };
  return new Promise((resolve, reject) => {
    const child = execFile(PYTHON, [SCRIPT, step, path.join(folder, policy)], { env }, (error, stdout) =>
      error === null ? resolve(JSON.parse(stdout)) : reject(error),
    );
    child.stdin?.end(input);
  });
}

async function ask(question: string, body: Uint8Array): Promise<Response> {
  const address = new URL(`http://xet.test/${question}`);
  const response = await workerd.dispatchFetch(address.href, { method: "POST", body });
  if (!response.ok) throw new Error(await response.text());
  return new Response(await response.arrayBuffer());
}

const namesIn = (place: string): string[] => readdirSync(place).filter((name) => !name.endsWith(".tagset"));
const xorbsOf = (policy: Policy) =>
  namesIn(path.join(storeOf(policy), "xorbs")).map((name) => {
    const place = path.join(storeOf(policy), "xorbs", name);
    return { place, hash: name.replace("default.", ""), bytes: readFileSync(place) };
  });

beforeAll(async () => {
  const outdir = path.join(folder, "bundle");
  await build({
    entryPoints: [path.join(ROOT, "test/kit/xet-worker.ts")],
    outdir,
    bundle: true,
    format: "esm",
    target: "esnext",
    external: ["node:*"],
    loader: { ".wasm": "copy" },
    logLevel: "error",
  });
  workerd = new Miniflare(
    convertV4MiniflareOptions({
      modules: workerModules(outdir, "xet-worker.ts"),
      modulesRoot: outdir,
      compatibilityDate: "2026-11-01",
      compatibilityFlags: ["nodejs_compat"],
    }),
  );
  for (const policy of POLICIES) written.set(policy, known.parse(await python("write", policy)));
}, 60_000);

afterAll(async () => {
  await workerd?.dispose();
  rmSync(folder, { recursive: true, force: true });
});

test("its hashes and SHA-256 of files are ours, and a published one", async () => {
  for (const { name, hash, sha256 } of written.get("none") ?? []) {
    const bytes = readFileSync(path.join(folder, "none/files", name));
    expect(file.parse(await (await ask("file", bytes)).json()), name).toMatchObject({ hash, sha256 });
    if (name === "published") expect(hash).toBe("833fc2b84debbb8f396cad2b22e913bc086eee7a144658023c7ae2c79e6fa285");
  }
});

describe.each(POLICIES)("with the policy %s", (policy) => {
  const indexes: Record<string, string> = {};

  test("its xorbs are read, and hold the chunks that we cut", async () => {
    const cut = new Set<string>();
    for (const { name } of written.get(policy) ?? []) {
      const bytes = readFileSync(path.join(folder, policy, "files", name));
      for (const [hash] of file.parse(await (await ask("file", bytes)).json()).chunks) cut.add(hash);
    }
    const stored = new Set<string>();
    const schemes = new Set<number>();
    for (const { hash, bytes } of xorbsOf(policy)) {
      const found = xorb.parse(await (await ask(`xorb?hash=${hash}`, bytes)).json());
      expect(found.footerAt).toBe(found.packedSize);
      indexes[hash] = found.index;
      for (const chunk of found.chunks) stored.add(chunk);
      for (const scheme of found.schemes) schemes.add(scheme);
    }
    expect([...stored].sort()).toEqual([...cut].sort());
    const used = { auto: [0, 1, 2], none: [0], lz4: [0, 1], "bg4-lz4": [0, 2] }[policy];
    expect([...schemes].every((scheme) => used.includes(scheme))).toBe(true);
    expect(schemes.size).toBeGreaterThan(policy === "none" ? 0 : 1);
  });

  test("its shards are read, and say what the xorbs hold and what the files are", async () => {
    const files = new Map<string, string | null>();
    for (const place of [path.join(storeOf(policy), "shards"), path.join(folder, policy, "store/xet/shard-cache")])
      for (const name of namesIn(place)) {
        const question = `shard?indexes=${encodeURIComponent(JSON.stringify(indexes))}`;
        const found = shard.parse(await (await ask(question, readFileSync(path.join(place, name)))).json());
        expect(found.xorbs.every(({ same }) => same)).toBe(true);
        for (const { hash, sha256, proven, rebuilt } of found.files) {
          expect([proven, rebuilt]).toEqual([true, hash]);
          files.set(hash, sha256);
        }
      }
    // Of the empty file it claims no SHA-256.
    const expected = (written.get(policy) ?? []).map(({ hash, sha256, size }) => [hash, size > 0 ? sha256 : null]);
    expect(Object.fromEntries(files)).toEqual(Object.fromEntries(expected));
  });
});

test("it reads every file back from xorbs that we packed", async () => {
  for (const { place, hash, bytes } of xorbsOf("none")) {
    const ours = new Uint8Array(await (await ask(`repack?hash=${hash}`, bytes)).arrayBuffer());
    expect(ours.length).toBeLessThan(bytes.length * 0.95);
    rmSync(place);
    writeFileSync(place, ours);
  }
  const files = (written.get("none") ?? []).filter(({ size }) => size > 0);
  expect(await python("read", "none", JSON.stringify(files))).toEqual([]);
});
