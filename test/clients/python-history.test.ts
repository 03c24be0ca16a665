// Changing what is published with the stock Python client: edits, copies, branches, tags, history, settings, the end.
import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import * as z from "zod";
import { newPerson } from "./people.ts";
import { pythonStep, type Session, VERSIONS } from "./python-client.ts";
import { seededBytes } from "./sample-files.ts";
import { scratchFolder, sha256 } from "./scratch.ts";

const scratch = scratchFolder();
const Failure = z.object({ kinds: z.array(z.string()), message: z.string() });

describe.each(VERSIONS)("huggingface_hub %s", (version) => {
  async function someone(): Promise<{ session: Session; name: string }> {
    const { name, token } = await newPerson("editor");
    return { session: { version, token, home: scratch("home") }, name };
  }

  it.each(["model", "dataset"] as const)("edits the files of a %s", async (type) => {
    const { session, name } = await someone();
    const weights = scratch("weights.bin");
    const bytes = seededBytes(`${version} ${type} edits`, 200_000);
    writeFileSync(weights, bytes);
    const { states, uploads_of_copies } = await pythonStep(
      session,
      "history.py",
      "edit",
      { repo: `${name}/edited`, type, weights },
      z.object({
        states: z.record(z.string(), z.record(z.string(), z.string())),
        uploads_of_copies: z.array(z.string()),
      }),
    );
    const folder = { "folder/one.txt": sha256("one"), "folder/two.bin": sha256(bytes) };
    const notes = sha256("second");
    expect(states).toEqual({
      uploaded: { ...folder, "notes.txt": sha256("first") },
      replaced: { ...folder, "notes.txt": notes },
      copied: { ...folder, "notes.txt": notes, "copies/two.bin": sha256(bytes), "copies/notes.txt": notes },
      deleted: { ...folder, "copies/two.bin": sha256(bytes) },
      "folder deleted": { "copies/two.bin": sha256(bytes) },
      "folder replaced": { "copies/new.txt": sha256("after the deletion") },
    });
    expect(uploads_of_copies).toEqual([]);
  });

  it("makes, reads, writes to and deletes branches and tags", async () => {
    const { session, name } = await someone();
    const answer = await pythonStep(
      session,
      "history.py",
      "refs",
      { repo: `${name}/refs` },
      z.object({
        commits: z.object({ first: z.string(), on_branch: z.string(), second: z.string() }),
        branches: z.record(z.string(), z.string()),
        tags: z.record(z.string(), z.string()),
        texts: z.record(z.string(), z.string()),
        messages: z.record(z.string(), z.string()),
        kinds: z.record(z.string(), z.array(z.string())),
        left: z.array(z.string()),
      }),
    );
    const { first, on_branch, second } = answer.commits;
    expect(answer.branches).toEqual({ main: second, "feature/x": on_branch, old: first });
    expect(answer.tags).toEqual({ v1: first, v0: first });
    expect(answer.texts).toEqual({
      main: "3",
      "refs/heads/main": "3",
      "second's first digits": "3",
      "feature/x": "2",
      v1: "1",
      v0: "1",
      old: "1",
      "first's id": "1",
    });
    expect(answer.messages["branch exists"]).toContain("Reference refs/heads/old already exists");
    expect(answer.messages["tag exists"]).toContain("Reference refs/tags/v1 already exists");
    expect(answer.messages["main is kept"]).toContain("Cannot delete refs/heads/main");
    expect(answer.kinds["no such tag"]).toContain("RevisionNotFoundError");
    expect(answer.kinds["from nowhere"]).toContain("RevisionNotFoundError");
    expect(answer.kinds["bad name"]).toContain("BadRequestError");
    expect(answer.kinds["deleted branch"]).toContain("RevisionNotFoundError");
    expect(answer.left.sort()).toEqual(["refs/heads/main", "refs/heads/old", "refs/tags/v1"]);
  });

  it("reads the history, and refuses a commit whose parent is no longer the head", async () => {
    const { session, name } = await someone();
    const answer = await pythonStep(
      session,
      "history.py",
      "commits",
      { repo: `${name}/history` },
      z.object({
        shas: z.array(z.string()),
        history: z.array(
          z.object({ id: z.string(), title: z.string(), message: z.string(), authors: z.array(z.string()) }),
        ),
        of_a_revision: z.array(z.string()),
        conflict: Failure,
        follows: z.boolean(),
      }),
    );
    const newestFirst = answer.shas.toReversed();
    expect(answer.history.slice(0, 3)).toEqual(
      newestFirst.map((id, i) => ({
        id,
        title: `step ${2 - i}`,
        message: `why ${2 - i}\nin two lines`,
        authors: [name],
      })),
    );
    expect(answer.history[3]).toMatchObject({ title: "initial commit", authors: [name] });
    expect(answer.of_a_revision).toEqual([...newestFirst.slice(1), answer.history[3]?.id]);
    expect(answer.conflict.kinds).toContain("HfHubHTTPError");
    expect(answer.conflict.message).toContain("412");
    expect(answer.conflict.message).toContain("The branch was updated since you opened this page");
    expect(answer.follows).toBe(true);
  });

  it("reads a history of more commits than a page holds", async () => {
    const { session, name } = await someone();
    const { made, listed } = await pythonStep(
      session,
      "history.py",
      "long_history",
      { repo: `${name}/long`, count: 60 },
      z.object({ made: z.array(z.string()), listed: z.array(z.string()) }),
    );
    expect(new Set(made).size).toBe(60);
    expect(listed.slice(0, 60)).toEqual(made.toReversed());
    expect(listed).toHaveLength(61);
  });

  it.each(["model", "dataset"] as const)("changes who sees a %s, and deletes it", async (type) => {
    const { session, name } = await someone();
    const answer = await pythonStep(
      session,
      "history.py",
      "end",
      { repo: `${name}/ends`, type },
      z.object({
        private: z.array(z.boolean()),
        exists: z.boolean(),
        deleted_twice: z.array(z.string()),
        missing_ok: z.null(),
        made_again: z.string(),
        empty_again: z.array(z.string()),
      }),
    );
    expect(answer).toMatchObject({
      private: [true, false, true],
      exists: false,
      made_again: `${name}/ends`,
      empty_again: [".gitattributes"],
    });
    expect(answer.deleted_twice).toContain("RepositoryNotFoundError");
  });
});
