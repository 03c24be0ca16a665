// A folder for one test file's files, gone when its tests have run.
import { createHash } from "node:crypto";
import { createReadStream, globSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { afterAll } from "vitest";

/** Gives fresh paths below a temporary folder. Call it at the top of a test file. */
export function scratchFolder(): (name: string) => string {
  const root = mkdtempSync(join(tmpdir(), "owm-client-files-"));
  let count = 0;
  afterAll(() => rmSync(root, { recursive: true, force: true }));
  return (name) => join(root, `${++count}-${name}`);
}

export const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");

/** SHA-256 of a file of any size. */
export async function fileSha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

/** Relative path → SHA-256 of every file below a folder, hidden ones left out. */
export function folderDigests(folder: string): Record<string, string> {
  const files = globSync("**/*", { cwd: folder }).filter((path) => statSync(join(folder, path)).isFile());
  return Object.fromEntries(files.map((path) => [path, sha256(readFileSync(join(folder, path)))]));
}
