// Makes the hub's first administrator and keeps bootstrap.json, which says how to reach the hub as that user.
import * as z from "zod";
import { type Bootstrap, readBootstrap, type Secrets, type StateFolder, writeBootstrap } from "./state-folder.ts";

const USER = "admin";
const createdShape = z.object({ user: z.string(), token: z.string() });

/** undefined when the administrator exists already and no new token was asked for. */
async function requestToken(endpoint: string, secrets: Secrets, rotate: boolean) {
  const response = await fetch(`${endpoint}/api/v1/bootstrap`, {
    method: "POST",
    headers: { authorization: `Bearer ${secrets.OWM_SECRET}`, "content-type": "application/json" },
    body: JSON.stringify(rotate ? { user: USER, rotate } : { user: USER }),
  });
  if (response.status === 409 && !rotate) return undefined;
  const body = await response.text();
  if (!response.ok) throw new Error(`${endpoint}/api/v1/bootstrap answered ${response.status}: ${body.slice(0, 500)}`);
  return createdShape.parse(JSON.parse(body));
}

/**
 * The hub creates the administrator once. A crash between its answer and our file loses that token for good, so a missing
 * file means: ask for a fresh one. A present file keeps its token unless the hub is new, its database having been removed.
 */
export async function ensureAdministrator(folder: StateFolder, endpoint: string, secrets: Secrets): Promise<Bootstrap> {
  const known = readBootstrap(folder);
  const issued =
    (await requestToken(endpoint, secrets, false)) ?? known ?? (await requestToken(endpoint, secrets, true));
  if (issued === undefined) throw new Error("the hub issued no administrator token");
  const bootstrap = { endpoint, user: issued.user, token: issued.token };
  writeBootstrap(folder, bootstrap);
  return bootstrap;
}
