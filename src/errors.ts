// Every error of the hub on one screen: code, status, message. Surfaces render it in their own protocol.

const ERRORS = {
  // Who is asking
  invalid_credentials: [401, "Invalid credentials in Authorization header"],
  authentication_required: [401, "This needs a token: send `Authorization: Bearer hf_…`."],
  xet_token_required: [
    401,
    "This needs a Xet token that has not expired: ask the repository's xet-read-token or xet-write-token.",
  ],
  forbidden: [403, "You do not have the right to do this: {reason}."],
  gated_repo: [
    403,
    "Access to {type} {repo} is restricted and you are not in the authorized list: {reason}. Ask for access with POST {at}.",
  ],
  gated_repo_anonymous: [
    401,
    "Access to {type} {repo} is restricted: {reason}. Sign in, and ask for access with POST {at}.",
  ],
  address_expired: [403, "The address has expired or was changed: ask for the file again."],
  // What is asked for
  repo_not_found: [404, "Repository not found"],
  revision_not_found: [404, "Invalid rev id: {revision}"],
  entry_not_found: [404, "Entry not found: {path}"],
  account_not_found: [404, "No account is named {name}"],
  token_not_found: [404, "You have no such token"],
  job_not_found: [404, "No job has the id {id}"],
  evaluation_not_found: [404, "No evaluation has the id {id}"],
  discussion_not_found: [404, "No discussion has the number {number} in this repository"],
  comment_not_found: [404, "No comment of this discussion has the id {id}"],
  not_found: [404, "Nothing is served at this address"],
  collection_not_found: [404, "No collection is at {slug}"],
  collection_item_not_found: [404, "The collection has no such item"],
  webhook_not_found: [404, "You have no such webhook"],
  content_deleted: [404, "{path}: the bytes were permanently deleted from this repository"],
  upload_not_found: [404, "No such upload is open: ask for a new one with the LFS batch call."],
  access_request_not_found: [404, "{user} has not asked for access"],
  access_request_unchanged: [404, "The request of {user} is {status} already"],
  // What stands in the way
  repo_name_taken: [409, "A {type} repository called {repo} already exists"],
  repo_exists: [409, "You already created this {type} repo: {repo}"],
  account_exists: [409, "The name {name} is taken"],
  ref_exists: [409, "Reference {ref} already exists"],
  collection_exists: [409, "A collection with this title exists already: {slug}"],
  collection_item_exists: [409, "The collection has this item already"],
  already_bootstrapped: [409, "The administrator exists already: send `rotate: true` for a fresh token."],
  idempotency_key_in_use: [409, "The first request with this Idempotency-Key is still being worked on"],
  discussion_changed: [409, "The discussion was changed at the same moment: read it and try again."],
  discussion_full: [409, "The discussion holds as much as one may: open a new one that links to it."],
  discussion_not_open: [409, "It is {status}: {fix}."],
  comment_hidden: [409, "The comment was hidden for good: write a new one."],
  merge_conflicts: [
    409,
    "Merging would conflict in {files}: bring the changes of {base} into {ref}, or the other way round, and merge again.",
  ],
  job_ended: [409, "The job has ended: {state}"],
  ref_moved: [412, "The branch was updated since you opened this page. Please refresh and try again."],
  access_requested: [409, "You asked for access to {repo} already: the answer is {status}"],
  // What was sent
  invalid_request: [400, "{problem}"],
  invalid_card: [400, "Invalid metadata in README.md.\n{problem}"],
  not_gated: [400, "{repo} is not gated: everyone who sees it may have its files"],
  access_granted: [400, "{user} has access already"],
  invalid_field: [422, "{field}: {problem}"],
  idempotency_key_reused: [422, "This Idempotency-Key came before with another body: use a new key."],
  invalid_path: [422, "{field}: {problem}"],
  merge_mismatch: [422, "{field}: {problem}"],
  invalid_weights: [422, "{field}: {problem}"],
  input_withdrawn: [
    403,
    "{repo} may not be used for this job any more: {reason}. Ask its owner for access, or for a job without it.",
  ],
  plan_outdated: [
    409,
    "The job was accepted by an earlier version of this hub, which planned otherwise: ask for it again.",
  ],
  output_invalid: [422, "The result can't be published: {problem}"],
  invalid_ref: [400, "Invalid reference for a {kind}: {name}"],
  protected_ref: [400, "Cannot delete {ref}"],
  push_refused: [422, "{problem}"],
  content_missing: [
    422,
    "{field}: no bytes with SHA-256 {sha256} were uploaded to this repository, and none that you can read holds them",
  ],
  digest_mismatch: [422, "The body's SHA-256 is {actual}, not the declared {expected}: nothing was stored."],
  size_mismatch: [422, "The body has {actual} bytes, not the declared {expected}: nothing was stored."],
  body_interrupted: [400, "The body ended early after {actual} of {expected} bytes: nothing was stored."],
  length_required: [411, "Send Content-Length: {expected}"],
  payload_too_large: [413, "{problem}"],
  history_too_large: [
    413,
    "The history can't be rewritten in one step: more than {most} {what}. Super-squash first, or delete without rewriteHistory.",
  ],
  range_not_satisfiable: [416, "The range starts beyond the end of the {size} bytes"],
  xet_xorb_missing: [400, "No xorb {hash} was uploaded, or you may not refer to it"],
  xet_shard_invalid: [400, "The shard is refused: {problem}"],
  // Device login
  device_code_not_found: [404, "No program waits with this code: it may have expired, or was decided about already."],
  too_many_attempts: [429, "Too many codes were tried: wait a quarter of an hour."],
  too_many_waiting: [503, "Too many programs wait to be let in: try again in some minutes."],
  // What this hub does not do
  not_served: [501, "{what} are not served by this hub"],
  too_many_requests: [
    429,
    "Too many requests: {quota} are taken in {window} seconds. Try again in {reset} seconds, and with a token if you sent none.",
  ],
  // What failed on our side
  xet_claim_pending: [
    503,
    "Another upload under one of these SHA-256 is still being checked: send the shard again in some seconds.",
  ],
  xet_retry: [503, "What this shard refers to was removed meanwhile: send it again."],
  pack_pending: [503, "The repository is still being prepared for its first clone: try again in some minutes."],
  compute_unavailable: [503, "The compute service does not answer: {problem}"],
  content_quarantined: [
    409,
    "{path}: the stored bytes do not have the SHA-256 they were published under. Upload the file again.",
  ],
  locks_unsupported: [501, "This hub does not lock files: set lfs.locksverify to false if git-lfs asks for it."],
  content_damaged: [500, "Stored bytes are missing or damaged"],
  internal: [500, "Something failed on our side; the request id finds it in the log."],
} as const satisfies Record<string, readonly [number, string]>;

export type ErrorCode = keyof typeof ERRORS;
export type ErrorFields = Record<string, string | number | boolean | null | undefined>;

/** The one error type of the hub. `fields` fill the message and travel to clients that read structured errors. */
export class HubError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly fields: ErrorFields;

  constructor(code: ErrorCode, fields: ErrorFields = {}, options?: ErrorOptions) {
    const [status, template] = ERRORS[code];
    super(
      template.replace(/\{(\w+)\}/g, (_, name: string) => String(fields[name] ?? "")),
      options,
    );
    this.name = "HubError";
    this.code = code;
    this.status = status;
    this.fields = fields;
  }
}
