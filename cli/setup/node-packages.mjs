// The Node half of the set-up: `npm ci` whenever node_modules is not what package-lock.json says.
import { existsSync, readFileSync } from "node:fs";
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
  return [...installed.keys()].some((path) => !wanted.has(path));
}

/**
 * @param {string} root
 * @param {import("./progress.mjs").Progress} progress
 */
export async function installNodePackages(root, progress) {
  const wanted = [...lockedPackages(join(root, "package-lock.json"))].flatMap(([path, { optional }]) =>
    optional === true ? [] : [path],
  );
  progress.start("Node packages", () => {
    const present = wanted.filter((path) => existsSync(join(root, path, "package.json"))).length;
    return `${present} of ${wanted.length}`;
  });
  // npm itself must not run on the node in node_modules, which `npm ci` is about to delete.
  const ownBin = join(root, "node_modules", ".bin");
  const path = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== ownBin);
  await runLogged({
    program: "npm",
    args: ["ci", "--no-audit", "--no-fund", "--loglevel=error"],
    cwd: root,
    env: { ...process.env, PATH: path.join(delimiter) },
    log: join(root, ".cache", "setup", "npm.log"),
    fix: "Check the network and npm's registry setting (`npm config get registry`), then run the same command again.",
  });
  progress.done(`${wanted.length} installed`);
}
