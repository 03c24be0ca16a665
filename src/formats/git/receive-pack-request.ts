// What clients send to receive-pack before the pack: which refs are to become what, and what they understand.
import { type GitId, parseGitId } from "../../ids";
import { FormatError } from "../format-error";
import { decodeUtf8, encodeUtf8, quote } from "../text";
import type { ByteSource } from "./byte-source";
import { FLUSH_PKT, MAX_PKT_BYTES, pktLine, readPktLine } from "./pkt-line";

export type RefCommand = {
  /** As sent: whether it names a ref is for others to say. */
  readonly ref: string;
  /** What the client takes it to be now; null for a ref that is new. */
  readonly from: GitId | null;
  /** Null to delete it. */
  readonly to: GitId | null;
};

export type ReceiveRequest = {
  readonly commands: readonly RefCommand[];
  readonly capabilities: ReadonlySet<string>;
};

const NO_OBJECT = "0".repeat(40);
const MAX_LINES = 4000;
const COMMAND = /^([0-9a-f]{40}) ([0-9a-f]{40}) ([^\0]+)$/;

const refuse = (problem: string): never => {
  throw new FormatError("git.request", problem);
};

/** The lines up to the next flush. */
async function readSection(source: ByteSource): Promise<string[]> {
  const lines: string[] = [];
  for (;;) {
    const read = readPktLine(await source.window(MAX_PKT_BYTES), 0);
    if (read === null) return refuse("ends within a line");
    const { line, next } = read;
    if (line.kind === "data")
      lines.push(decodeUtf8(line.bytes, "git.request", "holds a line that is not UTF-8").replace(/\n$/, ""));
    source.take(next);
    if (line.kind === "flush") return lines;
    if (line.kind !== "data") return refuse("has its parts in the wrong order");
    if (lines.length > MAX_LINES) return refuse(`holds more than ${MAX_LINES} lines: push fewer refs at a time`);
  }
}

/** Leaves the source where the pack begins. No command at all is a client that only asks whether it may. @throws FormatError */
export async function readReceiveRequest(source: ByteSource): Promise<ReceiveRequest> {
  const lines = await readSection(source);
  const [first, ...rest] = lines.filter((line) => !/^shallow [0-9a-f]{40}$/.test(line));
  if (first === undefined) return { commands: [], capabilities: new Set() };
  const [command = "", list = ""] = first.split("\0", 2);
  const capabilities = new Set(list.split(" ").filter((one) => one !== ""));
  const format = [...capabilities].find((one) => one.startsWith("object-format="));
  if (format !== undefined && format !== "object-format=sha1") return refuse(`wants ${quote(format)}, not sha1`);
  const commands = [command, ...rest].map((text): RefCommand => {
    const [, from, to, ref] = COMMAND.exec(text) ?? [];
    if (from === undefined || to === undefined || ref === undefined)
      return refuse(`holds the unexpected line ${quote(text)}`);
    const idOf = (id: string): GitId | null => (id === NO_OBJECT ? null : parseGitId(id, "object id"));
    return { ref, from: idOf(from), to: idOf(to) };
  });
  // What the options ask for is for hooks of the server; there are none.
  if (capabilities.has("push-options")) await readSection(source);
  return { commands, capabilities };
}

export type RefResult = { readonly ref: string /** Null where it was done. */; readonly refused: string | null };

/** What became of a push. `problem`: why nothing of the pack could be taken. */
export type PushReport = { readonly problem: string | null; readonly results: readonly RefResult[] };

const PROGRESS = 2;
const DATA = 1;
/** Of one line on a side band, without its length and the number of the band. Bytes. */
const BAND_BYTES = MAX_PKT_BYTES - 5;

function* onBand(band: number, bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += BAND_BYTES) {
    const part = bytes.subarray(at, at + BAND_BYTES);
    const line = new Uint8Array(part.length + 1);
    line[0] = band;
    line.set(part, 1);
    yield pktLine(line);
  }
}

/** What stands behind a ref in git's own table; the whole of it is among the messages. Characters. */
const MAX_REASON = 300;

function oneLine(text: string): string {
  const line = text.replace(/\s+/g, " ");
  return line.length > MAX_REASON ? `${line.slice(0, MAX_REASON - 1)}…` : line;
}

/** The answer in the form that the client understands; `messages` are for the person at it. */
export function* encodeReport(
  { problem, results }: PushReport,
  capabilities: ReadonlySet<string>,
  messages: readonly string[],
): Generator<Uint8Array> {
  const lines = capabilities.has("report-status")
    ? [
        pktLine(`unpack ${problem === null ? "ok" : oneLine(problem)}\n`),
        ...results.map(({ ref, refused }) =>
          pktLine(refused === null ? `ok ${ref}\n` : `ng ${ref} ${oneLine(refused)}\n`),
        ),
        FLUSH_PKT,
      ]
    : [];
  if (!capabilities.has("side-band-64k")) {
    yield* lines;
    return;
  }
  for (const message of messages) yield* onBand(PROGRESS, encodeUtf8(`${message}\n`));
  for (const line of lines) yield* onBand(DATA, line);
  yield FLUSH_PKT;
}
