// The files of a revision, one directory at a time.
import { type Entry, listTree } from "../../hub/files";
import { readOverview } from "../../hub/overview";
import { confirmedEntry, findSnapshot, repoName } from "../../hub/repositories";
import type { RepoType } from "../../ids";
import { type Ctx, callerOf, repoIdOf, revisionAndPath } from "../hf/request";
import { blobAddress, commitAddress, linkOf, resolveAddress, treeAddress } from "./address";
import { answer, Time } from "./layout";
import { RepoFrame, RevisionMenu } from "./repo-frame";
import { byteSize, dateTime, shortId } from "./wording";

/** Entries of one page; `after` asks for the next. */
const PAGE = 1000;

export async function files(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const { revision, path } = revisionAndPath(c);
  const after = c.req.query("after");
  const page = { path, recursive: false, limit: PAGE + 1, ...(after === undefined ? {} : { after }) };
  const { snapshot, overview, entries } = await confirmedEntry(caller, revision, async () => {
    const found = await findSnapshot(caller, repoIdOf(c, type), revision);
    const [seen, listed] = await Promise.all([readOverview(caller, found), listTree(caller.platform.db, found, page)]);
    return { snapshot: found, overview: seen, entries: listed };
  });
  const { repo, commit } = snapshot;
  const link = linkOf(repo);
  const shown = entries.slice(0, PAGE).sort(byKindThenPath);
  const next = entries.length > PAGE ? entries[PAGE - 1]?.path : undefined;
  return answer(c, {
    title: `${path === "" ? "Files" : path} · ${repoName(repo)}`,
    children: (
      <RepoFrame repo={repo} revision={revision} tab="files">
        <div class="bar">
          <Trail path={path} root={repo.name} to={(part) => treeAddress(link, revision, part)} />
          <RevisionMenu overview={overview} revision={revision} to={(name) => treeAddress(link, name)} />
        </div>
        <p class="small soft">
          <a class="mono" href={commitAddress(link, commit)}>
            {shortId(commit)}
          </a>{" "}
          {overview.commit.message.split("\n", 1)[0]} · {overview.commit.author} ·{" "}
          <Time ms={overview.commit.at} text={dateTime(overview.commit.at)} />
        </p>
        <div class="box scroll">
          <table class="files">
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col" class="num">
                  Size
                </th>
                <th scope="col">
                  <span class="away">Download</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {path === "" ? null : (
                <tr>
                  <td colspan={3}>
                    <a href={treeAddress(link, revision, path.split("/").slice(0, -1).join("/"))}>.. up</a>
                  </td>
                </tr>
              )}
              {shown.map((entry) => {
                const name = entry.path.slice(path === "" ? 0 : path.length + 1);
                return entry.kind === "directory" ? (
                  <tr>
                    <td colspan={3}>
                      <a href={treeAddress(link, revision, entry.path)}>{name}/</a>
                    </td>
                  </tr>
                ) : (
                  <tr>
                    <td>
                      <a href={blobAddress(link, revision, entry.path)}>{name}</a>{" "}
                      {entry.lfs ? (
                        <span class="badge" title={`Stored as a large file, SHA-256 ${entry.sha256}`}>
                          LFS
                        </span>
                      ) : null}
                    </td>
                    <td class="num">{byteSize(entry.size)}</td>
                    <td class="num">
                      <a
                        href={resolveAddress(link, revision, entry.path)}
                        download={name}
                        aria-label={`Download ${name}`}
                      >
                        Download
                      </a>
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
        {next === undefined ? null : (
          <p>
            <a href={`${treeAddress(link, revision, path)}?after=${encodeURIComponent(next)}`}>More files</a>
          </p>
        )}
      </RepoFrame>
    ),
  });
}

/** Directories first, as people look for them. */
const byKindThenPath = (a: Entry, b: Entry): number =>
  a.kind === b.kind ? (a.path < b.path ? -1 : 1) : a.kind === "directory" ? -1 : 1;

export type TrailProps = {
  readonly path: string;
  readonly root: string;
  readonly to: (path: string) => string;
};

/** Where one is below the root, each step a link. */
export function Trail({ path, root, to }: TrailProps) {
  const parts = path === "" ? [] : path.split("/");
  return (
    <nav aria-label="Path" class="mono trail">
      <a href={to("")}>{root}</a>
      {parts.map((part, i) => (
        <>
          {" / "}
          {i === parts.length - 1 ? <span>{part}</span> : <a href={to(parts.slice(0, i + 1).join("/"))}>{part}</a>}
        </>
      ))}
    </nav>
  );
}
