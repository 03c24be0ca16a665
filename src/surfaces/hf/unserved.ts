// What clients also ask for and this hub does not have: an honest answer in the protocol, not a page.
import { type Context, Hono } from "hono";
import { HubError } from "../../errors";
import type { AppEnv } from "../app-env";

function notServed(what: string) {
  return (): never => {
    throw new HubError("not_served", { what });
  };
}

const jobs = notServed("The ecosystem's jobs (the hub's own are at /api/v1/jobs)");
const buckets = notServed("Buckets");
const papers = notServed("Papers");

/** Kernels and buckets are kinds of repositories to the clients: none is here. */
function nothingThere(): never {
  throw new HubError("repo_not_found");
}

/** Counted by nobody. */
const swallow = (c: Context<AppEnv>): Response => c.body(null, 204);

export const unserved = new Hono<AppEnv>()
  .get("/api/telemetry/*", swallow)
  .get("/api/spaces/:what{hardware|templates|semantic-search|zero-gpu}/*", notServed("Spaces"))
  .get("/api/spaces/:what{hardware|templates|semantic-search}", notServed("Spaces"))
  .all("/api/kernels/*", nothingThere)
  .all("/api/buckets/:owner", buckets)
  .post("/api/buckets/:owner/:name", buckets)
  .all("/api/buckets/*", nothingThere)
  .all("/api/jobs/*", jobs)
  .all("/api/scheduled-jobs/*", jobs)
  .all("/api/papers/*", papers)
  .all("/api/daily_papers", papers)
  .get("/api/datasets/:owner/:name/leaderboard", notServed("Leaderboards of data sets"));
