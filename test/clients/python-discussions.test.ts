// Discussions and pull requests with the stock Python client, between two people.
import { describe, expect, inject, it } from "vitest";
import * as z from "zod";
import { newPerson } from "./people.ts";
import { pythonStep, type Session, VERSIONS } from "./python-client.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const Line = z.array(z.unknown());

describe.each(VERSIONS)("huggingface_hub %s", (version) => {
  async function twoPeople() {
    const [owner, guest] = [await newPerson("owner"), await newPerson("guest")];
    const session: Session = { version, token: owner.token, home: scratch("home") };
    return { session, owner: owner.name, guest: guest.name, guestToken: guest.token };
  }

  it.each(["model", "dataset"] as const)("talks about a %s", async (type) => {
    const { session, owner, guest, guestToken } = await twoPeople();
    const repo = `${owner}/talked-about`;
    const answer = await pythonStep(
      session,
      "discussions.py",
      "talk",
      { repo, type, guest: guestToken },
      z.object({
        opened: Line,
        url: z.string(),
        edited: Line,
        rendered: z.string(),
        answers: z.array(Line),
        status: z.string(),
        events: z.array(Line),
        pull: Line,
        refused: z.record(z.string(), z.array(z.string())),
      }),
    );
    expect(answer.opened).toEqual([1, "A question", "open", guest, false, null]);
    expect(answer.url).toBe(`${inject("endpoint")}/${type === "model" ? "" : "datasets/"}${repo}/discussions/1`);
    expect(answer.edited).toEqual(["It is so.", 1, owner, "It is."]);
    expect(answer.rendered).toContain("<strong>so</strong>");
    const hidden = ["comment", guest, "This comment has been hidden", false, true];
    const renamed = ["title", guest, "A question", "A good question"];
    expect(answer.answers).toEqual([
      ["comment", owner, "It is.", false, false],
      hidden,
      renamed,
      ["status", owner, "closed"],
      ["comment", guest, "thanks", false, false],
    ]);
    expect(answer.status).toBe("closed");
    expect(answer.events).toEqual([
      ["comment", guest, "Is it **so**?", false, false],
      ["comment", owner, "It is so.", true, false],
      hidden,
      renamed,
      ["comment", owner, "done", false, false],
      ["status", owner, "closed"],
      ["comment", guest, "thanks", false, false],
    ]);
    expect(answer.pull).toEqual([null, null, null]);
    for (const [what, kinds] of Object.entries(answer.refused)) expect(kinds, what).toContain("HfHubHTTPError");
  });

  it("proposes changes, and merges those that do not conflict", async () => {
    const { session, owner, guest, guestToken } = await twoPeople();
    const answer = await pythonStep(
      session,
      "discussions.py",
      "propose",
      { repo: `${owner}/changed`, guest: guestToken },
      z.object({
        draft: Line,
        early: z.string(),
        opened: Line,
        diff: z.string(),
        pushed: Line,
        "by guest": z.string(),
        merged: Line,
        ends: z.array(Line),
        history: z.array(Line),
        commits: z.object({ pushed: z.string(), main: z.string() }),
        files: z.array(z.string()),
        conflicts: Line,
        "from a commit": z.array(z.string()),
        lists: z.record(z.string(), z.array(Line)),
        refs: z.array(z.string()),
      }),
    );
    expect(answer.draft).toEqual([
      [1, "A change", "draft", guest, true, "refs/pr/1"],
      "refs/heads/main",
      [],
      [["comment", guest, "for the better", false, false]],
    ]);
    expect(answer.early).toContain("409");
    expect(answer.opened).toEqual(["status", guest, "open"]);
    expect(answer.pushed).toEqual([
      "open",
      ["commit", guest, "two for one", answer.commits.pushed],
      answer.commits.pushed,
    ]);
    expect(answer.diff).toContain("--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two\n");
    expect(answer["by guest"]).toContain("403");
    const [status, mergeCommit, conflicting, diff] = answer.merged;
    expect([status, conflicting, diff]).toEqual(["merged", null, answer.diff]);
    expect(answer.ends).toEqual([
      ["status", guest, "open"],
      ["comment", owner, "welcome", false, false],
      ["status", owner, "merged"],
    ]);
    expect(answer.history.slice(0, 2)).toEqual([
      [mergeCommit, "A change (#1)", "welcome", "A change (#1)", [owner]],
      [answer.commits.main, "meanwhile", "", "meanwhile", [owner]],
    ]);
    expect(answer.history).toHaveLength(5);
    expect(answer.files).toEqual([".gitattributes", "a.txt", "c.txt"]);
    expect(answer.conflicts).toEqual([expect.stringContaining("a.txt"), ["a.txt"]]);
    expect(answer["from a commit"]).toContain("RevisionNotFoundError");
    const [merged, closed] = [
      [1, "A change", "merged", guest, true, "refs/pr/1"],
      [2, "Another", "closed", guest, true, "refs/pr/2"],
    ];
    expect(answer.lists).toEqual({
      all: [closed, merged],
      "pull requests": [closed, merged],
      open: [],
      closed: [closed, merged],
      "by nobody": [],
    });
    expect(answer.refs).toEqual(["refs/pr/1", "refs/pr/2"]);
  });

  it("lists more discussions than a page holds", async () => {
    const { session, owner } = await twoPeople();
    const numbers = await pythonStep(
      session,
      "discussions.py",
      "many",
      { repo: `${owner}/much-discussed`, count: 53 },
      z.array(z.number()),
    );
    expect(numbers).toEqual(Array.from({ length: 53 }, (_, i) => 53 - i));
  });
});
