// Repositories as a whole, as the stock Python client handles them: gates, moves, duplicates, squashes, files deleted for good.
import { describe, expect, it } from "vitest";
import * as z from "zod";
import { callHub, newPerson, newToken, sharedHub } from "./people.ts";
import { pythonStep, type Session, VERSIONS } from "./python-client.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const SCRIPT = "lifecycle.py";
const Failure = z.object({ kinds: z.array(z.string()), message: z.string() });

describe.each(VERSIONS)("huggingface_hub %s", (version) => {
  async function someone(): Promise<{ session: Session; name: string }> {
    const { name, token } = await newPerson("owner");
    return { session: { version, token, home: scratch("home") }, name };
  }

  it("meets a gate, asks, and is let in and out", async () => {
    const { session, name } = await someone();
    const other = await newPerson("other");
    const answer = await pythonStep(
      session,
      SCRIPT,
      "gated",
      { other: other.name, other_token: other.token },
      z.looseObject({
        ungated: z.array(z.string()),
        before: z.looseObject({
          download: Failure,
          anonymous: Failure,
          snapshot: Failure,
          auth_check: Failure,
          not_for_others: Failure,
        }),
        shut: z.array(z.string()),
        twice: z.string(),
        granted_twice: z.array(z.string()),
        nobody: z.string(),
      }),
    );
    const { before } = answer;
    expect(before).toMatchObject({ gated: "manual", files: [".gitattributes", "config.json", "note.txt"] });
    for (const { kinds } of [before.download, before.anonymous, before.snapshot, before.auth_check])
      expect(kinds).toContain("GatedRepoError");
    expect(before.download.message).toContain(`/${name}/gated/ask-access`);
    expect(before.not_for_others.message).toContain("403");
    const who = other.name;
    expect(answer).toMatchObject({
      open: "open",
      asked: 200,
      request: [who, who, "pending", true],
      lists: [
        [[who], [], []],
        [[], [who], []],
        [[], [], [who]],
        [[who], [], []],
        [[], [who], []],
      ],
      content: "{}",
    });
    expect(answer.ungated).toContain("BadRequestError");
    expect(answer.shut).toContain("GatedRepoError");
    expect(answer.twice).toContain("404");
    expect(answer.granted_twice).toContain("BadRequestError");
    expect(answer.nobody).toContain("404");
  });

  it("moves a repository and works on under its first name", async () => {
    const { session, name } = await someone();
    const org = `house-${name}`;
    const mine = { endpoint: sharedHub().endpoint, token: await newToken(name, "admin") };
    await callHub(mine, "POST", "/organizations", { name: org });
    const answer = await pythonStep(session, SCRIPT, "move", { me: name, org }, z.looseObject({ taken: z.string() }));
    expect(answer.taken).toMatch(/A model repository called .* already exists/);
    expect(answer).toMatchObject({
      id: `${org}/after`,
      files: [".gitattributes", "a.txt", "c.bin", "dir/b.txt"],
      content: "two",
      binary: 10_240,
      exists: true,
      snapshot: 4,
      commits: 4,
    });
  });

  it("squashes histories", async () => {
    const { session } = await someone();
    const answer = await pythonStep(session, SCRIPT, "squash", {}, z.looseObject({ tag: z.array(z.string()) }));
    expect(answer).toMatchObject({ before: 4, side: ["all of it"], content: "2" });
    expect(answer.main).toEqual(["Super-squash branch 'main' using huggingface_hub"]);
    expect(answer.tag).toContain("BadRequestError");
  });

  it("deletes LFS files for good", async () => {
    const { session } = await someone();
    const answer = await pythonStep(session, SCRIPT, "lfs_files", {}, z.looseObject({ gone: z.array(z.string()) }));
    expect(answer).toMatchObject({
      listed: {
        "keep.bin": [30_000, "refs/heads/main", true],
        "dir/leak.bin": [30_000, "refs/heads/main", true],
      },
      files: [".gitattributes", "README.md", "keep.bin"],
      left: ["keep.bin"],
      commits: 4,
      kept: 30_000,
    });
    expect(answer.gone).toContain("EntryNotFoundError");
  });

  it("duplicates a repository", async () => {
    const { session, name } = await someone();
    const answer = await pythonStep(session, SCRIPT, "duplicate", { me: name }, z.looseObject({ twice: z.string() }));
    expect(answer).toMatchObject({
      id: `${name}/copy`,
      again: `${name}/copy`,
      size: 25_000,
      same: true,
      owned: [`${name}/copy`, `${name}/source`],
    });
    expect(answer.twice).toContain("409");
  });
});
