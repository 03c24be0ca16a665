// Pages of a repository: what they show of it, what they escape, and what they say where there is nothing.
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { administrator, anonymous, Client, fileLine, lfsLine, uploadLfs, user } from "../../kit/actors";
import { publishDataset, publishModel, safetensors } from "../../kit/jobs";
import { countRoundTrips } from "../../kit/round-trips";
import { open } from "./published";

let admin: Client;
let ada: Client;
beforeEach(async () => {
  admin = await administrator();
  ada = await user(admin, "ada");
  await publishModel(ada, "ada/a");
});

const CARD = `---
license: apache-2.0
tags: [digits, "<b>bold</b>"]
base_model: ada/b
datasets: [ada/digits]
---
# A card
<script>alert(1)</script> and [a link](javascript:alert(2)) and [the config](config.json#L1) and [usage](#usage)

![a plot](plots/loss.png) ![far away](https://elsewhere.example/x.png)

| a | b |
|--|--|
| 1 | 2 |

## Usage
`;

describe("the card", () => {
  it("tells name, weights, how to use them, and links its tabs", async () => {
    const page = await open(anonymous, "/ada/a");
    expect(page.status).toBe(200);
    expect(page.headers.get("content-type")).toMatch(/^text\/html/);
    expect(page.text).toMatch(/^<!doctype html><html lang="en">/);
    expect(page.text).toContain("<title>ada/a</title>");
    for (const href of [
      "/ada/a/tree/main",
      "/ada/a/commits/main",
      "/ada/a/evaluations",
      "/ada/a/blob/main/model.safetensors",
    ])
      expect(page.text).toContain(`href="${href}"`);
    expect(page.text).toContain("<dt>Parameters</dt><dd>3</dd>");
    expect(page.text).toContain("HF_ENDPOINT=http://hub.test");
    expect(page.text).toContain("git clone http://hub.test/ada/a");
    expect(page.text).toContain("There is no card yet");
  });

  it("lets nothing but the hub's own files run or style it", async () => {
    const { headers, text } = await open(anonymous, "/ada/a");
    expect(headers.get("content-security-policy")).toBe(
      "default-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    );
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("vary")).toContain("authorization");
    expect(text).not.toMatch(/ style="| onclick=|<style/);
  });

  it("renders Markdown with HTML as text, harmless links, and addresses inside the repository", async () => {
    await ada.commit("ada/a", [fileLine("README.md", CARD)]);
    const { text } = await open(anonymous, "/ada/a");
    expect(text).toContain("&lt;script&gt;alert(1)&lt;/script&gt;");
    expect(text).not.toContain('href="javascript');
    expect(text).toContain('<h2 id="card-a-card">A card</h2>');
    expect(text).toContain('<a href="#card-usage">usage</a>');
    expect(text).toContain('href="/ada/a/blob/main/config.json"');
    expect(text).toContain('src="/ada/a/resolve/main/plots/loss.png"');
    expect(text).not.toContain('src="https://elsewhere.example');
    expect(text).toContain('<a href="https://elsewhere.example/x.png" rel="nofollow noopener ugc">far away</a>');
    expect(text).toContain('<div class="scroll" tabindex="0"><table>');
  });

  it("shows the front matter as tags and links", async () => {
    await ada.commit("ada/a", [fileLine("README.md", CARD)]);
    const { text } = await open(anonymous, "/ada/a");
    expect(text).toContain("Licence: apache-2.0");
    expect(text).toContain("&lt;b&gt;bold&lt;/b&gt;");
    expect(text).toContain('<a href="/ada/b">ada/b</a>');
    expect(text).toContain('<a href="/datasets/ada/digits">ada/digits</a>');
    expect(text).not.toContain("license: apache-2.0");
  });

  it.each([
    ["broken YAML", "---\nlicense: [\n---\n# Still here\n"],
    ["an alias bomb", `---\na: &a [1,2]\nb: [${"*a,".repeat(200)}*a]\n---\n# Still here\n`],
    ["a list instead of a mapping", "---\n- one\n---\n# Still here\n"],
  ])("with %s is still shown", async (_, card) => {
    await ada.commit("ada/a", [fileLine("README.txt", card)]);
    const stored = await open(anonymous, "/ada/a/blob/main/README.txt");
    expect(stored.status).toBe(200);
    // Such cards are refused, whichever way they come; one from before that may be in place.
    const copied = await ada.commit("ada/a", [
      { key: "copyFile", value: { path: "README.md", srcPath: "README.txt" } },
    ]);
    expect(copied.status).toBe(400);
    await env.DB.exec("update tree_entries set name = 'README.md' where name = 'README.txt'");
    const page = await open(anonymous, "/ada/a");
    expect(page.status).toBe(200);
    expect(page.text).toContain("Still here");
  });

  it("tells the training record, and survives a strange one", async () => {
    const record = {
      optimizer: { name: "adam", lr: 0.01 },
      seed: 7,
      loss_curve: [2.5, 1.25, 0.5],
      training_accuracy: 0.9,
    };
    await ada.commit("ada/a", [fileLine("training.json", JSON.stringify(record))]);
    const { text } = await open(anonymous, "/ada/a");
    expect(text).toContain("adam (lr 0.01)");
    expect(text).toContain("Loss: 2.500 after the first epoch, 0.5000 after 3");
    for (const strange of ["[]", "{", '{"optimizer":[],"loss_curve":"x","seed":{}}']) {
      await ada.commit("ada/a", [fileLine("training.json", strange)]);
      expect((await open(anonymous, "/ada/a")).status).toBe(200);
    }
  });

  it("is that of another revision where one is asked for", async () => {
    await ada.post("/api/models/ada/a/branch/feature%2Fx", {});
    await ada.commit("ada/a", [fileLine("README.md", "# On a branch")], { branch: "feature/x" });
    const { text } = await open(anonymous, "/ada/a?revision=feature%2Fx");
    expect(text).toContain("On a branch");
    expect(text).toContain('href="/ada/a/tree/feature%2Fx"');
    expect((await open(anonymous, "/ada/a/tree/feature%2Fx")).text).toContain("README.md");
  });
});

describe("files", () => {
  it("are listed with size, LFS mark and download, directories first", async () => {
    await ada.commit("ada/a", [fileLine("z/deep/x.txt", "x"), fileLine("a <b>.txt", "x")]);
    const { text } = await open(anonymous, "/ada/a/tree/main");
    expect(text.indexOf(">z/<")).toBeLessThan(text.indexOf(".gitattributes"));
    expect(text).toContain("a &lt;b&gt;.txt");
    expect(text).toContain('href="/ada/a/resolve/main/a%20%3Cb%3E.txt"');
    expect(text).toMatch(/model\.safetensors<\/a> <span class="badge"[^>]*>LFS/);
    expect((await open(anonymous, "/ada/a/tree/main/z/deep")).text).toContain('href="/ada/a/blob/main/z/deep/x.txt"');
  });

  it("are shown as escaped text, or as digests", async () => {
    await ada.commit("ada/a", [
      fileLine("x.html", "<script>alert(1)</script>\n"),
      fileLine("x.bin", new Uint8Array([0, 1])),
    ]);
    const text = await open(anonymous, "/ada/a/blob/main/x.html");
    expect(text.text).toContain("&lt;script&gt;alert(1)&lt;/script&gt;");
    const binary = await open(anonymous, "/ada/a/blob/main/x.bin");
    expect(binary.text).toContain("b413f47d13ee2fe6c845b2ee141af81de858df4ec549a58b7970bb96645bc8d2");
    expect(binary.text).not.toContain('class="code"');
  });

  it("of weights list their tensors, and say what is wrong with a bad one", async () => {
    const page = await open(anonymous, "/ada/a/blob/main/model.safetensors");
    expect(page.text).toMatch(
      /<th scope="row" class="mono">w<\/th><td>F32<\/td><td class="nowrap">2<\/td><td class="num">8<\/td>/,
    );
    const oid = await uploadLfs(ada, "ada/a", new Uint8Array([1, 2, 3]));
    await ada.commit("ada/a", [lfsLine("bad.safetensors", oid, 3)]);
    expect((await open(anonymous, "/ada/a/blob/main/bad.safetensors")).text).toContain("no valid safetensors file");
    await ada.commit("ada/a", [lfsLine("model.safetensors", oid, 3)]);
    expect((await open(anonymous, "/ada/a")).text).toContain("can&#39;t be read");
  });
});

describe("history", () => {
  it("lists commits, and each has its page", async () => {
    await ada.commit("ada/a", [fileLine("x.txt", "x")], { summary: "Add <x>" });
    const list = await open(anonymous, "/ada/a/commits/main");
    expect(list.text).toContain("Add &lt;x&gt;");
    const sha = /href="\/ada\/a\/commit\/([0-9a-f]{40})">Add/.exec(list.text)?.[1] ?? "";
    for (const id of [sha, sha.slice(0, 10)]) {
      const page = await open(anonymous, `/ada/a/commit/${id}`);
      expect(page.text).toContain(sha);
      expect(page.text).toContain("Add &lt;x&gt;");
    }
    expect((await open(anonymous, "/ada/a/commit/main")).status).toBe(404);
  });
});

describe("a dataset", () => {
  it("has the same pages below its own addresses", async () => {
    await publishDataset(ada, "ada/digits");
    const page = await open(anonymous, "/datasets/ada/digits");
    expect(page.text).toContain('href="/datasets/ada/digits/tree/main"');
    expect(page.text).toContain("--repo-type dataset");
    for (const path of ["tree/main", "blob/main/task.json", "commits/main", "evaluations"])
      expect((await open(anonymous, `/datasets/ada/digits/${path}`)).status).toBe(200);
  });
});

describe("who may not see", () => {
  it("is told the same as of what does not exist", async () => {
    await ada.post("/api/repos/create", { name: "secret", private: true });
    const hidden = await open(anonymous, "/ada/secret");
    const absent = await open(anonymous, "/ada/nothing");
    expect([hidden.status, absent.status]).toEqual([404, 404]);
    const withoutIds = (text: string) => text.replace(/[0-9a-f-]{36}/, "");
    expect(withoutIds(hidden.text)).toBe(withoutIds(absent.text));
    const own = await open(ada, "/ada/secret");
    expect(own.status).toBe(200);
    expect(own.text).toContain("Private");
    expect((await open(anonymous, "/")).text).not.toContain("secret");
    expect((await open(ada, "/")).text).toContain("ada/secret");
  });

  it("sees an error page in the same frame, with the request's id; programs get JSON", async () => {
    for (const path of [
      "/ada/a/tree/ghost",
      "/ada/a/blob/main/ghost",
      "/nowhere",
      "/a/b/c/d",
      "/ada/a/evaluations/eval_x",
    ]) {
      const page = await open(anonymous, path);
      expect([path, page.status]).toEqual([path, 404]);
      expect(page.text).toContain(page.headers.get("x-request-id") ?? "no id");
      expect(page.text).toContain('<main id="content"');
    }
    const json = await anonymous.get("/nowhere");
    expect(json.status).toBe(404);
    expect(json.body).toHaveProperty("error");
    expect((await open(new Client("hf_wrong"), "/ada/a")).status).toBe(401);
  });
});

describe("every page", () => {
  it("makes at most four round trips to the database", async () => {
    await publishDataset(ada, "ada/digits");
    const sha = /commit\/([0-9a-f]{40})/.exec((await open(anonymous, "/ada/a/commits/main")).text)?.[1];
    for (const path of [
      "/",
      "/ada/a",
      "/datasets/ada/digits",
      "/ada/a/tree/main",
      "/ada/a/blob/main/config.json",
      "/ada/a/commits/main",
      `/ada/a/commit/${sha}`,
      "/ada/a/evaluations",
    ]) {
      const { d1, result } = await countRoundTrips(() => open(anonymous, path));
      expect(result.status).toBe(200);
      expect([path, d1 > 0 && d1 <= 4]).toEqual([path, true]);
    }
  });

  it("answers HEAD, and refuses to be posted to", async () => {
    const head = await anonymous.raw("HEAD", "/ada/a", { headers: { accept: "text/html" } });
    expect(head.status).toBe(200);
    expect(await head.text()).toBe("");
    expect((await anonymous.raw("POST", "/ada/a")).status).toBe(404);
  });

  it("links style sheet at an address that never changes its bytes", async () => {
    const { text } = await open(anonymous, "/");
    const href = /href="(\/_a\/styles-[0-9a-f]{16}\.css)"/.exec(text)?.[1] ?? "";
    const sheet = await anonymous.raw("GET", href);
    expect(sheet.headers.get("content-type")).toBe("text/css; charset=utf-8");
    expect(sheet.headers.get("cache-control")).toContain("immutable");
    expect((await sheet.text()).length).toBeLessThan(12_000);
  });
});

describe("the first page", () => {
  it("names what is newest and how to use the hub from here", async () => {
    await publishModel(ada, "ada/newer", safetensors({ w: [1] }));
    const { text } = await open(anonymous, "/");
    expect(text.indexOf("ada/newer")).toBeLessThan(text.indexOf(">ada/a<"));
    expect(text).toContain("export HF_ENDPOINT=http://hub.test");
    expect(text).toContain("No dataset is published yet.");
  });
});
