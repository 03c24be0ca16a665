// How every route of the hub's own API takes requests: bounded JSON, checked by its schema, problems named by field.
import { OpenAPIHono, z } from "@hono/zod-openapi";
import { bodyLimit } from "hono/body-limit";
import { createMiddleware } from "hono/factory";
import { HubError } from "../../errors";
import { jsonNestsDeeperThan } from "../../streams/ndjson";
import type { AppEnv } from "../app-env";
import { fieldError } from "../field-error";
import { Problem } from "./problem";

/** D1 keeps strings of at most 2 MB, and what comes in here is kept. */
const MAX_BODY_BYTES = 1_500_000;
const MAX_JSON_DEPTH = 64;

export const newRouter = () =>
  new OpenAPIHono<AppEnv>({
    defaultHook: (result) => {
      if (!result.success) throw fieldError(result.error);
    },
  });

const parseable = createMiddleware<AppEnv>(async (c, next) => {
  if (hasBody(c.req.raw)) {
    if (!/^application\/([\w.-]+\+)?json\b/.test(c.req.header("content-type") ?? ""))
      throw new HubError("invalid_request", {
        problem: "The body must be JSON: send it with Content-Type: application/json",
      });
    checkJson(await c.req.text());
  }
  await next();
});

const hasBody = ({ body, headers }: Request): boolean => body !== null && headers.get("content-length") !== "0";

function checkJson(text: string): void {
  if (jsonNestsDeeperThan(text, MAX_JSON_DEPTH))
    throw new HubError("invalid_request", {
      problem: `The body nests deeper than ${MAX_JSON_DEPTH} levels: flatten it`,
    });
  try {
    JSON.parse(text);
  } catch (error) {
    throw new HubError("invalid_request", {
      problem: `The body is no JSON: ${error instanceof Error ? error.message : "fix it"}`,
    });
  }
}

/** Before any handler: nothing larger or deeper than any route needs is ever parsed. */
export const boundedBody = [
  bodyLimit({
    maxSize: MAX_BODY_BYTES,
    onError: () => {
      throw new HubError("payload_too_large", { problem: `the body may have at most ${MAX_BODY_BYTES} bytes` });
    },
  }),
  parseable,
] as const;

export const json = <T extends z.ZodType>(schema: T, description: string) => ({
  content: { "application/json": { schema } },
  description,
});

export const body = <T extends z.ZodType>(schema: T) => ({
  body: { content: { "application/json": { schema } }, required: true },
});

/** Every route may answer with a problem; the codes are the same everywhere. */
export const problems = {
  default: {
    content: { "application/problem+json": { schema: Problem } },
    description: "What is wrong, and how to fix it",
  },
};

/** Page size and cursor of every list. */
export const Paging = z.object({
  limit: z.coerce.number().int().min(1).max(200).default(50),
  cursor: z.string().max(200).optional().meta({ description: "`next` of the page before" }),
});

export const isoTime = (ms: number): string => new Date(ms).toISOString();
