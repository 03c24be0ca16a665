// The community pages: what they show of discussions and pull requests, and what they escape or leave out.
import { beforeEach, describe, expect, it } from "vitest";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";
import { open } from "./published";

const REPO = "ada/digits";
const AT = `/api/models/${REPO}/discussions`;

let ada: Client;
let bob: Client;
beforeEach(async () => {
  const admin = await administrator();
  ada = await user(admin, "ada");
  bob = await user(admin, "bob");
  await ada.post("/api/repos/create", { name: "digits" });
  await ada.commit(REPO, [fileLine("a.txt", "<one>\n"), fileLine("b.txt", "b\n")]);
});

const discuss = (title: string, description: string) => bob.post(AT, { title, description });
async function propose(title: string, lines: readonly unknown[]): Promise<void> {
  const header = { key: "header", value: { summary: title, description: "" } };
  const body = [header, ...lines].map((line) => JSON.stringify(line)).join("\n");
  await bob.raw("POST", `/api/models/${REPO}/commit/main?create_pr=1`, { body });
}

describe("the list", () => {
  it("shows what is open, or closed, or all, with links between", async () => {
    expect((await open(anonymous, `/${REPO}/discussions`)).text).toContain("None is open.");
    await discuss("What is <b>this</b>?", "");
    await discuss("Another question", "");
    await ada.post(`${AT}/2/status`, { status: "closed" });
    const page = await open(anonymous, `/${REPO}/discussions`);
    expect(page.status).toBe(200);
    expect(page.text).toContain(`href="/${REPO}/discussions/1">What is &lt;b&gt;this&lt;/b&gt;?</a>`);
    expect(page.text).not.toContain("Another question");
    expect((await open(anonymous, `/${REPO}/discussions?status=closed`)).text).toContain("Another question");
    const all = await open(anonymous, `/${REPO}/discussions?status=all&p=0.5`);
    expect(all.text).toContain("2 discussions and pull requests");
    expect((await open(anonymous, `/${REPO}`)).text).toContain(`href="/${REPO}/discussions"`);
  });

  it("is not there for strangers of a private repository", async () => {
    await discuss("A question", "");
    await ada.send("PUT", `/api/models/${REPO}/settings`, { private: true });
    for (const path of [`/${REPO}/discussions`, `/${REPO}/discussions/1`]) {
      expect((await open(bob, path)).status, path).toBe(404);
      expect((await open(ada, path)).status, path).toBe(200);
    }
    for (const path of [`/${REPO}/discussions/9`, `/${REPO}/discussions/x`])
      expect((await open(ada, path)).status, path).toBe(404);
  });
});

describe("a discussion", () => {
  it("shows what was said and done, as text and never as anyone's HTML", async () => {
    await discuss("A question", "**Why** <script>alert(1)</script> [file](a.txt)?\n\n# A heading");
    await ada.post(`${AT}/1/title`, { title: "A <i>better</i> one" });
    await ada.post(`${AT}/1/status`, { status: "closed", comment: "" });
    const { text } = await open(anonymous, `/${REPO}/discussions/1`);
    expect(text).toContain("<strong>Why</strong> &lt;script&gt;");
    expect(text).toContain(`href="/${REPO}/blob/main/a.txt"`);
    expect(text).toContain("<s>A question</s> to A &lt;i&gt;better&lt;/i&gt; one");
    expect(text).toContain("<b>ada</b> closed this");
    expect(text).not.toMatch(/<script>alert|<i>better/);
    expect(text).not.toContain("refs/pr/1");
  });
});

describe("a pull request", () => {
  it("shows its commits, its diff and how to get it; then what conflicts; then what it became", async () => {
    await propose("Two for one", [fileLine("a.txt", "<two>\n")]);
    const page = () => open(anonymous, `/${REPO}/discussions/1`);
    const first = (await page()).text;
    expect(first).toContain('<span class="removed">-&lt;one&gt;\n</span><span class="added">+&lt;two&gt;\n</span>');
    expect(first).toContain("git fetch origin refs/pr/1");
    expect(first).toContain("hf discussions merge ada/digits 1");
    expect(first).toMatch(/<b>bob<\/b> pushed <a class="mono" href="\/ada\/digits\/commit\/[0-9a-f]{40}">/);
    expect(first).toContain("nothing conflicts");
    await ada.commit(REPO, [fileLine("a.txt", "three\n")]);
    expect((await page()).text).toContain("<li>a.txt</li>");
    await ada.commit(REPO, [fileLine("a.txt", "<one>\n")]);
    await ada.post(`${AT}/1/merge`);
    const last = (await page()).text;
    expect(last).toContain("is part of");
    expect(last).not.toContain("hf discussions merge");
    expect(last).toContain('<span class="added">+&lt;two&gt;');
  });

  it("of a gated repository keeps its changes from who may not have the files", async () => {
    await propose("Two for one", [fileLine("a.txt", "<two>\n")]);
    await ada.send("PUT", `/api/models/${REPO}/settings`, { gated: "auto" });
    const { text } = await open(bob, `/${REPO}/discussions/1`);
    expect(text).toContain("shown to those who have access");
    expect(text).not.toContain("&lt;two&gt;");
  });
});
