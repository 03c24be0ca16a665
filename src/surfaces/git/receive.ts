// receive-pack: what a repository has, as who pushes is told it, and taking what is pushed.

import { HubError } from "../../errors";
import { FormatError } from "../../formats/format-error";
import { ByteSource } from "../../formats/git/byte-source";
import { FLUSH_PKT, pktLine } from "../../formats/git/pkt-line";
import { encodeReport, type ReceiveRequest, readReceiveRequest } from "../../formats/git/receive-pack-request";
import { receivePush } from "../../hub/git/receive";
import { advertisedRefs } from "../../hub/git/refs";
import { authorizeProposal } from "../../hub/push-rights";
import type { Repository } from "../../hub/repositories";
import { concatBytes, readChunks } from "../../streams/chunks";
import { type Ctx, callerOf } from "../hf/request";
import { AGENT, gitResponse, protocolVersion, requestBody, serviceLine } from "./protocol";

const SERVICE = "git-receive-pack";
const CAPABILITIES = `report-status delete-refs side-band-64k quiet atomic ofs-delta push-options object-format=sha1 ${AGENT}`;
const NO_OBJECT = "0".repeat(40);

function answer(kind: "advertisement" | "result", parts: readonly Uint8Array[]): Response {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  return gitResponse(SERVICE, kind, concatBytes(parts, size));
}

/** Whoever may propose a change is told: which ref they may move is decided when they do. */
export async function advertiseReceive(c: Ctx, repo: Repository): Promise<Response> {
  const caller = callerOf(c);
  authorizeProposal(caller, repo);
  const refs = await advertisedRefs(caller.platform.db, repo.id);
  const [first = { id: NO_OBJECT, name: "capabilities^{}" }, ...rest] = refs;
  return answer("advertisement", [
    ...serviceLine(SERVICE),
    // Pushing has no version 2 yet: whoever asks for it is answered in version 0.
    ...(protocolVersion(c) === 1 ? [pktLine("version 1\n")] : []),
    pktLine(`${first.id} ${first.name}\0${CAPABILITIES}\n`),
    ...rest.map(({ id, name }) => pktLine(`${id} ${name}\n`)),
    FLUSH_PKT,
  ]);
}

export async function receivePack(c: Ctx, repo: Repository): Promise<Response> {
  const caller = callerOf(c);
  authorizeProposal(caller, repo);
  const body = requestBody(c);
  if (body === null) throw new HubError("invalid_request", { problem: "The body is empty" });
  const chunks = readChunks(body, { reuse: true });
  const source = new ByteSource(async () => {
    try {
      return await chunks.next();
    } catch (cause) {
      throw new FormatError("git.body", "broke off, or is not compressed as the request says", {}, { cause });
    }
  });
  try {
    const request = await readRequest(source);
    // A flush and nothing else: a client that wants to know whether it may, before it sends what is long.
    if (request.commands.length === 0) return answer("result", []);
    const { messages, ...report } = await receivePush(caller, repo, request, source);
    await drain(source);
    return answer("result", [...encodeReport(report, request.capabilities, messages)]);
  } finally {
    await chunks.cancel(undefined);
  }
}

async function readRequest(source: ByteSource): Promise<ReceiveRequest> {
  try {
    return await readReceiveRequest(source);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new HubError("invalid_request", { problem: `The request ${error.message}` }, { cause: error });
  }
}

/** git reads no answer before it has sent everything. */
async function drain(source: ByteSource): Promise<void> {
  try {
    for (let left = await source.window(1); left.length > 0; left = await source.window(1)) source.take(left.length);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
  }
}
