// The committed WebAssembly modules are the pinned package's own, byte for byte.
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { MODULES, packagedModule } from "../../cli/wasm";

test.each(MODULES)("$path is hash-wasm's $name", ({ name, path: file }) => {
  const committed = readFileSync(path.join(import.meta.dirname, "../..", file));
  expect(committed.equals(packagedModule(name))).toBe(true);
});
