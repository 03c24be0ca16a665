// What clients send to upload-pack: commands of protocol v2, and the one request of the versions before it.
import { type GitId, parseGitId } from "../../ids";
import { FormatError } from "../format-error";
import { decodeUtf8, quote } from "../text";
import { readPktLine } from "./pkt-line";

/** What a partial clone leaves out. Ids that are wanted by name come all the same. */
export type ObjectFilter = {
  /** Bytes: blobs of this size and above are left out. */
  readonly blobLimit: number;
  /** Trees and blobs this deep and deeper are left out; a commit's root tree is 0 deep. */
  readonly treeDepth: number;
};
export const NO_FILTER: ObjectFilter = { blobLimit: Number.POSITIVE_INFINITY, treeDepth: Number.POSITIVE_INFINITY };

/** How much of the history is wanted. */
export type Deepening =
  | { readonly kind: "none" }
  /** `relative`: counted from where the client's history ends, not from what it wants. */
  | { readonly kind: "depth"; readonly depth: number; readonly relative: boolean }
  /** Commits from `since` (seconds since 1970; 0 for all) on, without those that the refs `not` lead to. */
  | { readonly kind: "since"; readonly since: number; readonly not: readonly string[] };

/** git's own number for "all of it". */
export const INFINITE_DEPTH = 0x7fffffff;

export type FetchRequest = {
  readonly wants: readonly GitId[];
  readonly haves: readonly GitId[];
  /** Commits whose parents the client does not have. */
  readonly shallow: readonly GitId[];
  readonly deepening: Deepening;
  readonly filter: ObjectFilter;
  readonly done: boolean;
  readonly waitForDone: boolean;
  readonly includeTag: boolean;
  readonly noProgress: boolean;
};

export type LsRefsRequest = {
  readonly symrefs: boolean;
  readonly peel: boolean;
  readonly unborn: boolean;
  readonly prefixes: readonly string[];
};

export type Command =
  | { readonly kind: "ls-refs"; readonly request: LsRefsRequest }
  | { readonly kind: "fetch"; readonly request: FetchRequest }
  /** A flush where a command should be: nothing is wanted. */
  | { readonly kind: "none" };

/** Bytes of one line that is an argument; longer ones are none. */
const MAX_ARGUMENT_BYTES = 4096;

const refuse = (problem: string): never => {
  throw new FormatError("git.request", `the request ${problem}`);
};

function argumentText(bytes: Uint8Array): string {
  if (bytes.length > MAX_ARGUMENT_BYTES) refuse(`holds a line of ${bytes.length} bytes`);
  return decodeUtf8(bytes, "git.request", "the request holds a line that is not UTF-8").replace(/\n$/, "");
}

type Line = { readonly kind: "data"; readonly text: string } | { readonly kind: "flush" | "delim" | "end" };

/** All lines of a whole body. */
function readLines(body: Uint8Array): Line[] {
  const lines: Line[] = [];
  for (let at = 0; at < body.length; ) {
    const read = readPktLine(body, at);
    if (read === null) return refuse("ends within a line");
    const { line, next } = read;
    lines.push(line.kind === "data" ? { kind: "data", text: argumentText(line.bytes) } : line);
    at = next;
  }
  return lines;
}

function objectName(text: string, of: string): GitId {
  if (!/^[0-9a-f]{40}$/.test(text)) return refuse(`names no object in its ${of} line: ${quote(text)}`);
  return parseGitId(text, "object id");
}

function wholeNumber(text: string, of: string): number {
  const number = Number(text);
  if (!/^[0-9]{1,15}$/.test(text) || !Number.isSafeInteger(number))
    return refuse(`has no number in its ${of} line: ${quote(text)}`);
  return number;
}

function depthOf(text: string): number {
  const depth = wholeNumber(text, "deepen");
  return depth < 1 ? refuse("wants a depth below 1") : Math.min(depth, INFINITE_DEPTH);
}

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 1 << 10, m: 1 << 20, g: 1 << 30 };

/** `blob:none`, `blob:limit=N`, `tree:N`, and `combine:` of them. */
export function parseFilter(spec: string): ObjectFilter {
  if (spec.startsWith("combine:"))
    return spec
      .slice("combine:".length)
      .split("+")
      .map((one) => parseFilter(unescaped(one)))
      .reduce((a, b) => ({
        blobLimit: Math.min(a.blobLimit, b.blobLimit),
        treeDepth: Math.min(a.treeDepth, b.treeDepth),
      }));
  if (spec === "blob:none") return { ...NO_FILTER, blobLimit: 0 };
  const [, digits, unit] = /^blob:limit=([0-9]{1,12})([kmg]?)$/i.exec(spec) ?? [];
  if (digits !== undefined && unit !== undefined)
    return { ...NO_FILTER, blobLimit: Number(digits) * (UNITS[unit.toLowerCase()] ?? 1) };
  const [, depth] = /^tree:([0-9]{1,9})$/.exec(spec) ?? [];
  if (depth !== undefined) return { ...NO_FILTER, treeDepth: Number(depth) };
  return refuse(`has the filter ${quote(spec)}: this hub knows blob:none, blob:limit=<n> and tree:<depth>`);
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return refuse(`has the filter ${quote(text)}, which is encoded wrongly`);
  }
}

