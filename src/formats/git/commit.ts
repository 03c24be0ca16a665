// Git commits: who, when, which tree, after which parents, and why.
import { type GitId, parseGitId } from "../../ids";
import { FormatError } from "../format-error";
import { decodeUtf8, encodeUtf8, quote } from "../text";
import { objectId } from "./objects";

export type GitPerson = {
  readonly name: string;
  readonly email: string;
  /** Unix time. */
  readonly seconds: number;
  /** As git writes it: `+0000`. The hub writes UTC; pushed commits keep theirs. */
  readonly timezone: string;
};

export type GitCommit = {
  readonly tree: GitId;
  readonly parents: readonly GitId[];
  readonly author: GitPerson;
  readonly committer: GitPerson;
  /** What pushed commits carry beyond that (`gpgsig`, `encoding`), in order; a value of several lines holds `\n`. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Verbatim: git's own tools end it with a line feed. */
  readonly message: string;
};

const PERSON = /^([^<>\n\0]*?) ?<([^<>\n\0]*)> (0|[1-9][0-9]{0,15}) ([+-][0-9]{4})$/;
const HEADER_NAME = /^[a-z][a-z0-9-]*$/;
const OWN_HEADERS = new Set(["tree", "parent", "author", "committer"]);

/** What git strips from both ends of a name or address. */
const isCrud = (character: string): boolean => character <= " " || ".,:;<>\"\\'".includes(character);

function sanitize(text: string): string {
  const characters = [...text.toWellFormed()].filter((character) => character !== "\0");
  const first = characters.findIndex((character) => !isCrud(character));
  if (first === -1) return "";
  const last = characters.findLastIndex((character) => !isCrud(character));
  return characters
    .slice(first, last + 1)
    .filter((character) => !"<>\n".includes(character))
    .join("");
}

/** A person for a commit that the hub writes, cleaned the way git cleans `user.name` and `user.email`, in UTC. */
export function gitPerson(name: string, email: string, seconds: number): GitPerson {
  return { name: sanitize(name) || "unknown", email: sanitize(email), seconds, timezone: "+0000" };
}

function encodePerson({ name, email, seconds, timezone }: GitPerson): string {
  const line = `${name} <${email}> ${seconds} ${timezone}`;
  if (!PERSON.test(line)) throw new FormatError("git.person", `cannot name a person as ${quote(line)}`);
  return line;
}

function decodePerson(line: string): GitPerson {
  const [, name, email, seconds, timezone] = PERSON.exec(line) ?? [];
  if (name === undefined || email === undefined || seconds === undefined || timezone === undefined)
    throw new FormatError("git.person", `names a person in a way git does not: ${quote(line)}`);
  return { name, email, seconds: Number(seconds), timezone };
}

function commitText(commit: GitCommit): string {
  const lines = [`tree ${commit.tree}`, ...commit.parents.map((parent) => `parent ${parent}`)];
  lines.push(`author ${encodePerson(commit.author)}`, `committer ${encodePerson(commit.committer)}`);
  for (const [name, value] of commit.headers) {
    if (!HEADER_NAME.test(name) || OWN_HEADERS.has(name) || value.includes("\0"))
      throw new FormatError("git.commit_header", `cannot hold the header ${quote(name)}`);
    lines.push(`${name} ${value.replaceAll("\n", "\n ")}`);
  }
  // git reads a message only up to a NUL, so two different commits would look alike.
  if (commit.message.includes("\0")) throw new FormatError("git.message", "has a message with a NUL character");
  return `${lines.join("\n")}\n\n${commit.message}`;
}

/** The content of the commit object. */
export const encodeCommit = (commit: GitCommit): Uint8Array => encodeUtf8(commitText(commit));

export const commitId = (commit: GitCommit): GitId => objectId("commit", encodeCommit(commit));

/** Splits the part before the message into headers, joining continuation lines. */
function readHeaders(text: string): [string, string][] {
  const headers: [string, string][] = [];
  for (const line of text.split("\n")) {
    const last = headers.at(-1);
    if (line.startsWith(" ") && last !== undefined) {
      last[1] += `\n${line.slice(1)}`;
      continue;
    }
    const space = line.indexOf(" ");
    if (space < 1) throw new FormatError("git.commit", `has the header line ${quote(line)}`);
    headers.push([line.slice(0, space), line.slice(space + 1)]);
  }
  return headers;
}

const readId = (text: string): GitId => {
  if (!/^[0-9a-f]{40}$/.test(text)) throw new FormatError("git.commit", `names the object ${quote(text)}`);
  return parseGitId(text, "object id");
};

/** Reads a commit object's content; what this accepts, `encodeCommit` writes back byte for byte. */
export function decodeCommit(bytes: Uint8Array): GitCommit {
  const text = decodeUtf8(bytes, "git.commit", "is not UTF-8");
  const gap = text.indexOf("\n\n");
  if (gap === -1) throw new FormatError("git.commit", "has no message");
  const headers = readHeaders(text.slice(0, gap));
  const take = (name: string): string | undefined => (headers[0]?.[0] === name ? headers.shift()?.[1] : undefined);
  const need = (name: string): string => {
    const value = take(name);
    if (value === undefined) throw new FormatError("git.commit", `lacks its ${name} where git puts it`);
    return value;
  };
  const tree = readId(need("tree"));
  const parents: GitId[] = [];
  for (let parent = take("parent"); parent !== undefined; parent = take("parent")) parents.push(readId(parent));
  const author = decodePerson(need("author"));
  const committer = decodePerson(need("committer"));
  const commit = { tree, parents, author, committer, headers, message: text.slice(gap + 2) };
  // Odd spellings (no space before `<`, leading zeros) would come back under another id: refuse them instead.
  if (commitText(commit) !== text) throw new FormatError("git.commit", "is not in git's own form");
  return commit;
}
