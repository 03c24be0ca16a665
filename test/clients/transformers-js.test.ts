// The stock @huggingface/transformers in Node: configuration, tokenizer and pipeline of a model on the hub, public or private.
import { execFile } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import * as hub from "@huggingface/hub";
import { beforeAll, expect, inject, it } from "vitest";
import * as z from "zod";
import { newPerson, type Person } from "./people.ts";
import { ROOT } from "./python-client.ts";
import { scratchFolder } from "./scratch.ts";
import { expectedFeatures, tinyOnnxModel } from "./tiny-onnx.ts";

const exec = promisify(execFile);
const scratch = scratchFolder();
const WANTED = join(ROOT, "test", "clients", "transformers-js");
const VERSION = "4.3.1";

/** Where the library lies; installed there on first use, without what its dependencies would download on their own. */
async function installed(): Promise<string> {
  const cache = join(ROOT, ".cache");
  const place = join(cache, `transformers.js-${VERSION}`);
  if (existsSync(place)) return place;
  mkdirSync(cache, { recursive: true });
  const draft = mkdtempSync(join(cache, "installing-"));
  try {
    for (const name of ["package.json", "package-lock.json"]) copyFileSync(join(WANTED, name), join(draft, name));
    const path = (process.env.PATH ?? "").split(delimiter).filter((folder) => !folder.includes("node_modules"));
    const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    await exec("npm", ["install", ...flags], { cwd: draft, env: { ...process.env, PATH: path.join(delimiter) } });
    renameSync(draft, place);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return place;
}

const Extracted = z.object({
  type: z.string(),
  ids: z.array(z.number()),
  dims: z.array(z.number()),
  features: z.array(z.array(z.array(z.number()))),
});
const Answer = z.union([Extracted, z.object({ error: z.string() })]);

let packages: string;
let owner: Person;
beforeAll(async () => {
  packages = await installed();
  owner = await newPerson("browser");
  for (const hidden of [false, true]) {
    const repo = { type: "model", name: `${owner.name}/${hidden ? "hidden" : "shown"}` } as const;
    const as = { hubUrl: inject("endpoint"), accessToken: owner.token };
    await hub.createRepo({ ...as, repo, private: hidden });
    const files = Object.entries(tinyOnnxModel()).map(([path, content]) => ({ path, content: new Blob([content]) }));
    await hub.uploadFiles({ ...as, repo, files, useXet: false });
  }
});

async function extract(name: string, token?: string): Promise<z.output<typeof Answer>> {
  const args = {
    packages,
    endpoint: inject("endpoint"),
    cache: scratch("cache"),
    token,
    model: `${owner.name}/${name}`,
  };
  const asked = JSON.stringify({ ...args, texts: ["Open weights", "open weightss"] });
  const { stdout } = await exec(process.execPath, [join(WANTED, "extract.mjs"), asked]);
  return Answer.parse(JSON.parse(stdout));
}

it("runs a public model for a visitor, and a private one for its owner", async () => {
  const [visitor, its] = await Promise.all([extract("shown"), extract("hidden", owner.token)]);
  expect(visitor).toEqual({
    type: "bert",
    ids: [2, 5, 6, 3],
    dims: [2, 5, 4],
    features: [expectedFeatures([2, 5, 6, 3, 0]), expectedFeatures([2, 5, 6, 7, 3])],
  });
  expect(its).toEqual(visitor);
});

it("tells a visitor nothing of a private model", async () => {
  expect(await extract("hidden")).toEqual({ error: expect.stringContaining("nauthorized access to file") });
});
