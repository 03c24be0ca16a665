// Pages in a real browser: nothing overflows, breaks the policy or is hard to read, on small and large screens, light and dark, with and without scripts.
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { chromiumPath, launch } from "./chromium.ts";
import { background, focused, measure, openAll } from "./in-page.mjs";
import { ask, type Published, publish } from "./published.ts";

const WIDTHS = [360, 1280];
const SCHEMES = ["light", "dark"] as const;
/** Of WCAG AA for text. */
const LEAST_CONTRAST = 4.5;

describe.skipIf(chromiumPath === undefined)("pages in Chromium", () => {
  let browser: Browser;
  let published: Published;
  beforeAll(async () => {
    [browser, published] = await Promise.all([launch(), publish()]);
  });
  afterAll(() => browser?.close());

  async function visit(
    path: string,
    options: BrowserContextOptions,
    look: (page: Page) => Promise<void>,
  ): Promise<void> {
    const context = await browser.newContext(options);
    try {
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on("console", (message) => {
        if (message.type() === "error") complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("request", (request) => {
        const { origin } = new URL(request.url());
        if (request.url().startsWith("http") && origin !== inject("endpoint")) complaints.push(`asks ${request.url()}`);
      });
      const response = await page.goto(new URL(path, inject("endpoint")).href);
      expect(response?.status()).toBe(200);
      await look(page);
      expect(complaints).toEqual([]);
    } finally {
      await context.close();
    }
  }

  const paths = (): string[] => {
    const { owner, dataset } = published;
    const merged = `/${owner}/merged`;
    return [
      "/",
      `/${owner}/one`,
      `/${owner}/one/discussions`,
      `/${owner}/one/discussions/1`,
      `/${owner}/one/discussions/2`,
      merged,
      `${merged}/tree/main`,
      `${merged}/blob/main/model.safetensors`,
      `/${owner}/one/blob/main/README.md`,
      `${merged}/commits/main`,
      `${merged}/evaluations`,
      `/datasets/${dataset}`,
      `/datasets/${dataset}/evaluations`,
    ];
  };

  it.each(WIDTHS.flatMap((width) => SCHEMES.map((scheme) => [width, scheme] as const)))(
    "at %i px, %s: fits its width, keeps to the policy, and can be read",
    async (width, colorScheme) => {
      for (const path of paths())
        await visit(path, { viewport: { width, height: 800 }, colorScheme }, async (page) => {
          await page.evaluate(openAll);
          const { over, faint } = await page.evaluate(measure, LEAST_CONTRAST);
          expect([path, over, faint]).toEqual([path, 0, []]);
        });
    },
  );

  it("shows light and dark by preference", async () => {
    const colours: string[] = [];
    for (const colorScheme of SCHEMES)
      await visit("/", { colorScheme }, async (page) => {
        colours.push(await page.evaluate(background));
      });
    expect(new Set(colours).size).toBe(2);
  });

  it("can be used without scripts: tabs, branches, snippets", async () => {
    await visit(`/${published.owner}/merged`, { javaScriptEnabled: false }, async (page) => {
      await page.getByText("Revision main").click();
      await page.getByRole("link", { name: "try-0.5" }).click();
      expect(page.url()).toContain("?revision=try-0.5");
      await page.getByText("Python", { exact: true }).click();
      expect(await page.getByText('revision="try-0.5"').isVisible()).toBe(true);
      await page.getByRole("link", { name: "Evaluations", exact: true }).click();
      expect(await page.getByText("The ring marks the λ").isVisible()).toBe(true);
    });
  });

  it("can be used with the keyboard: the skip link comes first, and focus is seen", async () => {
    await visit(`/${published.owner}/merged`, {}, async (page) => {
      await page.keyboard.press("Tab");
      expect(await page.evaluate(focused)).toMatchObject({ text: "Skip to the content", onScreen: true });
      await page.keyboard.press("Tab");
      expect(await page.evaluate(focused)).toMatchObject({ text: "OWM Hub", outline: "solid" });
    });
  });

  it("follows a job live, to what it made", async () => {
    const { owner, dataset } = published;
    const id = await ask({
      kind: "train",
      dataset,
      initial: `${owner}/one`,
      optimizer: { name: "sgd", lr: 0.01 },
      epochs: 4000,
      output: { repo: `${owner}/trained` },
    });
    const headers = { authorization: `Bearer ${inject("token")}` };
    await visit(`/jobs/${id}`, { extraHTTPHeaders: headers }, async (page) => {
      // The page loads itself anew when the job ends.
      await page.getByText("succeeded", { exact: true }).waitFor({ timeout: 120_000 });
      await page
        .getByRole("link", { name: `${owner}/trained` })
        .first()
        .waitFor();
    });
  });
});
