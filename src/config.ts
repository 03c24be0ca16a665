// Settings, parsed once into one typed object: each with its variable, its default and the fix when it is missing.
import * as z from "zod";

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
});

export type Config = {
  readonly secret: string;
  readonly computeSecret: string;
  readonly computeUrl: string;
  readonly publicUrl: string;
  readonly uploadPartBytes: number;
  readonly jobTimeoutS: number;
};

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
  const config: Config = {
    secret: result.data.OWM_SECRET,
    computeSecret: result.data.OWM_COMPUTE_SECRET,
    computeUrl: result.data.COMPUTE_URL.replace(/\/$/, ""),
    publicUrl: result.data.PUBLIC_URL.replace(/\/$/, ""),
    uploadPartBytes: result.data.UPLOAD_PART_BYTES,
    jobTimeoutS: result.data.JOB_TIMEOUT_S,
  };
  parsed.set(env, config);
  return config;
}
