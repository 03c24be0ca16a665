// The Node half of the set-up: npm brings node_modules to what package-lock.json says whenever it is not.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";
import { runLogged } from "./command.mjs";

/**
 * @typedef {{ version?: string, integrity?: string, optional?: boolean }} LockedPackage
 * @param {string} path
 * @returns {Map<string, LockedPackage>}
 */
function lockedPackages(path) {
  const packages = new Map(Object.entries(JSON.parse(readFileSync(path, "utf8")).packages ?? {}));
  packages.delete("");
  return packages;
}

/**
 * npm writes node_modules/.package-lock.json as its last act, so an interrupted installation is seen too. Optional
 * packages are the ones for other platforms and may be absent.
 * @param {string} root
 */
export function nodePackagesMissing(root) {
  const installedPath = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(installedPath) || !existsSync(join(root, "node_modules", ".bin", "node"))) return true;
  const wanted = lockedPackages(join(root, "package-lock.json"));
  const installed = lockedPackages(installedPath);
  for (const [path, { version, integrity, optional }] of wanted) {
    const present = installed.get(path);
    if (present === undefined && optional === true) continue;
    if (present?.version !== version || present?.integrity !== integrity) return true;
  }
  return false;
}

/**
 * @param {string} root
 * @param {import("./progress.mjs").Progress} progress
 * @param {(installer: number) => void} remember
 */
export async function installNodePackages(root, progress, remember) {
  const wanted = [...lockedPackages(join(root, "package-lock.json"))].flatMap(([path, { optional }]) =>
    optional === true ? [] : [path],
  );
  progress.start("Node packages", () => {
    const present = wanted.filter((path) => existsSync(join(root, path, "package.json"))).length;
    return `${present} of ${wanted.length}`;
  });
  const modules = join(root, "node_modules");
  // What an interrupted installation left may hold half a package, which npm would take for a whole one.
  if (!existsSync(join(modules, ".package-lock.json"))) rmSync(modules, { recursive: true, force: true });
  // npm itself must not run on the node in node_modules, which it is about to replace.
  const path = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== join(modules, ".bin"));
  await runLogged({
    program: "npm",
    // Not `npm ci`: that refuses a registry (a mirror, say) which lacks an optional package for some other platform.
    // With --no-save the versions come from package-lock.json all the same, and neither file is written.
    args: ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"],
    cwd: root,
    env: { ...process.env, PATH: path.join(delimiter) },
    log: join(root, ".cache", "setup", "npm.log"),
    remember,
    fix: "Check the network and npm's registry setting (`npm config get registry`), then run the same command again.",
  });
  progress.done(`${wanted.length} installed`);
}
