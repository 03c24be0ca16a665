// The Hono app: the order of middleware, and one line for each mounted surface.
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import { RateLimiter, rateHeaders, tooManyRequests } from "./access/rate-limits";
import { identify } from "./access/tokens";
import { HubError } from "./errors";
import { actorName } from "./events/trail";
import { cloudflarePlatform } from "./platform/cloudflare";
import { isBookmark, type ReadFrom } from "./platform/d1-session";
import type { Peer } from "./platform/platform";
import type { AppEnv } from "./surfaces/app-env";
import { asHubError } from "./surfaces/as-hub-error";
import { git } from "./surfaces/git";
import { isGitAddress, renderGitError } from "./surfaces/git/errors";
import { huggingFace } from "./surfaces/hf";
import { renderHfError } from "./surfaces/hf/errors";
import { lfs } from "./surfaces/lfs";
import { redirectToMoved } from "./surfaces/moved";
import { errorPage, pages, wantsPage } from "./surfaces/pages";
import { v1 } from "./surfaces/v1";
import { problemResponse } from "./surfaces/v1/problem";
import { xet, xetObjects, xetTelemetry } from "./surfaces/xet";
import { renderXetError } from "./surfaces/xet/errors";

const EXPOSED_HEADERS =
  "X-Repo-Commit X-Request-Id X-Error-Code X-Error-Message X-Total-Count ETag Link Accept-Ranges Content-Range X-Linked-Size X-Linked-ETag X-Xet-Hash X-Xet-Refresh-Route X-Xet-Cas-Url X-Xet-Access-Token X-Xet-Token-Expiration X-D1-Bookmark RateLimit RateLimit-Policy Retry-After X-HF-Warning".split(
    " ",
  );

const BOOKMARK_HEADER = "x-d1-bookmark";

/** Of this isolate. */
const rateLimiter = new RateLimiter();

export const app = new Hono<AppEnv>();

/** The probe of load balancers and of `npm start`: answers without touching anything. */
app.get("/healthz", (c) => c.text("ok"));

app.use(cors({ origin: "*", exposeHeaders: EXPOSED_HEADERS }));

app.use(async (c, next) => {
  const started = Date.now();
  const requestId = requestIdOf(c.req.raw.headers);
  const defer = (work: Promise<unknown>) => c.executionCtx.waitUntil(work);
  const platform = cloudflarePlatform(c.env, requestId, defer, readFrom(c.req.raw), peerOf(c.req.raw));
  c.set("caller", { platform, actor: { kind: "anonymous" } });
  await next();
  c.header("X-Request-Id", requestId);
  if (mayBeNews(c)) platform.defer(platform.messenger.wake().catch(() => undefined));
  const bookmark = platform.session.bookmark();
  if (bookmark !== null) c.header(BOOKMARK_HEADER, bookmark);
  for (const [name, value] of rateHeaders(c.var.rate)) c.header(name, value);
  console.log(
    JSON.stringify({
      level: "info",
      msg: "request",
      request_id: requestId,
      actor: actorName(c.var.caller.actor),
      method: c.req.method,
      path: c.req.path,
      status: c.res.status,
      duration_ms: Date.now() - started,
    }),
  );
});

app.route("/", xetObjects);

/** Before anyone is asked who they are: who has asked too often costs no query. */
app.use(async (c, next) => {
  const rate = rateLimiter.take(c.var.caller.platform, c.req.path, c.req.header("authorization"));
  if (rate !== null) {
    c.set("rate", rate);
    if (rate.refused) throw tooManyRequests(rate);
  }
  await next();
});

app.use(async (c, next) => {
  const { platform } = c.var.caller;
  // Bootstrap is authorised by the hub's own secret, which is nobody's token.
  if (c.req.path !== "/api/v1/bootstrap") {
    const authorization = c.req.header("authorization");
    const actor = await identify(platform, authorization);
    c.set("caller", { platform, actor });
    rateLimiter.know(authorization, actor);
  }
  await next();
});

app.route("/api/v1", v1);
app.route("/cas", xet);
app.route("/", xetTelemetry);
app.route("/", lfs);
app.route("/", git);
app.route("/", huggingFace);
// What no API serves is no page either: `/api/x` must not be taken for a model of someone called api.
app.all("/api/*", () => {
  throw new HubError("not_found");
});
app.route("/", pages);

app.notFound((c) => render(c, new HubError("not_found")));
app.onError(async (error, c) => {
  const known = asHubError(error, c.var.caller.platform.requestId);
  return (await redirectToMoved(c, known)) ?? render(c, known);
});

/** The caller's own id, which stands in its messages too, where it sends one; it names requests to people and opens nothing. */
function requestIdOf(headers: Headers): string {
  const sent = headers.get("x-request-id") ?? headers.get("x-amzn-trace-id") ?? "";
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(sent) ? sent : crypto.randomUUID();
}

/** Whether webhooks may have to be told of what this request did; bytes on their way are nothing yet. */
function mayBeNews(c: Context<AppEnv>): boolean {
  const { method, path } = c.req;
  const reads = method === "GET" || method === "HEAD" || method === "OPTIONS";
  return !reads && c.res.ok && (path.startsWith("/api/") || path.endsWith("/git-receive-pack"));
}

/**
 * What decides a change is read on the primary. Reads with a token start there too, so that you see your own writes, unless they bring
 * the bookmark of an earlier answer; all others are answered by the nearest replica.
 */
function readFrom(request: Request): ReadFrom {
  if (request.method !== "GET" && request.method !== "HEAD") return "write";
  const bookmark = request.headers.get(BOOKMARK_HEADER);
  if (bookmark !== null && isBookmark(bookmark)) return { bookmark };
  return request.headers.has("authorization") ? "primary" : "nearest";
}

/** Cloudflare names the client's address, and lets nobody else do so. */
const peerOf = ({ headers }: Request): Peer => ({
  address: headers.get("cf-connecting-ip") ?? "",
  agent: headers.get("user-agent") ?? "",
});

/** In the protocol of the surface that was asked. */
function render(c: Context<AppEnv>, error: HubError): Response | Promise<Response> {
  const { platform, actor } = c.var.caller;
  if (c.req.path.startsWith("/api/v1/")) return problemResponse(error, platform.requestId);
  if (c.req.path.startsWith("/cas/")) return renderXetError(error, platform.requestId);
  if (isGitAddress(c.req.path)) return renderGitError(error, actor, platform.requestId);
  if (wantsPage(c)) return errorPage(c, error);
  return renderHfError(error, actor, platform.requestId, new URL(c.req.url).origin);
}
