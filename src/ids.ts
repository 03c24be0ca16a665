// Branded types and their parsers: inside the hub no identifier is a raw string.

import { HubError } from "./errors";
import { FormatError } from "./formats/format-error";
import { checkFilePath } from "./formats/paths";

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

export type RepoType = "model" | "dataset";
export type Sha256 = Branded<"Sha256">;
/** A git object id: 40 lower-case hex digits of SHA-1. */
export type GitId = Branded<"GitId">;
export type FilePath = Branded<"FilePath">;
/** A name in the shared namespace of users and organizations. */
export type AccountName = Branded<"AccountName">;
export type RepoName = Branded<"RepoName">;
/** What a client names a state of a repository by: branch, tag, `refs/…`, `HEAD`, or a commit id of 7 to 40 digits. */
export type Revision = Branded<"Revision">;
/** A full ref: `refs/heads/…`, `refs/tags/…`, `refs/pr/N`. */
export type RefName = Branded<"RefName">;
export type JobId = Branded<"JobId">;
/** A Xet hash in the text form of the protocol: 64 hex digits, the bytes of each 64-bit word reversed. */
export type XetHash = Branded<"XetHash">;

export type RepoId = { readonly type: RepoType; readonly owner: AccountName; readonly name: RepoName };

const RESERVED_NAMES = new Set(
  "about api assets blob blobs cas collections commit commits datasets device discussions docs git health healthz help jobs join kernels login logout metrics models new oauth organizations orgs papers pricing raw readyz resolve search settings spaces static support tasks terms tree users v1 v2 www xet".split(
    " ",
  ),
);

const isSha256 = (text: string): text is Sha256 => /^[0-9a-f]{64}$/.test(text);
const isXetHash = (text: string): text is XetHash => /^[0-9a-f]{64}$/.test(text);
const isGitId = (text: string): text is GitId => /^[0-9a-f]{40}$/.test(text);
const isSegmentName = (text: string): boolean =>
  /^[A-Za-z0-9_.-]{1,96}$/.test(text) && !/^[-.]|[-.]$|--|\.\.|\.git$/i.test(text);
const isAccountName = (text: string): text is AccountName =>
  isSegmentName(text) && !RESERVED_NAMES.has(text.toLowerCase());
const isRepoName = (text: string): text is RepoName => isSegmentName(text);
const isJobId = (text: string): text is JobId => /^job_[0-9a-z]{26}$/.test(text);
const isRefName = (text: string): text is RefName =>
  /^refs\/(heads|tags|pr|convert)\/./.test(text) && isGitRefSyntax(text);
const isRevision = (text: string): text is Revision => text === "HEAD" || isGitRefSyntax(text);

/** The rules of `git check-ref-format`, plus a length bound. */
function isGitRefSyntax(text: string): boolean {
  return (
    text.length > 0 &&
    text.length <= 250 &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: git forbids control characters in refs
    !/[\x00-\x20\x7f~^:?*[\\]|\.\.|@\{|\/\/|^[/-]|\/$|\.$|^@$/.test(text) &&
    text.split("/").every((part) => !part.startsWith(".") && !part.endsWith(".lock"))
  );
}

function parser<T extends string>(guard: (text: string) => text is T, problem: string) {
  return (text: string, field: string): T => {
    if (!guard(text)) throw new HubError("invalid_field", { field, problem });
    return text;
  };
}

export const parseSha256 = parser(isSha256, "must be 64 lower-case hex digits (a SHA-256)");
export const parseXetHash = parser(isXetHash, "must be 64 lower-case hex digits (a Xet hash)");
export const parseGitId = parser(isGitId, "must be 40 lower-case hex digits (a commit id)");
export const parseAccountName = parser(
  isAccountName,
  "must be 1–96 of A–Z a–z 0–9 . _ -, not start or end with - or ., hold no -- or .., and not be a reserved word",
);
export const parseRepoName = parser(
  isRepoName,
  "must be 1–96 of A–Z a–z 0–9 . _ -, not start or end with - or ., hold no -- or .., and not end in .git",
);
export const parseJobId = parser(isJobId, "is no job id");
export const parseRefName = parser(
  isRefName,
  "must be refs/heads/…, refs/tags/… or refs/pr/…, by git's rules for ref names",
);

/** A revision that can't be one is answered like one that does not exist. */
export function parseRevision(text: string): Revision {
  if (!isRevision(text)) throw new HubError("revision_not_found", { revision: text.slice(0, 100) });
  return text;
}

/** `owner/name` as clients write it; single-segment ids exist on the ecosystem's hub but name nothing here. */
export function parseRepoId(type: RepoType, text: string): RepoId {
  const [owner, name, ...rest] = text.split("/");
  if (owner === undefined || name === undefined || rest.length > 0 || !isAccountName(owner) || !isRepoName(name))
    throw new HubError("repo_not_found");
  return { type, owner, name };
}

function isFilePath(text: string): text is FilePath {
  checkFilePath(text);
  return true;
}

export function parseFilePath(text: string, field: string): FilePath {
  try {
    if (isFilePath(text)) return text;
  } catch (error) {
    if (error instanceof FormatError) throw new HubError("invalid_path", { field, problem: error.message });
    throw error;
  }
  throw new HubError("invalid_path", { field, problem: "is no file path" });
}

/** A commit id or a prefix long enough to name one. */
export const isCommitPrefix = (text: string): boolean => /^[0-9a-f]{7,40}$/.test(text);
export const isFullCommitId = isGitId;

const CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz";

/** 26 sortable characters: 48 bits of milliseconds and 80 random bits (ULID). */
export function sortableId(now: number): string {
  let time = "";
  for (let rest = now, i = 0; i < 10; i++, rest = Math.floor(rest / 32)) time = CROCKFORD.charAt(rest % 32) + time;
  const random = crypto.getRandomValues(new Uint8Array(16));
  return time + Array.from(random, (byte) => CROCKFORD.charAt(byte % 32)).join("");
}

/** 24 hex digits, as clients know the ids of collections, their items and webhooks: 48 bits of milliseconds and 48 random bits. */
export function objectId(now: number): string {
  const random = crypto.getRandomValues(new Uint8Array(6));
  return now.toString(16).padStart(12, "0") + Buffer.from(random).toString("hex");
}

export const newJobId = (now: number): JobId => parseJobId(`job_${sortableId(now)}`, "id");