/** A request in the making, read line by line; one for all versions of the protocol. */
class FetchReader {
  readonly wants = new Set<GitId>();
  readonly haves = new Set<GitId>();
  readonly shallow = new Set<GitId>();
  readonly not: string[] = [];
  readonly flags = new Set<string>();
  depth: number | null = null;
  since: number | null = null;
  filter: ObjectFilter = NO_FILTER;

  read(text: string): void {
    const space = text.indexOf(" ");
    const name = space === -1 ? text : text.slice(0, space);
    const value = space === -1 ? "" : text.slice(space + 1);
    if (name === "want") this.wants.add(objectName(value, name));
    else if (name === "have") this.haves.add(objectName(value, name));
    else if (name === "shallow") this.shallow.add(objectName(value, name));
    else if (name === "deepen") this.depth = depthOf(value);
    else if (name === "deepen-since") this.since = wholeNumber(value, name);
    else if (name === "deepen-not") this.not.push(value);
    else if (name === "filter") this.filter = parseFilter(value);
    else if (FLAGS.has(text)) this.flags.add(text);
    else refuse(`holds the unexpected line ${quote(text)}`);
  }

  finish(): FetchRequest {
    return {
      wants: [...this.wants],
      haves: [...this.haves],
      shallow: [...this.shallow],
      deepening: this.#deepening(),
      filter: this.filter,
      done: this.flags.has("done"),
      waitForDone: this.flags.has("wait-for-done"),
      includeTag: this.flags.has("include-tag"),
      noProgress: this.flags.has("no-progress"),
    };
  }

  #deepening(): Deepening {
    const { depth, since, not } = this;
    if (depth !== null && (since !== null || not.length > 0))
      return refuse("asks for a depth and for a date or ref to stop at, which do not go together");
    if (depth !== null) return { kind: "depth", depth, relative: this.flags.has("deepen-relative") };
    return since !== null || not.length > 0 ? { kind: "since", since: since ?? 0, not } : { kind: "none" };
  }
}

const FLAGS = new Set(
  "done thin-pack no-progress include-tag ofs-delta deepen-relative wait-for-done sideband-all".split(" "),
);

/** A request of protocol v2. @throws FormatError `git.request` | `git.pkt_line` */
export function parseCommand(body: Uint8Array): Command {
  const lines = readLines(body);
  const [first] = lines;
  if (first === undefined || first.kind === "flush") return { kind: "none" };
  const texts: [capabilities: string[], args: string[]] = [[], []];
  let section: 0 | 1 = 0;
  for (const [at, line] of lines.entries()) {
    if (line.kind === "data") texts[section].push(line.text);
    else if (line.kind === "delim" && section === 0) section = 1;
    else if (line.kind === "flush" && at === lines.length - 1) break;
    else return refuse("has its parts in the wrong order");
    if (at === lines.length - 1) return refuse("ends without a flush");
  }
  const [capabilities, args] = texts;
  const commands = capabilities.filter((text) => text.startsWith("command="));
  const format = capabilities.find((text) => text.startsWith("object-format="));
  if (format !== undefined && format !== "object-format=sha1") return refuse(`wants ${quote(format)}, not sha1`);
  if (commands.length !== 1) return refuse("names no command, or several");
  if (commands[0] === "command=ls-refs") return { kind: "ls-refs", request: lsRefsRequest(args) };
  if (commands[0] !== "command=fetch") return refuse(`holds the unknown ${quote(commands[0] ?? "")}`);
  const reader = new FetchReader();
  for (const arg of args) reader.read(arg);
  return { kind: "fetch", request: reader.finish() };
}

function lsRefsRequest(args: readonly string[]): LsRefsRequest {
  const prefixes = args.filter((arg) => arg.startsWith("ref-prefix ")).map((arg) => arg.slice("ref-prefix ".length));
  return {
    symrefs: args.includes("symrefs"),
    peel: args.includes("peel"),
    unborn: args.includes("unborn"),
    prefixes,
  };
}

/** A request of the versions before, with what the client said it can do. */
export type PlainRequest = {
  readonly request: FetchRequest;
  /** Whether each commit in common is told, and when enough is known. */
  readonly detailed: boolean;
  /** Whether the pack may follow as soon as enough is known. */
  readonly noDone: boolean;
  /** How the pack is framed. */
  readonly band: "none" | "small" | "large";
};

/** Wants, with the capabilities behind the first of them, to a flush; then haves, with flushes between. Null: nothing is wanted. */
export function parsePlainRequest(body: Uint8Array): PlainRequest | null {
  const lines = readLines(body);
  const [first] = lines;
  if (first === undefined || first.kind === "flush") return null;
  if (first.kind !== "data") return refuse("starts with no want");
  const [, want = "", rest = ""] = /^(want [0-9a-f]{40})[ \0]?(.*)$/.exec(first.text) ?? [];
  if (want === "") return refuse("starts with no want");
  const capabilities = new Set(rest.split(/[ \0]/));
  const reader = new FetchReader();
  for (const name of capabilities) if (FLAGS.has(name) && name !== "done") reader.flags.add(name);
  reader.read(want);
  for (const line of lines.slice(1)) {
    if (line.kind === "data") reader.read(line.text);
    else if (line.kind !== "flush") return refuse("holds a line of protocol v2");
  }
  const band = capabilities.has("side-band-64k") ? "large" : capabilities.has("side-band") ? "small" : "none";
  return {
    request: reader.finish(),
    detailed: capabilities.has("multi_ack_detailed"),
    noDone: capabilities.has("no-done"),
    band,
  };
}
