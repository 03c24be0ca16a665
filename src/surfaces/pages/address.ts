// Where pages are: every address that a page links to is built here, escaped part by part.
import type { RepoLink } from "../../hub/overview";
import { type Repository, repoName } from "../../hub/repositories";
import type { RepoType } from "../../ids";

const PREFIX: Record<RepoType, string> = { model: "", dataset: "datasets/" };

export const linkOf = (repo: Repository): RepoLink => ({ type: repo.type, name: repoName(repo) });

const encodePath = (path: string): string => path.split("/").map(encodeURIComponent).join("/");

/** The model card; another revision than `main` is a query, as it may hold slashes. */
export function cardAddress({ type, name }: RepoLink, revision = "main"): string {
  const query = revision === "main" ? "" : `?revision=${encodeURIComponent(revision)}`;
  return `/${PREFIX[type]}${encodePath(name)}${query}`;
}

/** The list of models or datasets, as chosen; what is empty is left out. */
export function browseAddress(type: RepoType, choice: Readonly<Record<string, string>> = {}): string {
  const query = new URLSearchParams(Object.entries(choice).filter(([, value]) => value !== ""));
  return `/${type}s${query.size === 0 ? "" : `?${query}`}`;
}

export function evaluationsAddress(repo: RepoLink, revision?: string): string {
  const query = revision === undefined ? "" : `?revision=${encodeURIComponent(revision)}`;
  return `${cardAddress(repo)}/evaluations${query}`;
}

export const evaluationAddress = (repo: RepoLink, id: string): string =>
  `${cardAddress(repo)}/evaluations/${encodeURIComponent(id)}`;

export const discussionsAddress = (repo: RepoLink): string => `${cardAddress(repo)}/discussions`;
export const discussionAddress = (repo: RepoLink, number: number): string => `${discussionsAddress(repo)}/${number}`;

const at = (repo: RepoLink, verb: string, revision: string, path: string): string =>
  `${cardAddress(repo)}/${verb}/${encodeURIComponent(revision)}${path === "" ? "" : `/${encodePath(path)}`}`;

export const treeAddress = (repo: RepoLink, revision: string, path = ""): string => at(repo, "tree", revision, path);
export const blobAddress = (repo: RepoLink, revision: string, path: string): string => at(repo, "blob", revision, path);
export const resolveAddress = (repo: RepoLink, revision: string, path: string): string =>
  at(repo, "resolve", revision, path);
export const commitsAddress = (repo: RepoLink, revision: string): string => at(repo, "commits", revision, "");
export const commitAddress = (repo: RepoLink, id: string): string => at(repo, "commit", id, "");
