// Commands to copy: one selection takes the whole of one.
import type { RepoLink } from "../../hub/overview";
import { isFullCommitId } from "../../ids";
import { cardAddress, resolveAddress } from "./address";

export function Snippet({ title, text }: { readonly title: string; readonly text: string }) {
  return (
    <section class="snippet">
      <h3>{title}</h3>
      <pre tabindex={0}>
        <code class="pick">{text}</code>
      </pre>
    </section>
  );
}

/** Asks for a job, one field a line. */
export const jobCommand = (origin: string, request: object): string =>
  `curl ${origin}/api/v1/jobs \\\n  -H "Authorization: Bearer $HF_TOKEN" \\\n  --json '${JSON.stringify(request, null, 2).replaceAll("\n", "\n  ")}'`;

export type UseItProps = {
  readonly repo: RepoLink;
  readonly revision: string;
  readonly origin: string;
  /** A file of the repository, for the commands that fetch one. */
  readonly file: string;
  readonly needsToken: boolean;
};

const LIBRARIES = [
  ["hf", cliText],
  ["Python", pythonText],
  ["JavaScript", javaScriptText],
  ["git", gitText],
  ["curl", curlText],
] as const;

export function UseIt(props: UseItProps) {
  return (
    <section aria-labelledby="use-it">
      <h2 id="use-it">Use it</h2>
      {LIBRARIES.map(([name, textOf], i) => (
        <details class="use" name="use" open={i === 0}>
          <summary>{name}</summary>
          <pre tabindex={0}>
            <code class="pick">{textOf(props)}</code>
          </pre>
        </details>
      ))}
      {props.needsToken ? (
        <p class="soft small">
          Not open to all: set <code>HF_TOKEN</code> to a token that may read it.
        </p>
      ) : null}
    </section>
  );
}

/** Strings in the languages of the snippets; JSON's are valid in all of them. */
const quoted = (text: string): string => JSON.stringify(text);
const isMain = (revision: string): boolean => revision === "main";

/** A word of a shell command, quoted where it has to be. */
const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

function cliText({ repo, revision, origin }: UseItProps): string {
  const type = repo.type === "dataset" ? " --repo-type dataset" : "";
  const at = isMain(revision) ? "" : ` --revision ${shellWord(revision)}`;
  return `HF_ENDPOINT=${origin} \\\n  hf download ${repo.name}${type}${at}`;
}

function pythonText({ repo, revision, origin }: UseItProps): string {
  const type = repo.type === "dataset" ? `\n    repo_type="dataset",` : "";
  const at = isMain(revision) ? "" : `\n    revision=${quoted(revision)},`;
  return `from huggingface_hub import snapshot_download\n\nfolder = snapshot_download(\n    ${quoted(repo.name)},${type}${at}\n    endpoint=${quoted(origin)},\n)`;
}

function javaScriptText({ repo, revision, origin, file }: UseItProps): string {
  const at = isMain(revision) ? "" : `\n  revision: ${quoted(revision)},`;
  return `import { downloadFile } from "@huggingface/hub";\n\nconst blob = await downloadFile({\n  repo: { type: ${quoted(repo.type)}, name: ${quoted(repo.name)} },\n  path: ${quoted(file)},${at}\n  hubUrl: ${quoted(origin)},\n});`;
}

function gitText({ repo, revision, origin }: UseItProps): string {
  const clone = `git clone ${origin}${cardAddress(repo)}`;
  if (isMain(revision)) return clone;
  // A clone begins at a branch or tag, never at a commit.
  const folder = repo.name.split("/")[1] ?? "";
  return isFullCommitId(revision)
    ? `${clone}\ngit -C ${folder} checkout ${revision}`
    : `${clone} \\\n  --branch ${shellWord(revision)}`;
}

function curlText({ repo, revision, origin, file, needsToken }: UseItProps): string {
  const token = needsToken ? ` -H "Authorization: Bearer $HF_TOKEN"` : "";
  return `curl -LO${token} \\\n  ${shellWord(origin + resolveAddress(repo, revision, file))}`;
}
