// One file: its text where it is short text, the tensors of a weight file, and its digests always.
import { authorize } from "../../access/caller";
import { findStoredFiles, type StoredFile } from "../../hub/files";
import { readOverview } from "../../hub/overview";
import { confirmedEntry, EntryNotFound, findSnapshot, repoName, targetOf } from "../../hub/repositories";
import { readTensors, type Tensors } from "../../hub/tensors";
import type { RepoType } from "../../ids";
import { type Ctx, callerOf, repoIdOf, revisionAndFile } from "../hf/request";
import { blobAddress, linkOf, resolveAddress, treeAddress } from "./address";
import { readShownText } from "./file-text";
import { Trail } from "./files";
import { answer } from "./layout";
import { RepoFrame, RevisionMenu } from "./repo-frame";
import { byteSize, shortCount, wholeNumber } from "./wording";

/** Bytes of a safetensors header that a page reads. */
const MAX_HEADER_BYTES = 8_000_000;
const MAX_TENSOR_ROWS = 1000;
/** Files with more lines are shown without numbers, which cost a table row each. */
const MAX_NUMBERED_LINES = 3000;

export async function blob(c: Ctx, type: RepoType): Promise<Response> {
  const caller = callerOf(c);
  const { platform } = caller;
  const { revision, path } = revisionAndFile(c);
  const { snapshot, overview, file } = await confirmedEntry(caller, revision, async () => {
    const found = await findSnapshot(caller, repoIdOf(c, type), revision);
    authorize(caller, { action: "repo.use", repo: found.repo, purpose: "download" }, targetOf(found.repo));
    const [seen, [stored = null]] = await Promise.all([
      readOverview(caller, found),
      findStoredFiles(platform.db, [{ snapshot: found, path }]),
    ]);
    if (stored === null) throw new EntryNotFound(found, path);
    return { snapshot: found, overview: seen, file: stored };
  });
  const { repo } = snapshot;
  const link = linkOf(repo);
  const isWeights = path.endsWith(".safetensors");
  const [text, tensors] = await Promise.all([
    isWeights ? null : readShownText(platform, file),
    isWeights ? readTensors(platform, file, MAX_HEADER_BYTES) : null,
  ]);
  const name = path.slice(path.lastIndexOf("/") + 1);
  return answer(c, {
    title: `${name} · ${repoName(repo)}`,
    children: (
      <RepoFrame repo={repo} revision={revision} tab="files">
        <div class="bar">
          <Trail path={path} root={repo.name} to={(part) => treeAddress(link, revision, part)} />
          <RevisionMenu overview={overview} revision={revision} to={(other) => blobAddress(link, other, path)} />
        </div>
        <p class="bar">
          <span class="soft">{byteSize(file.size)}</span>
          <a href={resolveAddress(link, revision, path)} download={name}>
            Download
          </a>
        </p>
        {text === null ? null : <Text text={text} />}
        {tensors === null ? null : <TensorTable tensors={tensors} />}
        <Digests file={file} />
      </RepoFrame>
    ),
  });
}

function Text({ text }: { readonly text: string }) {
  const lines = text.replace(/\n$/, "").split("\n");
  return (
    <div class="box scroll" tabindex={0}>
      {lines.length > MAX_NUMBERED_LINES ? (
        <pre class="bare">{text}</pre>
      ) : (
        <table class="code">
          <tbody>
            {lines.map((line, i) => (
              <tr id={`L${i + 1}`}>
                <td>{i + 1}</td>
                <td>{line}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}

function TensorTable({ tensors }: { readonly tensors: Tensors }) {
  if (tensors.kind === "too_large") return <p>Its header is too large to be listed on a page.</p>;
  if (tensors.kind === "invalid") return <p>This is no valid safetensors file: it {tensors.problem}.</p>;
  const { header } = tensors;
  const all = [...header.tensors];
  return (
    <>
      <p>
        {wholeNumber(all.length)} tensors with {shortCount(header.parameters)} parameters.
      </p>
      <div class="box scroll" tabindex={0}>
        <table>
          <thead>
            <tr>
              <th scope="col">Tensor</th>
              <th scope="col">Type</th>
              <th scope="col">Shape</th>
              <th scope="col" class="num">
                Bytes
              </th>
            </tr>
          </thead>
          <tbody>
            {all.slice(0, MAX_TENSOR_ROWS).map(([name, { dtype, shape, begin, end }]) => (
              <tr>
                <th scope="row" class="mono">
                  {name}
                </th>
                <td>{dtype}</td>
                <td class="nowrap">{shape.length === 0 ? "scalar" : shape.join(" × ")}</td>
                <td class="num">{wholeNumber(end - begin)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {all.length > MAX_TENSOR_ROWS ? (
        <p class="soft small">The first {wholeNumber(MAX_TENSOR_ROWS)} are listed.</p>
      ) : null}
    </>
  );
}

function Digests({ file }: { readonly file: StoredFile }) {
  return (
    <dl class="facts small">
      <dt>SHA-256</dt>
      <dd class="mono pick">{file.sha256}</dd>
      <dt>Git blob{file.lfs ? " (of the pointer)" : ""}</dt>
      <dd class="mono pick">{file.id}</dd>
      <dt>Size</dt>
      <dd>{wholeNumber(file.size)} bytes</dd>
      <dt>Kept as</dt>
      <dd>{file.lfs ? "large file (LFS)" : "regular file"}</dd>
    </dl>
  );
}
