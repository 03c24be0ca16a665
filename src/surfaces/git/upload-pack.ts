// upload-pack: what a repository has, and sending what a client lacks of it.
import { authorize } from "../../access/caller";
import { HubError } from "../../errors";
import { FormatError } from "../../formats/format-error";
import { DELIM_PKT, FLUSH_PKT, pktLine } from "../../formats/git/pkt-line";
import {
  type FetchRequest,
  type LsRefsRequest,
  type PlainRequest,
  parseCommand,
  parsePlainRequest,
} from "../../formats/git/upload-pack-request";
import { Fetch, type PackPlan } from "../../hub/git/fetch";
import { advertisedRefs, headOf } from "../../hub/git/refs";
import { MAIN, type Repository, targetOf } from "../../hub/repositories";
import { concatBytes } from "../../streams/chunks";
import { type Ctx, callerOf } from "../hf/request";
import { packStream } from "./pack-stream";
import { AGENT, errorLine, gitResponse, protocolVersion, serviceLine, wholeBody } from "./protocol";

const SERVICE = "git-upload-pack";
/** Of one request: some hundred thousand commits that the client has. Bytes, unpacked. */
const MAX_REQUEST_BYTES = 8 << 20;

const joined = (parts: readonly Uint8Array[]): Uint8Array =>
  concatBytes(
    parts,
    parts.reduce((sum, part) => sum + part.length, 0),
  );

const answer = (kind: "advertisement" | "result", parts: readonly Uint8Array[]): Response =>
  gitResponse(SERVICE, kind, joined(parts));
const text = (line: string): Uint8Array => pktLine(`${line}\n`);

