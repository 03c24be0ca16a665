// Style sheet and island, served from the Worker itself at addresses that hold their digest.
//
// They are imported as built text (`web/build.mjs` writes `assets.generated.ts`, and a test holds it to its sources): so the tests inside
// workerd, a deployment and `npm start` all serve the same bytes with no assets binding, no loader rule and no build step of their own.
import { Hono } from "hono";
import type { AppEnv } from "../app-env";
import { JOB_PROGRESS, STYLES } from "./assets.generated";

const FILES = {
  styles: { ...STYLES, type: "text/css; charset=utf-8", extension: "css" },
  "job-progress": { ...JOB_PROGRESS, type: "text/javascript; charset=utf-8", extension: "js" },
} as const;

const addressOf = (name: keyof typeof FILES): string => `/_a/${name}-${FILES[name].digest}.${FILES[name].extension}`;

export const STYLES_ADDRESS = addressOf("styles");
export const JOB_PROGRESS_ADDRESS = addressOf("job-progress");

export const assets = new Hono<AppEnv>();
for (const name of ["styles", "job-progress"] as const)
  assets.get(addressOf(name), (c) => {
    c.header("cache-control", "public, max-age=31536000, immutable");
    c.header("x-content-type-options", "nosniff");
    return c.body(FILES[name].text, 200, { "content-type": FILES[name].type });
  });
