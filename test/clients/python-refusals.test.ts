// What the stock Python client raises when the hub says no: the classes that its users' programs catch.
import { beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { newPerson, newToken, type Person } from "./people.ts";
import { pythonStep, type Session, VERSIONS } from "./python-client.ts";
import { sampleFiles, writeFiles } from "./sample-files.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const Failure = z.object({ kinds: z.array(z.string()), message: z.string() });
const Failures = z.record(z.string(), z.union([Failure, z.array(z.unknown())]));

describe.each(VERSIONS)("huggingface_hub %s", (version) => {
  let owner: Person;
  let stranger: Person;
  let repo: string;
  let hidden: string;
  const as = (token?: string): Session => ({
    version,
    home: scratch("home"),
    ...(token === undefined ? {} : { token }),
  });

  /** The most telling class of each failure; lists are passed on. */
  async function outcomes(session: Session, step: string, args: Record<string, unknown>) {
    const answer = await pythonStep(session, "refusals.py", step, args, Failures);
    return Object.fromEntries(
      Object.entries(answer).map(([name, one]) => [name, Array.isArray(one) ? one : (one.kinds[0] ?? one.message)]),
    );
  }

  beforeAll(async () => {
    owner = await newPerson("owner");
    stranger = await newPerson("stranger");
    repo = `${owner.name}/public`;
    hidden = `${owner.name}/hidden`;
    const folder = scratch("folder");
    writeFiles(folder, sampleFiles("refusals"));
    for (const [name, isPrivate] of [
      [repo, false],
      [hidden, true],
    ])
      await pythonStep(as(owner.token), "refusals.py", "prepare", { repo: name, private: isPrivate, folder }, z.null());
  });

  const nowhere = {
    "missing file": "RemoteEntryNotFoundError",
    "missing file, without asking": "LocalEntryNotFoundError",
    "missing revision": "RevisionNotFoundError",
    "missing revision, snapshot": "RevisionNotFoundError",
    "missing commit": "RevisionNotFoundError",
    "missing folder": "RemoteEntryNotFoundError",
    "missing repository": "RepositoryNotFoundError",
    "missing namespace": "RepositoryNotFoundError",
    "single name": "RepositoryNotFoundError",
    "wrong type": "RepositoryNotFoundError",
  };
  const closed = {
    private: "RepositoryNotFoundError",
    "private file": "RepositoryNotFoundError",
    "private listing": "RepositoryNotFoundError",
    "private refs": "RepositoryNotFoundError",
    "private commits": "RepositoryNotFoundError",
    "private exists": [false, false],
  };

  it.each([
    { whose: "another user", token: () => stranger.token },
    { whose: "a visitor without a token", token: () => undefined },
  ])("shows $whose a private repository as none at all", async ({ token }) => {
    const answer = await outcomes(as(token()), "reading", { repo, private: hidden });
    expect(answer).toEqual({ ...nowhere, ...closed, listed: [repo] });
  });

  it("shows its owner a private repository like any other", async () => {
    const answer = await outcomes(as(owner.token), "reading", { repo, private: hidden });
    const open = "nothing was raised";
    expect(answer).toEqual({
      ...nowhere,
      private: open,
      "private file": open,
      "private listing": open,
      "private refs": open,
      "private commits": open,
      "private exists": [true, true],
      listed: expect.arrayContaining([repo, hidden]),
    });
  });

  it("names what is wrong with a change", async () => {
    const mine = `${stranger.name}/mine`;
    const answer = await pythonStep(
      as(stranger.token),
      "refusals.py",
      "writing",
      { theirs: repo, mine, namespace: owner.name },
      Failures,
    );
    const refused = (kind: string, text: string) => ({
      kinds: expect.arrayContaining([kind]),
      message: expect.stringContaining(text),
    });
    const forbidden = refused("HfHubHTTPError", "403 Forbidden");
    expect(answer).toEqual({
      "upload to theirs": forbidden,
      "LFS to theirs": forbidden,
      "delete theirs": forbidden,
      "branch on theirs": forbidden,
      "settings of theirs": forbidden,
      "create in their namespace": forbidden,
      "missing branch": refused("RevisionNotFoundError", "nowhere"),
      "missing repository": refused("RepositoryNotFoundError", "404"),
      "path of git": refused("HfHubHTTPError", "git"),
      "path of a device": refused("HfHubHTTPError", "device"),
      "delete a missing file": refused("EntryNotFoundError", "no/such/file"),
      "pull request against nothing": refused("RevisionNotFoundError", "nowhere"),
      space: refused("HfHubHTTPError", "spaces are not served here"),
      "bad front matter": refused("ValueError", "Invalid metadata in README.md"),
      "files of mine": [".gitattributes"],
    });
  });

  it("refuses a token that it never gave out, even where none is needed", async () => {
    const answer = await pythonStep(
      as("hf_neverGivenOutByThisHub0123456789"),
      "refusals.py",
      "bad_token",
      { repo, create: `${owner.name}/by-nobody` },
      z.record(z.string(), Failure),
    );
    for (const { kinds, message } of Object.values(answer)) {
      expect(kinds).toContain("HfHubHTTPError");
      expect(message).toMatch(/401|Invalid user token/);
    }
  });

  it("knows who is asking, and lets a token that may only read do nothing else", async () => {
    const token = await newToken(owner.name, "read");
    const Who = z.object({ name: z.string(), type: z.string(), orgs: z.array(z.string()), role: z.string() });
    const reader = await pythonStep(as(token), "refusals.py", "who", {}, Who);
    expect(reader).toEqual({ name: owner.name, type: "user", orgs: [], role: "read" });
    const reading = await outcomes(as(token), "reading", { repo, private: hidden });
    expect(reading["private file"]).toBe("nothing was raised");
    const writing = await pythonStep(as(token), "refusals.py", "write_one", { repo }, Failure);
    expect(writing.message).toContain("403 Forbidden");
  });
});
