// Every test starts on an empty hub with the schema in place.
import { applyD1Migrations, env, reset } from "cloudflare:test";
import { afterEach, beforeEach } from "vitest";

beforeEach(() => applyD1Migrations(env.DB, env.MIGRATIONS));
afterEach(() => reset());
