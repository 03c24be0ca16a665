// Takes the two WebAssembly modules that the Worker hashes with out of the pinned package `hash-wasm` (MIT, (c) Dani Biro):
// workerd runs only modules that are part of the bundle, and the package carries them as text.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const ROOT = join(import.meta.dirname, "..");

/** Where each module of the package is kept here. */
export const MODULES = [
  { name: "blake3", path: "src/formats/xet/blake3.wasm" },
  { name: "sha256", path: "src/streams/sha256.wasm" },
] as const;

/** The bytes of a module as the installed package carries them. */
export function packagedModule(name: string): Buffer {
  const text = readFileSync(join(ROOT, "node_modules", "hash-wasm", "dist", `${name}.umd.min.js`), "utf8");
  const base64 = new RegExp(`name:"${name}",data:"([A-Za-z0-9+/=]+)"`).exec(text)?.[1];
  if (base64 === undefined) throw new Error(`hash-wasm holds no module named ${name}`);
  return Buffer.from(base64, "base64");
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  for (const { name, path } of MODULES) writeFileSync(join(ROOT, path), packagedModule(name));
