// The built style sheet and island that the Worker imports are those of their sources.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { assetsModule, OUTPUT } from "../../web/build.mjs";

test("assets.generated.ts is what web/build.mjs makes", async () => {
  expect(readFileSync(OUTPUT, "utf8"), "run `node web/build.mjs` and commit what it writes").toBe(await assetsModule());
});
