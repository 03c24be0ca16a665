// A Worker around our Xet codecs: a test outside workerd asks it what they make of bytes that another program wrote.
import { chunkHash } from "../../src/formats/xet/blake3";
import { ChunkSplitter } from "../../src/formats/xet/chunker";
import { xetHashOf } from "../../src/formats/xet/hash";
import { fileHash, MerkleBuilder, rangeHash } from "../../src/formats/xet/merkle";
import { readShard, sameChunks } from "../../src/formats/xet/shard";
import { ChunkDecoder, XorbEncoder, XorbIndex, XorbVerifier } from "../../src/formats/xet/xorb";
import { encodeXorbFooter } from "../../src/formats/xet/xorb-footer";
import { parseXetHash } from "../../src/ids";
import { ResumableSha256 } from "../../src/streams/resumable-sha256";

const PIECE_BYTES = 100_000;

function* piecesOf(bytes: Uint8Array): Generator<Uint8Array, void, void> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

/** A file's hashes and its chunks. */
function inspectFile(bytes: Uint8Array) {
  const splitter = new ChunkSplitter();
  const sha256 = ResumableSha256.start();
  const tree = new MerkleBuilder();
  const chunks: [hash: string, length: number][] = [];
  const add = (chunk: Uint8Array): void => {
    const hash = chunkHash(chunk);
    tree.add(hash, chunk.length);
    chunks.push([xetHashOf(hash), chunk.length]);
  };
  for (const piece of piecesOf(bytes)) {
    sha256.update(piece);
    for (const chunk of splitter.push(piece)) add(chunk);
  }
  const last = splitter.finish();
  if (last !== undefined) add(last);
  return { hash: xetHashOf(fileHash(tree.root())), sha256: sha256.digest(), chunks };
}

function verifyXorb(bytes: Uint8Array, hash: string): { index: XorbIndex; footerAt: number | undefined } {
  const verifier = new XorbVerifier();
  for (const piece of piecesOf(bytes)) verifier.push(piece);
  return { index: verifier.finish(parseXetHash(hash, "hash")), footerAt: verifier.footerAt };
}

/** The same xorb, packed by us, with a footer. */
function repackXorb(bytes: Uint8Array, hash: string): Uint8Array[] {
  const { index } = verifyXorb(bytes, hash);
  const encoder = new XorbEncoder();
  const parts: Uint8Array[] = [];
  for (let chunk = 0; chunk < index.count; chunk++) {
    const { start, end } = index.packedRange(chunk, chunk + 1);
    const decoder = new ChunkDecoder();
    for (const unpacked of decoder.push(bytes.subarray(start, end))) parts.push(...encoder.add(unpacked));
    decoder.finish();
  }
  const built = encoder.finish();
  return [...parts, encodeXorbFooter(built.hash, built.index)];
}

/** What a shard says, each range hash and each list of chunks compared with the xorbs' indexes (base64 by hash). */
async function inspectShard(bytes: Uint8Array, indexes: Record<string, string>) {
  const index = (hash: string): XorbIndex => XorbIndex.decode(Uint8Array.fromBase64(indexes[hash] ?? ""));
  const left = [...piecesOf(bytes)];
  const files = [];
  const xorbs = [];
  for await (const entry of readShard(async () => left.shift())) {
    if (entry.kind === "xorb") xorbs.push({ hash: entry.hash, same: sameChunks(entry.chunks, index(entry.hash)) });
    else {
      const tree = new MerkleBuilder();
      let proven = true;
      for (let at = 0; at < entry.terms.count; at++) {
        const { xorb, start, end, length, rangeHash: claimed } = entry.terms.at(at);
        const known = index(xorb);
        proven &&= known.lengthOf(start, end) === length;
        proven &&= claimed !== null && xetHashOf(claimed) === xetHashOf(rangeHash(known.hashesOf(start, end)));
        for (let chunk = start; chunk < end; chunk++) tree.add(known.hashAt(chunk), known.lengthOf(chunk, chunk + 1));
      }
      const { hash, sha256 } = entry;
      files.push({ hash, sha256, proven, rebuilt: xetHashOf(fileHash(tree.root())) });
    }
  }
  return { files, xorbs };
}

export default {
  async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const bytes = new Uint8Array(await request.arrayBuffer());
    const hash = searchParams.get("hash") ?? "";
    if (pathname === "/file") return Response.json(inspectFile(bytes));
    if (pathname === "/repack") return new Response(new Blob(repackXorb(bytes, hash)));
    if (pathname === "/shard") {
      const indexes: Record<string, string> = JSON.parse(searchParams.get("indexes") ?? "{}");
      return Response.json(await inspectShard(bytes, indexes));
    }
    const { index, footerAt } = verifyXorb(bytes, hash);
    const chunks = Array.from({ length: index.count }, (_, chunk) => xetHashOf(index.hashAt(chunk)));
    const schemes = Array.from(
      { length: index.count },
      (_, chunk) => bytes[index.packedRange(chunk, chunk + 1).start + 4],
    );
    return Response.json({ footerAt, packedSize: index.packedSize, chunks, schemes, index: index.encode().toBase64() });
  },
};
