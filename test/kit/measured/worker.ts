// The hub's Worker with D1 and R2 made slower and watched: an answer tells what came before the first byte of the real one.
import * as z from "zod";
import type { Env } from "../../../src/platform/cloudflare";
import worker from "../../../src/worker";
import { plantRepos } from "./planted";

export * from "../../../src/worker";

type Kind = "d1" | "r2";
type Operation = { readonly kind: Kind; readonly start: number; readonly end: number };

/** What is added to each query and to each read, in milliseconds. */
type Delays = Readonly<Record<Kind, number>>;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const Meta = z.object({ meta: z.object({ rows_read: z.number() }) });
const Metas = z.union([z.array(Meta), Meta.transform((one) => [one])]);

class Watch {
  readonly operations: Operation[] = [];
  /** Rows that D1 read, as it counts them itself. */
  rows = 0;
  readonly #delays: Delays;

  constructor(delays: Delays) {
    this.#delays = delays;
  }

  /** An object of the runtime whose named methods are timed; `others` replace methods. */
  #proxy<T extends object>(target: T, kind: Kind, timed: ReadonlySet<string>, others: Record<string, unknown> = {}): T {
    return new Proxy(target, {
      get: (_, name) => {
        if (typeof name === "string" && name in others) return others[name];
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== "function") return value;
        if (typeof name !== "string" || !timed.has(name)) return value.bind(target);
        return async (...args: unknown[]) => {
          const start = Date.now();
          await pause(this.#delays[kind]);
          const result: unknown = await value.apply(target, args.map(unwrapped));
          this.operations.push({ kind, start, end: Date.now() });
          for (const { meta } of Metas.safeParse(result).data ?? []) this.rows += meta.rows_read;
          return result;
        };
      },
    });
  }

  #statement(statement: D1PreparedStatement): D1PreparedStatement {
    const proxy = this.#proxy(statement, "d1", new Set(["all", "run", "raw", "first"]), {
      bind: (...values: unknown[]) => this.#statement(statement.bind(...values)),
    });
    behind.set(proxy, statement);
    return proxy;
  }

  bindings(env: Env): Env {
    const withSession = (start?: D1SessionConstraint | D1SessionBookmark): D1DatabaseSession => {
      const session = env.DB.withSession(start);
      return this.#proxy(session, "d1", new Set(["batch"]), {
        prepare: (query: string) => this.#statement(session.prepare(query)),
      });
    };
    const DB = this.#proxy(env.DB, "d1", new Set(), { withSession });
    return { ...env, DB, BLOBS: this.#proxy(env.BLOBS, "r2", new Set(["get", "head"])) };
  }

  /** Operations of a kind, and how many of them came one after another. */
  count(kind: Kind): { all: number; inTurn: number } {
    const own = this.operations.filter((one) => one.kind === kind).toSorted((a, b) => a.end - b.end);
    let inTurn = 0;
    let free = Number.NEGATIVE_INFINITY;
    for (const { start, end } of own) {
      if (start < free) continue;
      inTurn++;
      free = end;
    }
    return { all: own.length, inTurn };
  }
}

/** The statements behind proxies, which a batch takes and the runtime must see as they are. */
const behind = new WeakMap<object, object>();
const unwrapped = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(unwrapped);
  return typeof value === "object" && value !== null ? (behind.get(value) ?? value) : value;
};

/** Until the first bytes are there: a stream may begin with reads of its own. */
async function firstByte(response: Response): Promise<void> {
  const reader = response.body?.getReader();
  await reader?.read();
  await reader?.cancel();
}

export default {
  async fetch(request, env, context): Promise<Response> {
    const plant = request.headers.get("x-plant");
    if (plant !== null) return Response.json(await plantRepos(env.DB, Number(plant)));
    // Method and delays: as a HEAD could not be answered with a report, it is asked for by a GET.
    const measure = request.headers.get("x-measure");
    if (measure === null) return worker.fetch(request, env, context);
    const [method = "GET", d1, r2] = measure.split(",");
    const watch = new Watch({ d1: Number(d1), r2: Number(r2) });
    const start = Date.now();
    const response = await worker.fetch(new Request(request, { method }), watch.bindings(env), context);
    await firstByte(response);
    const ms = Date.now() - start;
    return Response.json({
      status: response.status,
      ms,
      d1: watch.count("d1"),
      r2: watch.count("r2"),
      rows: watch.rows,
    });
  },
  scheduled: worker.scheduled,
} satisfies ExportedHandler<Env>;
