// The pages: HTML made on the server, readable without any script. Only GET and HEAD, but for one form; programs have the APIs.
import { Hono } from "hono";
import type { RepoType } from "../../ids";
import type { AppEnv } from "../app-env";
import { assets } from "./assets";
import { blob } from "./blob";
import { browse } from "./browse";
import { card } from "./card";
import { collection } from "./collection";
import { commit } from "./commit";
import { decideDevice, device } from "./device";
import { discussion } from "./discussion";
import { discussionList } from "./discussions";
import { evaluation, evaluations } from "./evaluations";
import { files } from "./files";
import { history } from "./history";
import { home } from "./home";
import { job } from "./job";

export { errorPage, wantsPage } from "./error-page";

/** Mount it last: `/:owner/:name` takes every address of two parts. */
export const pages = new Hono<AppEnv>();
pages.route("/", assets);
pages.get("/", home);
pages.get("/models", (c) => browse(c, "model"));
pages.get("/datasets", (c) => browse(c, "dataset"));
pages.get("/jobs/:id", job);
pages.get("/collections/:owner/:slug", collection);
pages.get("/device", device);
pages.post("/device", decideDevice);

// Datasets first: their addresses start with a word that no owner is called by.
const TYPES: readonly (readonly [string, RepoType])[] = [
  ["/datasets/:owner/:name", "dataset"],
  ["/:owner/:name", "model"],
];
for (const [one, type] of TYPES) {
  pages.get(`${one}/tree/*`, (c) => files(c, type));
  pages.get(`${one}/blob/*`, (c) => blob(c, type));
  pages.get(`${one}/commits/*`, (c) => history(c, type));
  pages.get(`${one}/commit/:sha`, (c) => commit(c, type));
  pages.get(`${one}/discussions`, (c) => discussionList(c, type));
  pages.get(`${one}/discussions/:number{[0-9]+}`, (c) => discussion(c, type));
  pages.get(`${one}/evaluations`, (c) => evaluations(c, type));
  pages.get(`${one}/evaluations/:id`, (c) => evaluation(c, type));
  pages.get(one, (c) => card(c, type));
}
