// Tokens of the Xet protocol: each opens the stored bytes of one repository for an hour. They are signed and need no row; who may
// still do what is asked on each call.
import * as z from "zod";
import { type JobId, parseJobId } from "../ids";
import { isSigned, sign } from "../platform/signing";

const PREFIX = "xet_";
/** Clients renew a token up to a minute before it ends. */
export const XET_TOKEN_MS = 3600 * 1000;

export type XetGrant = {
  readonly repoId: string;
  readonly write: boolean;
  /** Of the hub's token that this one was got with; null when nobody had to sign in. */
  readonly tokenId: string | null;
  /** The job that uploads its output with it, in the name of who started it; null for everybody else. */
  readonly jobId: JobId | null;
};

/** Repository, hub token, writing, the end in seconds since 1970, and the job where there is one. */
const Payload = z.tuple([z.string(), z.string().nullable(), z.boolean(), z.int(), z.string().nullable().default(null)]);

export const isXetToken = (token: string): boolean => token.startsWith(PREFIX);

/** `exp`: when it ends, in seconds since 1970. */
export async function issueXetToken(
  secret: string,
  grant: XetGrant,
  now: number,
): Promise<{ accessToken: string; exp: number }> {
  const exp = Math.floor((now + XET_TOKEN_MS) / 1000);
  const payload: z.input<typeof Payload> = [grant.repoId, grant.tokenId, grant.write, exp, grant.jobId];
  const text = Buffer.from(JSON.stringify(payload)).toString("base64url");
  return { accessToken: `${PREFIX}${text}.${await sign(secret, "xet-token", text)}`, exp };
}

/** What a token grants, or null when the hub never gave it or its time is over. */
export async function xetGrantOf(secret: string, token: string, now: number): Promise<XetGrant | null> {
  const [text, signature, ...rest] = token.slice(PREFIX.length).split(".");
  if (text === undefined || signature === undefined || rest.length > 0) return null;
  if (!(await isSigned(secret, signature, "xet-token", text))) return null;
  const [repoId, tokenId, write, exp, job] = Payload.parse(JSON.parse(Buffer.from(text, "base64url").toString("utf8")));
  return now < exp * 1000 ? { repoId, tokenId, write, jobId: job === null ? null : parseJobId(job, "token") } : null;
}
