// Settings, parsed once into one typed object: each with its variable, its default and the fix when it is missing.
import * as z from "zod";

const quota = (unset: number) => z.coerce.number().int().positive().default(unset);

const Settings = z.object({
  /** Key of upload URLs and job tokens; also admits the one bootstrap call. `wrangler secret put OWM_SECRET`. */
  OWM_SECRET: z.string().min(32),
  /** Shared with the compute service: signs every request to it. `wrangler secret put OWM_COMPUTE_SECRET`. */
  OWM_COMPUTE_SECRET: z.string().min(32),
  /** Where the compute service answers. */
  COMPUTE_URL: z.url(),
  /** Where the compute service reaches this hub; never taken from a request, whose Host anyone may set. */
  PUBLIC_URL: z.url(),
  /** Largest body of one upload request in bytes: below the 100 MB that Workers take on the smaller plans. */
  UPLOAD_PART_BYTES: z.coerce
    .number()
    .int()
    .min(64 * 1024)
    .max(4_995 * 1024 * 1024)
    .default(64 * 1024 * 1024),
  /** A job that runs longer fails. Seconds. */
  JOB_TIMEOUT_S: z.coerce
    .number()
    .int()
    .positive()
    .default(6 * 3600),
  /** How long after a commit the background work on its files begins, so that one run serves several commits. Milliseconds. */
  UPKEEP_DELAY_MS: z.coerce.number().int().positive().default(1000),
  /** Whether webhooks may also be sent to this machine, over http: for development and tests. */
  WEBHOOKS_TO_LOOPBACK: z.enum(["on", "off"]).default("off"),
  /** The bucket's S3 endpoint, with its keys and name: then downloads of whole objects come from the bucket, not through the Worker. */
  R2_S3_ENDPOINT: z.url().optional(),
  R2_ACCESS_KEY_ID: z.string().min(1).optional(),
  /** `wrangler secret put R2_SECRET_ACCESS_KEY`. */
  R2_SECRET_ACCESS_KEY: z.string().min(1).optional(),
  R2_BUCKET: z.string().min(1).optional(),
  /** A custom domain of the bucket behind Cloudflare's cache, for public bytes only, such as `https://files.example.org`. */
  DOWNLOAD_DOMAIN: z.url().optional(),
  /** The secret of the rule that guards the domain (docs/architecture.md). `wrangler secret put DOWNLOAD_DOMAIN_SECRET`. */
  DOWNLOAD_DOMAIN_SECRET: z.string().min(16).optional(),
  /** Whether what is public and never changes is kept in Cloudflare's cache near its readers. */
  EDGE_CACHE: z.enum(["on", "off"]).default("on"),
  /** How long what nothing names is kept. Clients count on an upload for 20 hours before they commit it. Hours. */
  COLLECT_AFTER_HOURS: z.coerce.number().min(24).default(48),
  /** The same for xorbs, which clients remember for three weeks and do not send again. Days. */
  COLLECT_XORBS_AFTER_DAYS: z.coerce.number().gt(21).default(22),
  /** Requests that one client may make in five minutes, by kind: calls of the APIs, files, pages, git. `RATE_LIMITS=off` takes any number. */
  RATE_LIMITS: z.enum(["on", "off"]).default("on"),
  RATE_LIMIT_API: quota(5000),
  RATE_LIMIT_RESOLVERS: quota(20_000),
  RATE_LIMIT_PAGES: quota(2000),
  RATE_LIMIT_GIT: quota(2000),
});

const GROUPS = [
  ["R2_S3_ENDPOINT", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "R2_BUCKET"],
  ["DOWNLOAD_DOMAIN", "DOWNLOAD_DOMAIN_SECRET"],
] as const;

/** The bucket behind its S3 interface. */
export type S3Bucket = {
  readonly endpoint: string;
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
};

