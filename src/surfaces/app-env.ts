// What every handler finds in its Hono context.
import type { Caller } from "../access/caller";
import type { RateVerdict } from "../access/rate-limits";
import type { Env } from "../platform/cloudflare";

export type AppEnv = { Bindings: Env; Variables: { caller: Caller; rate?: RateVerdict } };
