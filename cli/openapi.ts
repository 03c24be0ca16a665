// Writes docs/openapi.json, the document of the hub's own API, from the routes themselves.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = path.join(import.meta.dirname, "..");
const folder = await mkdtemp(path.join(tmpdir(), "owm-openapi-"));
const bundle = path.join(folder, "document.mjs");
try {
  // Bundled first: the edge's modules import each other without extensions, which Node does not resolve.
  await build({
    stdin: {
      contents: `import { document, v1 } from "./src/surfaces/v1"; export default v1.getOpenAPI31Document(document);`,
      resolveDir: root,
      loader: "ts",
    },
    bundle: true,
    format: "esm",
    platform: "node",
    // Packages written for CommonJS ask for Node's own modules by `require`.
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    // The document needs no codec to run.
    loader: { ".wasm": "empty" },
    outfile: bundle,
  });
  const module: { default: unknown } = await import(pathToFileURL(bundle).href);
  await writeFile(path.join(root, "docs/openapi.json"), `${JSON.stringify(module.default, null, 2)}\n`);
} finally {
  await rm(folder, { recursive: true });
}
