// The browser of these tests: Debian's Chromium, or the one that CHROMIUM names. Without one the tests are skipped, and say so.
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

const named = process.env.CHROMIUM;
export const chromiumPath = named !== undefined && named !== "" ? named : PLACES.find((path) => existsSync(path));

if (chromiumPath === undefined)
  console.warn(
    `No Chromium was found (${PLACES.join(", ")}): the browser tests are skipped. apt-get install chromium, or set CHROMIUM to one.`,
  );

/** Talks to nobody but the page's own server. */
const ARGUMENTS =
  "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync".split(
    " ",
  );

export function launch(): Promise<Browser> {
  if (chromiumPath === undefined) throw new Error("there is no Chromium");
  return chromium.launch({ executablePath: chromiumPath, args: ARGUMENTS });
}
