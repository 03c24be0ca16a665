// upload-pack: what a repository has, and sending what a client lacks of it.
import { authorize } from "../../access/caller";
import { FormatError } from "../../formats/format-error";
import { FLUSH_PKT, pktLine } from "../../formats/git/pkt-line";
import { type LsRefsRequest, parseCommand } from "../../formats/git/upload-pack-request";
import { advertisedRefs, headOf } from "../../hub/git/refs";
import { MAIN, type Repository, targetOf } from "../../hub/repositories";
import { concatBytes } from "../../streams/chunks";
import { type Ctx, callerOf } from "../hf/request";
import { AGENT, errorLine, gitResponse, protocolVersion, wholeBody } from "./protocol";

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

export async function advertiseUpload(c: Ctx, repo: Repository): Promise<Response> {
  authorize(callerOf(c), { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  if (protocolVersion(c) !== 2)
    return answer("advertisement", [errorLine("use protocol v2: git -c protocol.version=2")]);
  const lines = ["version 2", AGENT, "ls-refs=unborn", "object-format=sha1"];
  return answer("advertisement", [...lines.map((line) => pktLine(`${line}\n`)), FLUSH_PKT]);
}

export async function uploadPack(c: Ctx, repo: Repository): Promise<Response> {
  authorize(callerOf(c), { action: "repo.use", repo, purpose: "download" }, targetOf(repo));
  const body = await wholeBody(c, MAX_REQUEST_BYTES);
  try {
    const command = parseCommand(body);
    if (command.kind === "ls-refs") return answer("result", await lsRefs(c, repo, command.request));
    return answer("result", []);
  } catch (error) {
    if (error instanceof FormatError) return answer("result", [errorLine(`upload-pack: the request ${error.message}`)]);
    throw error;
  }
}

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
  return [...lines.map((line) => pktLine(`${line}\n`)), FLUSH_PKT];
}
