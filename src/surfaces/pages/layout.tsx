// The frame of every page: head, top bar, skip link, footer, and the headers that go with HTML of ours.
import { html } from "hono/html";
import type { Child } from "hono/jsx";
import type { Ctx } from "../hf/request";
import { JOB_PROGRESS_ADDRESS, STYLES_ADDRESS } from "./assets";

/** Nothing but our own files runs or styles a page; images of a card come from the repository or are part of it. */
const CONTENT_SECURITY_POLICY =
  "default-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const ICON = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#17907a" stroke-width="2.5"><circle cx="9" cy="12" r="6.5"/><circle cx="15" cy="12" r="6.5"/></svg>',
)}`;

export type PageProps = {
  readonly title: string;
  readonly description?: string | undefined;
  /** Loads the island that follows a job. */
  readonly live?: boolean;
  readonly children?: Child;
};

function Page({ title, description, live = false, children }: PageProps) {
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>{title}</title>
        {description === undefined ? null : <meta name="description" content={description} />}
        <link rel="stylesheet" href={STYLES_ADDRESS} />
        <link rel="icon" href={ICON} />
        {live ? <script type="module" src={JOB_PROGRESS_ADDRESS} /> : null}
      </head>
      <body>
        <a class="skip" href="#content">
          Skip to the content
        </a>
        <header class="top">
          <div class="wrap top-row">
            <a class="brand" href="/">
              <svg
                width="24"
                height="24"
                viewBox="0 0 24 24"
                fill="none"
                stroke="currentColor"
                stroke-width="2"
                aria-hidden="true"
              >
                <circle cx="9" cy="12" r="6.5" />
                <circle cx="15" cy="12" r="6.5" />
              </svg>
              OWM Hub
            </a>
            <nav class="places" aria-label="Hub">
              <a class="quiet" href="/models">
                Models
              </a>
              <a class="quiet" href="/datasets">
                Datasets
              </a>
              <a class="quiet" href="/#use">
                Use it
              </a>
            </nav>
          </div>
        </header>
        <main id="content" class="wrap">
          {children}
        </main>
        <footer class="foot">
          <p class="wrap">
            Open-weight models: architecture, weights and the record of how they were made, together. API:{" "}
            <a href="/api/v1/openapi.json">OpenAPI</a> and the Hugging Face Hub protocol.
          </p>
        </footer>
      </body>
    </html>
  );
}

export type Answer = { readonly status?: 200 | 401 | 403 | 404 | 429 | 500 } & PageProps;

/** The page as a response. */
export function answer(c: Ctx, { status = 200, ...page }: Answer): Response | Promise<Response> {
  c.header("content-security-policy", CONTENT_SECURITY_POLICY);
  c.header("x-content-type-options", "nosniff");
  c.header("referrer-policy", "strict-origin-when-cross-origin");
  // What a page shows depends on who asks, and changes with every commit.
  c.header("cache-control", status === 200 ? "private, no-cache" : "no-store");
  c.header("vary", "authorization, accept");
  return c.html(html`<!doctype html>${<Page {...page} />}`, status);
}

export function Time({ ms, text }: { readonly ms: number; readonly text: string }) {
  return (
    <time class="nowrap" datetime={new Date(ms).toISOString()}>
      {text}
    </time>
  );
}
