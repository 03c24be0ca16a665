// What every page of a repository has in common: its name, its tabs, and the choice of a branch or tag.
import type { Child } from "hono/jsx";
import type { Overview, RepoLink } from "../../hub/overview";
import type { Repository } from "../../hub/repositories";
import { isFullCommitId } from "../../ids";
import { cardAddress, commitsAddress, discussionsAddress, evaluationsAddress, linkOf, treeAddress } from "./address";
import { shortId } from "./wording";

export type Tab = "card" | "files" | "history" | "evaluations" | "community";

export type FrameProps = {
  readonly repo: Repository;
  /** As the address names it. */
  readonly revision: string;
  readonly tab: Tab;
  readonly children?: Child;
};

export const typeName = { model: "Model", dataset: "Dataset" } as const;

export function RepoFrame({ repo, revision, tab, children }: FrameProps) {
  const link = linkOf(repo);
  const tabs: readonly (readonly [Tab, string, string])[] = [
    ["card", `${typeName[repo.type]} card`, cardAddress(link, revision)],
    ["files", "Files", treeAddress(link, revision)],
    ["history", "History", commitsAddress(link, revision)],
    ["evaluations", "Evaluations", evaluationsAddress(link)],
    ["community", "Community", discussionsAddress(link)],
  ];
  return (
    <>
      <div class="title">
        <h1>
          <span class="pick" title="Select once to copy the whole name">
            <span class="owner">{repo.owner}/</span>
            {repo.name}
          </span>
        </h1>
        <span class="badge">{typeName[repo.type]}</span>
        {repo.private ? <span class="badge on">Private</span> : null}
        {repo.gated === null ? null : <span class="badge on">Gated</span>}
      </div>
      <nav class="tabs" aria-label={typeName[repo.type]}>
        {tabs.map(([name, text, href]) => (
          <a class="quiet tab" href={href} aria-current={name === tab ? "page" : undefined}>
            {text}
          </a>
        ))}
      </nav>
      {children}
    </>
  );
}

export type RevisionMenuProps = {
  readonly overview: Overview;
  readonly revision: string;
  /** Where another revision of what is shown is. */
  readonly to: (revision: string) => string;
};

/** A list of links in a disclosure: works without any script. */
export function RevisionMenu({ overview, revision, to }: RevisionMenuProps) {
  const { branches, tags } = overview;
  const links = (names: readonly string[]) =>
    names.map((name) => (
      <a class="choice" href={to(name)} aria-current={name === revision ? "true" : undefined}>
        {name}
      </a>
    ));
  return (
    <details class="menu">
      <summary>
        <span class="soft">{isFullCommitId(revision) ? "Commit" : "Revision"}</span>{" "}
        {isFullCommitId(revision) ? shortId(revision) : revision}
      </summary>
      <div class="box">
        <span class="choice soft">Branches</span>
        {links(branches)}
        {tags.length === 0 ? null : <span class="choice soft">Tags</span>}
        {links(tags)}
      </div>
    </details>
  );
}

/** A repository by name; one that may not be named is said to be so. */
export function RepoName({ repo, revision }: { readonly repo: RepoLink | null; readonly revision?: string }) {
  return repo === null ? (
    <span class="soft">a repository that is private or gone</span>
  ) : (
    <a href={cardAddress(repo, revision)}>{repo.name}</a>
  );
}
