// Bundled and run by bench/xet-memory.ts: writes a xorb of tiny chunks, and a shard of files that name each chunk of it in a term.
import { writeFileSync } from "node:fs";
import { buildXorb, encodeShard, fileOf, randomBytes, xorbSpec } from "../../test/kit/xet.ts";

const CHUNK_BYTES = 64;
const CHUNKS = 8000;

const [folder, files] = process.argv.slice(2);
const xorb = buildXorb(
  Array.from({ length: CHUNKS }, (_, i) => randomBytes(i, CHUNK_BYTES)),
  true,
);
// Every file begins elsewhere, so that no two are alike.
const made = Array.from({ length: Number(files) }, (_, first) =>
  fileOf(
    Array.from({ length: CHUNKS }, (_, i) => {
      const at = (first + i) % CHUNKS;
      return [xorb, at, at + 1];
    }),
  ),
);
writeFileSync(`${folder}/xorb`, xorb.body);
writeFileSync(`${folder}/shard`, encodeShard({ files: made, xorbs: [xorbSpec(xorb)] }));
process.stdout.write(xorb.hash);
