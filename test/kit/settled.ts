// One request to the Worker, done only when everything that it put off until after its answer is done too.
import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import worker from "../../src/worker";
import type { Client } from "./actors";

const ORIGIN = "http://hub.test";

export type Settled = { readonly status: number; readonly headers: Headers; readonly bytes: Uint8Array };

export type AskInit = {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: BodyInit;
  /** Settings that differ from the test hub's. */
  readonly settings?: Record<string, string>;
};

export async function settled(
  client: Client,
  path: string,
  { method = "GET", headers = {}, body, settings = {} }: AskInit = {},
): Promise<Settled> {
  const all = new Headers(headers);
  if (client.token !== undefined) all.set("authorization", `Bearer ${client.token}`);
  const context = createExecutionContext();
  const init = { method, headers: all, ...(body === undefined ? {} : { body }) };
  const request = new Request(new URL(path, ORIGIN), init);
  const response = await worker.fetch(request, { ...env, ...settings }, context);
  const bytes = new Uint8Array(await response.arrayBuffer());
  await waitOnExecutionContext(context);
  return { status: response.status, headers: response.headers, bytes };
}

/** What one answer says, without what differs between any two. */
export const headersOf = ({ headers }: Settled): Record<string, string> =>
  Object.fromEntries([...headers].filter(([name]) => name !== "x-request-id" && name !== "x-d1-bookmark"));
