// Tokens that open exactly one job: derived from the hub's secret, so that a retried submission carries the same one.
import { type JobId, parseJobId } from "../ids";
import { isSigned, sign } from "../platform/signing";

const PREFIX = "owmjob_";

export const isJobToken = (token: string): boolean => token.startsWith(PREFIX);

export async function jobToken(secret: string, job: JobId): Promise<string> {
  return `${PREFIX}${job}.${await sign(secret, "job-token", job)}`;
}

/** The job a token opens, or null for a token that the hub never gave. Whether the job still runs, the policy asks. */
export async function jobOfToken(secret: string, token: string): Promise<JobId | null> {
  const [id, signature] = token.slice(PREFIX.length).split(".");
  if (id === undefined || signature === undefined) return null;
  if (!(await isSigned(secret, signature, "job-token", id))) return null;
  return parseJobId(id, "token");
}
