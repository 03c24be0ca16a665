// The client of the compute service: signed requests, and each answer as what it means for the job.
import { createHash } from "node:crypto";
import { SignJWT } from "jose";
import type { JobId } from "../ids";
import type { Platform } from "../platform/platform";
import { ComputeJob, ComputeProblem } from "./contract";
import type { JobError } from "./jobs";

/** The longest that a request token is good for, by the contract. Seconds. */
const TOKEN_LIFETIME_S = 300;
const TIMEOUT_MS = 30_000;
/** Where the service is busy and names no time. */
const DEFAULT_RETRY_MS = 5_000;

const OUTDATED = new Set(["idempotency_key_reused", "attempt_exists", "attempt_superseded"]);

export type Answer =
  /** `raw` is the whole resource, for reading a report out of it. */
  | { readonly kind: "job"; readonly job: ComputeJob; readonly raw: unknown }
  | { readonly kind: "unknown" }
  /** Nobody there, or no room: the same request is worth repeating. */
  | { readonly kind: "busy"; readonly retryMs: number; readonly problem: string }
  /** The service holds this attempt or a later one, handed over differently: the hub's settings or state were changed since. */
  | { readonly kind: "outdated" }
  | { readonly kind: "refused"; readonly error: JobError };

export function submit(platform: Platform, id: JobId, attempt: number, body: string): Promise<Answer> {
  return call(platform, "POST", "/v1/jobs", body, { "idempotency-key": `${id}.${attempt}` });
}

export const askFor = (platform: Platform, id: JobId): Promise<Answer> => call(platform, "GET", `/v1/jobs/${id}`);

export const cancelAtCompute = (platform: Platform, id: JobId): Promise<Answer> =>
  call(platform, "POST", `/v1/jobs/${id}/cancel`);

async function call(
  platform: Platform,
  method: "GET" | "POST",
  path: string,
  body?: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const { computeUrl, computeSecret } = platform.config;
  try {
    const response = await fetch(`${computeUrl}${path}`, {
      method,
      headers: {
        ...headers,
        authorization: `Bearer ${await requestToken(computeSecret, platform.now(), body ?? "")}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return answerOf(response.status, response.headers, parsed(await response.text()));
  } catch (error) {
    // Refused, cut off or timed out: whether the request arrived is unknown, and repeating it is harmless.
    return { kind: "busy", retryMs: DEFAULT_RETRY_MS, problem: error instanceof Error ? error.message : String(error) };
  }
}

/** Good for this one body, for minutes. */
function requestToken(secret: string, now: number, body: string): Promise<string> {
  const issuedAt = Math.floor(now / 1000);
  return new SignJWT({ sha256: createHash("sha256").update(body).digest("hex") })
    .setProtectedHeader({ alg: "HS256" })
    .setIssuer("owm-hub")
    .setAudience("owm-compute")
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + TOKEN_LIFETIME_S)
    .sign(new TextEncoder().encode(secret));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function answerOf(status: number, headers: Headers, body: unknown): Answer {
  if (status >= 200 && status < 300) {
    const job = ComputeJob.safeParse(body);
    if (job.success) return { kind: "job", job: job.data, raw: body };
    return { kind: "busy", retryMs: DEFAULT_RETRY_MS, problem: "the answer is no job" };
  }
  if (status === 404) return { kind: "unknown" };
  const problem = ComputeProblem.safeParse(body);
  const detail = problem.success
    ? (problem.data.detail ?? problem.data.title ?? problem.data.code)
    : `HTTP status ${status}`;
  if (problem.success && OUTDATED.has(problem.data.code)) return { kind: "outdated" };
  if (status === 422 || status === 400 || status === 413) {
    const { code = "compute_refused", field, fix } = problem.data ?? {};
    return { kind: "refused", error: { code, message: detail, field: field ?? undefined, fix: fix ?? undefined } };
  }
  const retryAfter = Number(headers.get("retry-after"));
  return { kind: "busy", retryMs: retryAfter > 0 ? retryAfter * 1000 : DEFAULT_RETRY_MS, problem: detail };
}
