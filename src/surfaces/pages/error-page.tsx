// Errors as pages, for browsers; programs get the same error as JSON from the surface they speak.
import type { HubError } from "../../errors";
import type { Ctx } from "../hf/request";
import { answer } from "./layout";

/** Browsers name HTML first; clients of the APIs ask for anything or for JSON. */
export function wantsPage(c: Ctx): boolean {
  const { method, path } = c.req;
  return (
    (method === "GET" || method === "HEAD") &&
    !path.startsWith("/api/") &&
    (c.req.header("accept") ?? "").includes("text/html")
  );
}

const HEADINGS: Partial<Record<number, string>> = {
  401: "Sign in first",
  403: "You may not do this",
  404: "Nothing is here",
  429: "Too many requests",
  500: "Something failed on our side",
};

export function errorPage(c: Ctx, error: HubError): Response | Promise<Response> {
  const { platform, actor } = c.var.caller;
  const heading = HEADINGS[error.status] ?? "That did not work";
  return answer(c, {
    status: statusOf(error),
    title: `${heading} · OWM Hub`,
    children: (
      <>
        <p class="soft mono">{error.status}</p>
        <h1>{heading}</h1>
        <p class="lead">{error.message}</p>
        {error.status === 404 && actor.kind === "anonymous" ? (
          <p>It may be private: what you may not read looks the same as what does not exist.</p>
        ) : null}
        <p>
          <a href="/">Newest models and datasets</a>
        </p>
        <p class="soft small">
          Request <code class="pick">{platform.requestId}</code>
        </p>
      </>
    ),
  });
}

/** The statuses that a page may have; any other refusal of a GET is about the address, which then names nothing. */
function statusOf({ status }: HubError): 401 | 403 | 404 | 429 | 500 {
  if (status === 401 || status === 403 || status === 429) return status;
  return status >= 500 ? 500 : 404;
}
