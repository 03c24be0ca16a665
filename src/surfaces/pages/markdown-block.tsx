// What someone wrote in Markdown, as a part of a page.
import { raw } from "hono/html";
import type { RepoLink } from "../../hub/overview";
import { renderComment } from "./markdown";

export type CommentTextProps = { readonly text: string; readonly repo: RepoLink; readonly origin: string };

/** Addresses in it are read as paths of the repository's `main`. */
export function CommentText({ text, repo, origin }: CommentTextProps) {
  return <div class="prose pad">{raw(renderComment(text, { repo, revision: "main", origin }))}</div>;
}
