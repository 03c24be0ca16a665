// The Hugging Face Hub API (as huggingface_hub 1.33 to 2.4 and @huggingface/hub 2.17 speak it, November 2026): models and datasets.
// Not served yet: spaces.
import { Hono } from "hono";
import { HubError } from "../../errors";
import type { AppEnv } from "../app-env";
import { accessRequests } from "./access-requests";
import { avatars } from "./accounts";
import { collections } from "./collections";
import { compareRoutes } from "./compare";
import { discussionRoutes } from "./discussions";
import { identity } from "./identity";
import { info } from "./info";
import { lfsFiles } from "./lfs-files";
import { lifecycle } from "./lifecycle";
import { likes } from "./likes";
import { listings } from "./listing";
import { oauth } from "./oauth";
import { people } from "./people";
import { refRoutes } from "./refs";
import { repos } from "./repos";
import { downloads } from "./resolve";
import { trees } from "./tree";
import { unserved } from "./unserved";
import { writes } from "./upload";
import { webhooks } from "./webhooks";
import { weights } from "./weights";
import { xetTokens } from "./xet-tokens";

const VERBS =
  "auth-check|branch|commit|commits|discussions|duplicate|lfs-files|like|likers|paths-info|preupload|refs|revision|settings|super-squash|tag|tree|user-access-request|xet-read-token|xet-write-token";

function repoNotFound(): never {
  throw new HubError("repo_not_found");
}

/** Routes that name more come first: `/api/models/:owner/:name` would take none of theirs, but `/:owner/:name/…` might. */
export const huggingFace = new Hono<AppEnv>()
  .route("/", identity)
  .route("/", avatars)
  .route("/", collections)
  .route("/", accessRequests)
  .route("/", webhooks)
  .route("/", lifecycle)
  .route("/", people)
  .route("/", oauth)
  .route("/", lfsFiles)
  .route("/", unserved)
  .route("/", weights)
  .route("/", trees)
  .route("/", writes)
  .route("/", refRoutes)
  .route("/", discussionRoutes)
  .route("/", compareRoutes)
  .route("/", xetTokens)
  .route("/", info)
  .route("/", likes)
  .route("/", listings)
  .route("/", repos)
  .route("/", downloads)
  // Ids of one segment are the ecosystem's oldest models: here they name nothing, whatever is asked of them.
  .all(`/api/:kind{(?:models|datasets|spaces)}/:name/:verb{(?:${VERBS})}/*`, repoNotFound)
  .get("/:name/:verb{(?:resolve|raw)}/:revision/:path{.+}", repoNotFound);