export type Config = {
  readonly secret: string;
  readonly computeSecret: string;
  readonly computeUrl: string;
  readonly publicUrl: string;
  readonly uploadPartBytes: number;
  readonly jobTimeoutS: number;
  readonly upkeepDelayMs: number;
  readonly webhooksToLoopback: boolean;
  readonly s3: S3Bucket | null;
  readonly downloadDomain: { readonly origin: string; readonly secret: string } | null;
  readonly edgeCache: boolean;
  readonly graces: Graces;
  /** Null: no limits. */
  readonly rateLimits: Readonly<Record<RateBucket, number>> | null;
};

/** What requests are counted as, by the names that clients show. */
export type RateBucket = "api" | "resolvers" | "pages" | "git";

/** How long what nothing names any more stays, in milliseconds. */
export type Graces = {
  readonly rows: number;
  readonly xorbs: number;
  /** From when an object is condemned until its bytes go: longer than any signed address or slow reader lasts. */
  readonly objects: number;
};

const HOUR_MS = 3_600_000;
const OBJECT_GRACE_MS = 24 * HOUR_MS;

const parsed = new WeakMap<object, Config>();

/** Reads the settings of a Worker's environment. @throws Error that names each missing variable and its fix. */
export function readConfig(env: object): Config {
  const known = parsed.get(env);
  if (known) return known;
  const result = Settings.safeParse(env);
  if (!result.success) {
    const problems = result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ");
    throw new Error(
      `Settings are missing or wrong (${problems}). Set [vars] in wrangler.toml, secrets with wrangler secret put.`,
    );
  }
  const { data } = result;
  for (const group of GROUPS) {
    const missing = group.filter((name) => data[name] === undefined);
    if (missing.length > 0 && missing.length < group.length)
      throw new Error(`Settings are missing (${missing.join(", ")}). Set all of ${group.join(", ")}, or none.`);
  }
  const { R2_S3_ENDPOINT, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, R2_BUCKET } = data;
  const { DOWNLOAD_DOMAIN, DOWNLOAD_DOMAIN_SECRET } = data;
  const config: Config = {
    secret: data.OWM_SECRET,
    computeSecret: data.OWM_COMPUTE_SECRET,
    computeUrl: data.COMPUTE_URL.replace(/\/$/, ""),
    publicUrl: data.PUBLIC_URL.replace(/\/$/, ""),
    uploadPartBytes: data.UPLOAD_PART_BYTES,
    jobTimeoutS: data.JOB_TIMEOUT_S,
    s3:
      R2_S3_ENDPOINT && R2_ACCESS_KEY_ID && R2_SECRET_ACCESS_KEY && R2_BUCKET
        ? {
            endpoint: R2_S3_ENDPOINT.replace(/\/$/, ""),
            bucket: R2_BUCKET,
            accessKeyId: R2_ACCESS_KEY_ID,
            secretAccessKey: R2_SECRET_ACCESS_KEY,
          }
        : null,
    downloadDomain:
      DOWNLOAD_DOMAIN && DOWNLOAD_DOMAIN_SECRET
        ? { origin: new URL(DOWNLOAD_DOMAIN).origin, secret: DOWNLOAD_DOMAIN_SECRET }
        : null,
    edgeCache: data.EDGE_CACHE === "on",
    graces: {
      rows: data.COLLECT_AFTER_HOURS * HOUR_MS,
      xorbs: data.COLLECT_XORBS_AFTER_DAYS * 24 * HOUR_MS,
      objects: OBJECT_GRACE_MS,
    },
    rateLimits:
      data.RATE_LIMITS === "off"
        ? null
        : {
            api: data.RATE_LIMIT_API,
            resolvers: data.RATE_LIMIT_RESOLVERS,
            pages: data.RATE_LIMIT_PAGES,
            git: data.RATE_LIMIT_GIT,
          },
    upkeepDelayMs: data.UPKEEP_DELAY_MS,
    webhooksToLoopback: data.WEBHOOKS_TO_LOOPBACK === "on",
  };
  parsed.set(env, config);
  return config;
}
