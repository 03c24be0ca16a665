// Builds the style sheet and the island into the module that the Worker imports: `node web/build.mjs`.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const WEB = import.meta.dirname;
export const OUTPUT = join(WEB, "../src/surfaces/pages/assets.generated.ts");

/** @param {string} file */
async function built(file) {
  const { outputFiles } = await build({
    entryPoints: [join(WEB, file)],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2023",
    charset: "utf8",
    legalComments: "none",
  });
  const text = outputFiles[0]?.text.trim() ?? "";
  return { text, digest: createHash("sha256").update(text).digest("hex").slice(0, 16) };
}

/** @param {string} text */
const literal = (text) => `\`${text.replace(/[\\`]|\$\{/g, "\\$&")}\``;

/**
 * @param {string} name
 * @param {{ text: string, digest: string }} asset
 */
const constant = (name, { text, digest }) =>
  `export const ${name} = {\n  digest: "${digest}",\n  text: ${literal(text)},\n};\n`;

/** The module's source: what is committed must be this. */
export async function assetsModule() {
  return [
    "// Written by web/build.mjs from web/styles.css and web/job-progress.ts: change those.\n",
    constant("STYLES", await built("styles.css")),
    constant("JOB_PROGRESS", await built("job-progress.ts")),
  ].join("\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(OUTPUT, await assetsModule());
