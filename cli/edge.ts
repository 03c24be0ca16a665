// The process that runs the Worker on workerd, with D1, R2, Workflows and Durable Objects as files under the state folder.
// It is started by hub.ts, gets its settings over the IPC channel, and ends when that channel closes.
import { globSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare, type V4SharedOptions } from "miniflare";
import { unstable_getMiniflareWorkerOptions, unstable_readConfig, unstable_splitSqlQuery } from "wrangler";
import * as z from "zod";
import { isRunning, type ProcessIdentity } from "./process-identity.mjs";
import { signalGroup } from "./service-process.ts";
import { workerModules } from "./worker-bundle.ts";

const settingsShape = z.object({
  config: z.string(),
  bundle: z.string(),
  persist: z.string(),
  port: z.int().positive(),
  bindings: z.record(z.string(), z.string()),
});
const messageShape = z.discriminatedUnion("type", [
  z.object({ type: z.literal("serve"), settings: settingsShape }),
  z.object({ type: z.literal("companion"), pid: z.int().positive(), started: z.string() }),
]);

export type EdgeSettings = z.infer<typeof settingsShape>;
export type EdgeMessage = z.infer<typeof messageShape>;

const HOST = "127.0.0.1";
const COMPANION_GRACE_MS = 3000;
/** The only schedule kept here, see keepSchedule. */
const EVERY_MINUTE = "* * * * *";
const MINUTE_MS = 60_000;

/** What is used here of the things wrangler makes of wrangler.toml; the rest is passed on unseen. */
const configShape = z.object({
  name: z.string(),
  main: z.string(),
  triggers: z.object({ crons: z.array(z.string()).default([]) }),
  d1_databases: z.array(
    z.object({ binding: z.string(), migrations_dir: z.string().optional(), migrations_table: z.string().optional() }),
  ),
});
const workerOptionsShape = z.looseObject({
  bindings: z.record(z.string(), z.json()).default({}),
  serviceBindings: z.record(z.string(), z.any()).default({}),
  d1Databases: z.record(z.string(), z.object({ id: z.string() })).default({}),
});

type MigratedDatabase = { binding: string; folder: string; table: string };

function databasesToMigrate(config: z.infer<typeof configShape>, configPath: string): MigratedDatabase[] {
  return config.d1_databases.flatMap(({ binding, migrations_dir, migrations_table }) =>
    migrations_dir === undefined
      ? []
      : [{ binding, folder: resolve(dirname(configPath), migrations_dir), table: migrations_table ?? "d1_migrations" }],
  );
}

/**
 * Brings one database up to date, in the table and with the names `wrangler d1 migrations apply` uses. The commit point
 * of a migration is its batch: statements and record together, so a crash leaves it applied or untouched.
 */
async function migrate(miniflare: Miniflare, { binding, folder, table }: MigratedDatabase): Promise<void> {
  const database = await miniflare.getD1Database(binding);
  await database
    .prepare(
      `CREATE TABLE IF NOT EXISTS ${table} (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)`,
    )
    .run();
  const applied = await database.prepare(`SELECT name FROM ${table}`).all<{ name: string }>();
  const known = new Set(applied.results.map(({ name }) => name));
  const names = readdirSync(folder).filter((name) => name.endsWith(".sql") && !known.has(name));
  for (const name of names.sort()) {
    const statements = unstable_splitSqlQuery(readFileSync(join(folder, name), "utf8"));
    const record = database.prepare(`INSERT INTO ${table} (name) VALUES (?)`).bind(name);
    await database.batch([...statements.map((sql) => database.prepare(sql)), record]);
    console.log(`migration ${name} applied to ${binding}`);
  }
}

/** workerd has no cron: the Worker's scheduled handler is called from here, once at the start and then every minute. */
function keepSchedule(miniflare: Miniflare, crons: string[]): void {
  const other = crons.filter((cron) => cron !== EVERY_MINUTE);
  if (other.length > 0) console.error(`these schedules run only when deployed: ${other.join("; ")}`);
  if (!crons.includes(EVERY_MINUTE)) return;
  const tick = async () => {
    const worker = await miniflare.getWorker();
    const { outcome } = await worker.scheduled({ cron: EVERY_MINUTE });
    if (outcome !== "ok") console.error(`the scheduled handler ended with: ${outcome}`);
  };
  const run = () => void tick().catch((error) => console.error(`the scheduled handler could not be called: ${error}`));
  run();
  setInterval(run, MINUTE_MS).unref();
}

async function serve({ config: configPath, bundle, persist, port, bindings }: EdgeSettings): Promise<Miniflare> {
  mkdirSync(persist, { recursive: true });
  // workerd writes an R2 object beside its place first; killed midway, it never comes back for that file.
  for (const draft of globSync("r2/*/blobs/.*.tmp", { cwd: persist })) rmSync(join(persist, draft));
  const config = configShape.parse(unstable_readConfig({ config: configPath }));
  const { workerOptions, externalWorkers } = unstable_getMiniflareWorkerOptions(configPath);
  // The built modules come with their types; Miniflare takes rules for sources only.
  const { modulesRules: _, ...options } = workerOptionsShape.parse(workerOptions);
  const { name } = config;
  const shared: V4SharedOptions = {
    host: HOST,
    resourcePersistencePath: persist,
    cf: false,
    logRequests: false,
    log: new Log(LogLevel.WARN),
    handleStructuredLogs: ({ message }) => console.log(message),
  };
  // The databases are migrated before the Worker runs at all: a Durable Object alarm that is overdue fires at once.
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      ...shared,
      name,
      modules: true,
      script: "export default {}",
      d1Databases: options.d1Databases,
    }),
  );
  for (const database of databasesToMigrate(config, configPath)) await migrate(miniflare, database);
  const worker = {
    ...options,
    name,
    rootPath: dirname(configPath),
    modules: workerModules(bundle, config.main),
    modulesRoot: bundle,
    bindings: { ...options.bindings, ...bindings },
    serviceBindings: {
      ...options.serviceBindings,
      PUBLIC_NETWORK: { network: { allow: ["public"], tlsOptions: { trustBrowserCas: true } } },
    },
    // Requests reach the Worker itself: Miniflare's own front door would cost more time than a small request takes, alter
    // headers, and open its development pages to every caller.
    unsafeDirectSockets: [{ host: HOST, port }],
  };
  await miniflare.setOptions(convertV4MiniflareOptions({ ...shared, workers: [worker, ...externalWorkers] }));
  await miniflare.ready;
  keepSchedule(miniflare, config.triggers.crons);
  return miniflare;
}

let served: Promise<Miniflare> | undefined;
let companion: ProcessIdentity | undefined;

async function end(): Promise<never> {
  const miniflare = await served;
  await miniflare?.dispose();
  process.exit(0);
}

/** The supervisor was killed: the compute service, which cannot notice that, is stopped in its stead. */
async function endAlone(): Promise<never> {
  if (companion !== undefined && isRunning(companion)) {
    process.kill(companion.pid, "SIGTERM");
    const limit = Date.now() + COMPANION_GRACE_MS;
    while (isRunning(companion) && Date.now() < limit) await pause(50);
    // Its job processes too, which are in its group.
    signalGroup(companion.pid, "SIGKILL");
  }
  return end();
}

process.on("message", (raw) => {
  const message = messageShape.parse(raw);
  if (message.type === "companion") companion = message;
  else served = serve(message.settings);
});
process.once("disconnect", endAlone);
process.once("SIGTERM", end);