export async function advertiseUpload(c: Ctx, repo: Repository): Promise<Response> {
  authorize(callerOf(c), { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  const version = protocolVersion(c);
  if (version !== 2) return answer("advertisement", await plainAdvertisement(c, repo, version));
  const lines = ["version 2", AGENT, "ls-refs=unborn", "fetch=shallow wait-for-done filter", "object-format=sha1"];
  return answer("advertisement", [...lines.map(text), FLUSH_PKT]);
}

export async function uploadPack(c: Ctx, repo: Repository): Promise<Response> {
  authorize(callerOf(c), { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  const body = await wholeBody(c, MAX_REQUEST_BYTES);
  try {
    if (protocolVersion(c) !== 2) {
      const plain = parsePlainRequest(body);
      return plain === null ? answer("result", []) : await plainFetch(c, repo, plain);
    }
    const command = parseCommand(body);
    if (command.kind === "ls-refs") return answer("result", await lsRefs(c, repo, command.request));
    return command.kind === "fetch" ? await fetchPack(c, repo, command.request) : answer("result", []);
  } catch (error) {
    if (error instanceof FormatError) return answer("result", [errorLine(`upload-pack: ${problemOf(error)}`)]);
    if (error instanceof HubError && error.code === "payload_too_large")
      return answer("result", [errorLine(error.message)]);
    throw error;
  }
}

const problemOf = ({ code, message }: FormatError): string =>
  code === "git.pkt_line" ? `the request ${message}` : message;

async function fetchPack(c: Ctx, repo: Repository, request: FetchRequest): Promise<Response> {
  const { wants, haves, done, waitForDone } = request;
  if (wants.length === 0 && (done || haves.length === 0 || !waitForDone)) return answer("result", []);
  const { db } = callerOf(c).platform;
  const fetch = await Fetch.open(db, repo.id, request);
  const head: Uint8Array[] = [];
  if (!done && haves.length > 0) {
    const common = fetch.common();
    const acks = common.length === 0 ? ["NAK"] : common.map((id) => `ACK ${id}`);
    head.push(...["acknowledgments", ...acks].map(text));
    if (waitForDone || !(await fetch.isReady())) return answer("result", [...head, FLUSH_PKT]);
    head.push(text("ready"), DELIM_PKT);
  }
  const plan = await fetch.plan();
  if (request.deepening.kind !== "none" || request.shallow.length > 0)
    head.push(text("shallow-info"), ...shallowLines(plan), DELIM_PKT);
  head.push(text("packfile"));
  const options = { head: joined(head), noProgress: request.noProgress, band: "large" } as const;
  return gitResponse(SERVICE, "result", packStream(callerOf(c), repo, plan.contents, options));
}

/** What versions 0 and 1 are told besides the refs. */
const CAPABILITIES = `multi_ack_detailed no-done side-band side-band-64k thin-pack ofs-delta no-progress include-tag shallow deepen-since deepen-not deepen-relative filter allow-tip-sha1-in-want allow-reachable-sha1-in-want symref=HEAD:${MAIN} object-format=sha1 ${AGENT}`;
const NO_ID = "0".repeat(40);

async function plainAdvertisement(c: Ctx, repo: Repository, version: 0 | 1): Promise<Uint8Array[]> {
  const refs = await advertisedRefs(callerOf(c).platform.db, repo.id);
  const head = headOf(refs);
  const lines = head === undefined ? [] : [`${head.id} HEAD`];
  for (const { name, id, peeled } of refs) {
    lines.push(`${id} ${name}`);
    if (peeled !== null) lines.push(`${peeled} ${name}^{}`);
  }
  const [first = `${NO_ID} capabilities^{}`, ...rest] = lines;
  const versionLine = version === 1 ? [text("version 1")] : [];
  return [...serviceLine(SERVICE), ...versionLine, text(`${first}\0${CAPABILITIES}`), ...rest.map(text), FLUSH_PKT];
}

/** A fetch of versions 0 and 1: the same, told in other words. */
async function plainFetch(c: Ctx, repo: Repository, plain: PlainRequest): Promise<Response> {
  const { request, detailed, noDone, band } = plain;
  const fetch = await Fetch.open(callerOf(c).platform.db, repo.id, request);
  const deepens = request.deepening.kind !== "none";
  const common = fetch.common();
  const last = common.at(-1);
  const ready = detailed && !request.done && (await fetch.isReady());
  const acks = detailed ? common.map((id) => `ACK ${id} common`) : common.slice(0, 1).map((id) => `ACK ${id}`);
  if (ready) acks.push(`ACK ${last} ready`);
  const sends = request.done || (ready && noDone);
  // Who sent neither haves nor `done` only asked where its history would end.
  const asked = request.done || request.haves.length > 0;
  if (asked && (last === undefined || (detailed && !request.done))) acks.push("NAK");
  if (detailed && sends && last !== undefined) acks.push(`ACK ${last}`);
  const plan = deepens || sends ? await fetch.plan() : null;
  const head = deepens && plan !== null ? [...shallowLines(plan), FLUSH_PKT] : [];
  head.push(...acks.map(text));
  if (plan === null || !sends) return answer("result", head);
  const options = { head: joined(head), noProgress: request.noProgress, band };
  return gitResponse(SERVICE, "result", packStream(callerOf(c), repo, plan.contents, options));
}

const shallowLines = ({ shallow, unshallow }: PackPlan): Uint8Array[] => [
  ...shallow.map((id) => text(`shallow ${id}`)),
  ...unshallow.map((id) => text(`unshallow ${id}`)),
];

async function lsRefs(c: Ctx, repo: Repository, request: LsRefsRequest): Promise<Uint8Array[]> {
  const refs = await advertisedRefs(callerOf(c).platform.db, repo.id);
  const { prefixes } = request;
  const isWanted = (name: string): boolean =>
    prefixes.length === 0 || prefixes.some((prefix) => name.startsWith(prefix));
  const lines: string[] = [];
  if (isWanted("HEAD")) {
    const head = headOf(refs);
    const symref = request.symrefs ? ` symref-target:${MAIN}` : "";
    if (head !== undefined) lines.push(`${head.id} HEAD${symref}`);
    else if (request.unborn) lines.push(`unborn HEAD${symref}`);
  }
  for (const { name, id, peeled } of refs)
    if (isWanted(name)) lines.push(`${id} ${name}${request.peel && peeled !== null ? ` peeled:${peeled}` : ""}`);
  return [...lines.map(text), FLUSH_PKT];
}
