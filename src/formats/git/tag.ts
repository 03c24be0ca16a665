// Annotated tags: what they name, and that git would take them.
import { type GitId, parseGitId } from "../../ids";
import { FormatError } from "../format-error";
import { decodeUtf8 } from "../text";
import type { GitObjectType } from "./objects";

export type GitTag = {
  readonly target: GitId;
  readonly type: GitObjectType;
  readonly name: string;
  /** The whole object. */
  readonly content: string;
};

const HEAD =
  /^object ([0-9a-f]{40})\ntype (commit|tree|blob|tag)\ntag ([^\n\0]+)\ntagger [^<>\n\0]*<[^<>\n\0]*> (?:0|[1-9][0-9]{0,15}) [+-][0-9]{4}\n\n/;

const TYPES: Readonly<Record<string, GitObjectType>> = { commit: "commit", tree: "tree", blob: "blob", tag: "tag" };

/** @throws FormatError `git.tag` */
export function decodeTag(bytes: Uint8Array): GitTag {
  const content = decodeUtf8(bytes, "git.tag", "is not UTF-8");
  const [, target, kind, name] = HEAD.exec(content) ?? [];
  const type = TYPES[kind ?? ""];
  if (target === undefined || type === undefined || name === undefined || content.includes("\0"))
    throw new FormatError("git.tag", "is not in git's own form");
  return { target: parseGitId(target, "object id"), type, name, content };
}
