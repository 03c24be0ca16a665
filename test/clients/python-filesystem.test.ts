// The stock client's file system, which datasets, pandas, Polars and DuckDB read the hub through.
import { writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import * as z from "zod";
import { newPerson } from "./people.ts";
import { pythonStep, type Session, VERSIONS } from "./python-client.ts";
import { seededBytes } from "./sample-files.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const Failure = z.object({ kinds: z.array(z.string()), message: z.string() });

it.each(VERSIONS)("HfFileSystem of huggingface_hub %s", async (version) => {
  const { name, token } = await newPerson("files");
  const session: Session = { version, token, home: scratch("home") };
  const weights = scratch("weights.bin");
  writeFileSync(weights, seededBytes(`${version} file system`, 600_000));
  const Seen = z.looseObject({ missing: Failure, no_repository: Failure });
  for (const type of ["model", "dataset"]) {
    const args = { repo: `${name}/files`, type, weights };
    const seen = await pythonStep(session, "filesystem.py", "tour", args, Seen);
    expect(seen).toMatchObject({
      ls: ["/.gitattributes", "/notes", "/weights.bin"],
      types: {
        "/.gitattributes": "file",
        "/notes": "directory",
        "/notes/deep": "directory",
        "/notes/deep/copy.bin": "file",
        "/notes/first.txt": "file",
        "/weights.bin": "file",
      },
      glob: ["/notes/deep/copy.bin", "/weights.bin"],
      size: true,
      last_commit: "Upload weights.bin with huggingface_hub",
      modified: true,
      put_by: "put",
      exists: [true, true, false, false],
      text: "first\nsecond\n",
      tail: "second\n",
      range: true,
      slices: true,
      fsspec: "first\n",
    });
    expect(seen.missing.kinds).toContain("FileNotFoundError");
    expect(seen.no_repository.kinds).toContain("FileNotFoundError");
  }
  const args = { repo: `${name}/files`, other: `${name}/other` };
  expect(await pythonStep(session, "filesystem.py", "change", args, z.unknown())).toEqual({
    copied: [
      ["/.gitattributes", "/again.bin", "/notes/deep/copy.bin", "/notes/first.txt", "/weights.bin"],
      ["/.gitattributes", "/taken.txt"],
    ],
    moved: ["/.gitattributes", "/moved.bin", "/notes/deep/copy.bin", "/weights.bin"],
    removed: ["/.gitattributes", "/moved.bin", "/weights.bin"],
    branch: ["first.txt", "side.txt"],
    as_revision: "aside",
  });
});
