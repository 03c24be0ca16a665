// Downloading with curl, as scripts do: ranges, HEAD, resuming, asking only whether something has changed.
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { beforeAll, expect, inject, it } from "vitest";
import * as z from "zod";
import { newPerson } from "./people.ts";
import { pythonStep } from "./python-client.ts";
import { gitBlobId, sampleFiles, seededBytes, writeFiles } from "./sample-files.ts";
import { fileSha256, scratchFolder, sha256 } from "./scratch.ts";

const exec = promisify(execFile);
const scratch = scratchFolder();
const files = sampleFiles("curl");
/** More than one part: its bytes lie in several objects. */
const LARGE = seededBytes("curl large", 70 * 1024 * 1024);
let base: string;

beforeAll(async () => {
  const owner = await newPerson("curl");
  const repo = `${owner.name}/files`;
  const folder = scratch("folder");
  writeFiles(folder, { ...files, "large.bin": { bytes: LARGE, lfs: true } });
  const session = { version: "2.4.0", token: owner.token, home: scratch("home") } as const;
  await pythonStep(session, "refusals.py", "prepare", { repo, private: false, folder }, z.null());
  base = `${inject("endpoint")}/${repo}/resolve/main`;
});

type Answer = { status: number; headers: Record<string, string>; file: string };

async function curl(path: string, ...options: string[]): Promise<Answer> {
  const head = scratch("head");
  const file = scratch("body");
  writeFileSync(file, "");
  const url = `${base}/${path.split("/").map(encodeURIComponent).join("/")}`;
  const { stdout } = await exec("curl", ["-sS", "-D", head, "-o", file, "-w", "%{http_code}", ...options, url]);
  const lines = readFileSync(head, "utf8").trim().split("\r\n").slice(1);
  const pairs = lines.map((line) => {
    const at = line.indexOf(":");
    return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()] as const;
  });
  return { status: Number(stdout), headers: Object.fromEntries(pairs), file };
}

it.each(["config.json", "large.bin", "übung/größe 文件 ☃ 🤗.txt", "empty.txt"])(
  "says by HEAD what a GET of %s would give",
  async (path) => {
    const bytes = files[path]?.bytes ?? LARGE;
    const head = await curl(path, "--head");
    const get = await curl(path);
    for (const { status, headers } of [head, get]) {
      expect(status).toBe(200);
      expect(headers).toMatchObject({
        "content-length": String(bytes.length),
        etag: `"${path === "large.bin" ? sha256(bytes) : gitBlobId(bytes)}"`,
        "accept-ranges": "bytes",
        "x-repo-commit": expect.stringMatching(/^[0-9a-f]{40}$/),
      });
    }
    expect(await fileSha256(get.file)).toBe(sha256(bytes));
  },
);

it.each([
  ["0-0", 0, 1],
  ["67108860-67108870", 67_108_860, 67_108_871],
  ["73400310-", 73_400_310, LARGE.length],
  ["-7", LARGE.length - 7, LARGE.length],
  ["73400319-99999999999", LARGE.length - 1, LARGE.length],
])("gives the bytes %s of a file", async (range, start, end) => {
  const { status, headers, file } = await curl("large.bin", "--range", range);
  expect(status).toBe(206);
  expect(headers["content-range"]).toBe(`bytes ${start}-${end - 1}/${LARGE.length}`);
  expect(readFileSync(file)).toEqual(LARGE.subarray(start, end));
});

it("refuses a range beyond the end, and says where that is", async () => {
  const { status, headers } = await curl("large.bin", "--range", `${LARGE.length}-`);
  expect(status).toBe(416);
  expect(headers["content-range"]).toBe(`bytes */${LARGE.length}`);
});

it("resumes a download that broke off", async () => {
  const file = scratch("resumed");
  writeFileSync(file, LARGE.subarray(0, 66_000_001));
  const head = scratch("head");
  await exec("curl", ["-sS", "--fail", "-C", "-", "-D", head, "-o", file, `${base}/large.bin`]);
  expect(readFileSync(head, "utf8")).toContain("206 Partial Content");
  expect(await fileSha256(file)).toBe(sha256(LARGE));
});

it("starts over where the file has changed since the first part came", async () => {
  const { status, file } = await curl("large.bin", "--range", "5-", "-H", 'If-Range: "another version"');
  expect(status).toBe(200);
  expect(await fileSha256(file)).toBe(sha256(LARGE));
});

it("sends nothing of what the caller has", async () => {
  const { headers } = await curl("large.bin", "--head");
  const again = await curl("large.bin", "-H", `If-None-Match: ${headers.etag}`);
  expect(again.status).toBe(304);
  expect(readFileSync(again.file)).toHaveLength(0);
  expect((await curl("large.bin", "-H", 'If-None-Match: "older"')).status).toBe(200);
});
