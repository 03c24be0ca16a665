// The stock command line, `hf`: everything it offers for models and datasets.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import * as z from "zod";
import { newPerson } from "./people.ts";
import { pythonStep, type Session } from "./python-client.ts";
import { CARD, seededBytes } from "./sample-files.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const Said = z.record(z.string(), z.object({ code: z.number(), out: z.string(), error: z.string() }));

/** What each command printed; JSON where it printed that. Every command must end well, but those whose name begins with "no". */
async function hf(session: Session, commands: Record<string, string>): Promise<Record<string, unknown>> {
  const said = await pythonStep(session, "cli.py", "commands", { commands }, Said);
  const failed = Object.entries(said).filter(([name, { code }]) => (code !== 0) !== name.startsWith("no"));
  expect(failed).toEqual([]);
  const parsed = (text: string): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  };
  return Object.fromEntries(Object.entries(said).map(([name, { out, error }]) => [name, parsed(out || error)]));
}

function publishedFolder(): string {
  const folder = scratch("folder");
  mkdirSync(folder);
  writeFileSync(join(folder, "README.md"), CARD);
  writeFileSync(join(folder, "config.json"), '{"model_type": "bert"}');
  writeFileSync(join(folder, "weights.bin"), seededBytes("hf", 200_000));
  return folder;
}

it("takes a model from its creation to its end", async () => {
  const { name, token } = await newPerson("typist");
  const session: Session = { version: "2.4.0", token, home: scratch("home") };
  const [repo, folder, back] = [`${name}/typed`, publishedFolder(), scratch("back")];
  const said = await hf(session, {
    whoami: "auth whoami --json",
    created: `repos create ${repo} --private --json`,
    again: `repos create ${repo} --exist-ok --json`,
    uploaded: `upload ${repo} ${folder} . --commit-message typed`,
    tagged: `repos tag create ${repo} v1 -m first`,
    tags: `repos tag list ${repo} --json`,
    branched: `repos branch create ${repo} next`,
    "file uploaded": `upload ${repo} ${join(folder, "config.json")} deep/config.json --revision next`,
    "file copied": `cp ${join(folder, "config.json")} hf://${repo}/copied.json`,
    "files deleted": `repos delete-files ${repo} deep/* --revision next`,
    "branch deleted": `repos branch delete ${repo} next`,
    listed: `models list --author ${name} --json`,
    info: `models info ${repo} --json`,
    expanded: `models info ${repo} --expand sha,likes,tags --json`,
    card: `models card ${repo} --text`,
    files: `models list ${repo} -R --json`,
    downloaded: `download ${repo} --revision v1 --local-dir ${back}`,
    verified: `cache verify ${repo} --revision v1 --local-dir ${back} --fail-on-missing-files`,
    opened: `repos settings ${repo} --public --gated auto`,
    storage: "repos list --json",
    moved: `repos move ${repo} ${name}/retyped`,
    "info of the old name": `models info ${repo} --json`,
    duplicated: `repos duplicate ${name}/retyped ${name}/twice --private --json`,
    deleted: `repos delete ${name}/retyped --yes`,
    "no longer": `models info ${name}/retyped`,
  });
  expect(said).toMatchObject({
    whoami: { user: name },
    listed: [{ id: repo }],
    info: { id: repo, private: true, tags: expect.arrayContaining(["license:apache-2.0"]) },
    expanded: { id: repo, likes: 0 },
    card: expect.stringContaining("# A model"),
    "info of the old name": { id: `${name}/retyped`, gated: "auto" },
    "no longer": expect.stringContaining("not found"),
  });
  const names = (files: unknown): string[] =>
    z
      .array(z.object({ path: z.string() }))
      .parse(files)
      .map((file) => file.path);
  expect(names(said.files).sort()).toEqual([
    ".gitattributes",
    "README.md",
    "config.json",
    "copied.json",
    "weights.bin",
  ]);
  for (const path of ["README.md", "weights.bin"])
    expect(readFileSync(join(back, path)).equals(readFileSync(join(folder, path)))).toBe(true);
});

it("discusses, proposes and merges, collects, and watches", async () => {
  const { name, token } = await newPerson("talker");
  const session: Session = { version: "2.4.0", token, home: scratch("home") };
  const [repo, folder] = [`${name}/talked`, publishedFolder()];
  const said = await hf(session, {
    created: `repos create ${repo}`,
    uploaded: `upload ${repo} ${join(folder, "config.json")} config.json`,
    discussed: `discussions create ${repo} --title 'A question' --body 'Why?'`,
    commented: `discussions comment ${repo} 1 --body 'Because.'`,
    renamed: `discussions rename ${repo} 1 'Answered'`,
    closed: `discussions close ${repo} 1 --yes`,
    proposed: `upload ${repo} ${join(folder, "README.md")} README.md --create-pr`,
    talks: `discussions list ${repo} --status all --json`,
    changes: `discussions diff ${repo} 2`,
    merged: `discussions merge ${repo} 2 --yes`,
    "pull request": `discussions info ${repo} 2 --json`,
    collected: `collections create Favourites --format quiet`,
    added: `collections add-item {collected} ${repo} model --note 'a good one'`,
    collection: "collections info {collected} --json",
    collections: `collections list --owner ${name} --json`,
    "collection deleted": "collections delete {collected}",
    watched: `webhooks create --url https://example.org/hook --watch model:${repo} --format quiet`,
    "webhook disabled": "webhooks disable {watched}",
    webhooks: "webhooks list --json",
    "webhook deleted": "webhooks delete {watched} --yes",
  });
  expect(said).toMatchObject({
    talks: [
      { num: 2, status: "open" },
      { num: 1, status: "closed", title: "Answered" },
    ],
    changes: expect.stringContaining("+++ b/README.md"),
    "pull request": { status: "merged", title: expect.any(String) },
    collection: { title: "Favourites", items: [{ item_id: repo, note: "a good one" }] },
    collections: [{ title: "Favourites" }],
    webhooks: [{ disabled: true }],
  });
});
