// The Python half of the set-up: gpu-service/.venv with the packages of gpu-service/requirements-dev.txt.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CliError } from "../cli-error.mjs";
import { runLogged } from "./command.mjs";
import { megabytes } from "./progress.mjs";

const OLDEST_PYTHON_MINOR = 11;
const CANDIDATES = ["python3", "python3.14", "python3.13", "python3.12", "python3.11"];

/** @param {string} root */
function places(root) {
  const service = join(root, "gpu-service");
  const venv = join(service, ".venv");
  return {
    service,
    venv,
    python: join(venv, "bin", "python"),
    stamp: join(venv, "installed.json"),
    // Present while an installation is under way: what it leaves behind when it is cut off is not to be built upon.
    unfinished: join(root, ".cache", "setup", "python-unfinished"),
    downloads: join(venv, "downloads"),
  };
}

/** @param {string} service */
function requirementsDigest(service) {
  const hash = createHash("sha256");
  for (const name of readdirSync(service).sort()) {
    if (/^requirements.*\.txt$/.test(name)) hash.update(`${name}\n`).update(readFileSync(join(service, name)));
  }
  return hash.digest("hex");
}

/**
 * The version the environment was made with, read from its own record: starting Python would take longer than all else.
 * @param {string} venv
 */
function environmentVersion(venv) {
  try {
    return /^version\s*=\s*(\S+)/m.exec(readFileSync(join(venv, "pyvenv.cfg"), "utf8"))?.[1];
  } catch {
    return undefined;
  }
}

/** @param {string} root */
function expectedStamp(root) {
  const { service, venv } = places(root);
  return `${JSON.stringify({ python: environmentVersion(venv), requirements: requirementsDigest(service) })}\n`;
}

/** @param {string} root */
export function pythonPackagesMissing(root) {
  const { python, stamp, unfinished } = places(root);
  if (!existsSync(python) || !existsSync(stamp) || existsSync(unfinished)) return true;
  return readFileSync(stamp, "utf8") !== expectedStamp(root);
}

/**
 * @param {string} program
 * @param {string} code
 */
function ask(program, code) {
  try {
    return execFileSync(program, ["-c", code], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return undefined;
  }
}

function findPython() {
  /** @type {string[]} */
  const found = [];
  let newEnough = "";
  for (const program of CANDIDATES) {
    const version = ask(program, "import sys; print('%d.%d.%d' % sys.version_info[:3])");
    if (version === undefined) continue;
    found.push(`${program} is ${version}`);
    const [major = 0, minor = 0] = version.split(".").map(Number);
    if (major !== 3 || minor < OLDEST_PYTHON_MINOR) continue;
    newEnough ||= `3.${minor}`;
    if (ask(program, "import ensurepip, venv") !== undefined) return program;
  }
  if (newEnough !== "") {
    throw new CliError(
      `Python ${newEnough} is here, but without the module that makes virtual environments.`,
      `apt install python3-venv   (or python${newEnough}-venv; other systems: install the complete Python package)`,
    );
  }
  throw new CliError(
    `Python 3.${OLDEST_PYTHON_MINOR} or newer is needed; ${found.length === 0 ? "no python3 was found" : `found only: ${found.join(", ")}`}.`,
    "apt install python3 python3-venv   (or install Python from https://www.python.org)",
  );
}

/** @param {string} folder @returns {number} */
function folderBytes(folder) {
  let bytes = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    try {
      bytes += entry.isDirectory() ? folderBytes(path) : statSync(path).size;
    } catch {
      // pip removed it between the listing and the look: it counts for nothing.
    }
  }
  return bytes;
}

/** @param {string} venv */
function installedCount(venv) {
  const lib = join(venv, "lib");
  const [version] = existsSync(lib) ? readdirSync(lib) : [];
  if (version === undefined) return 0;
  return readdirSync(join(lib, version, "site-packages")).filter((name) => name.endsWith(".dist-info")).length;
}

/**
 * Follows pip's lines: which package it is at, and from the files themselves how far.
 * @param {string} venv
 * @param {string} downloads
 */
function pipWatcher(venv, downloads) {
  let at = "starting";
  let toInstall = 0;
  let before = 0;
  return {
    /** @param {string} line */
    onLine(line) {
      const collecting = /^Collecting (\S+)/.exec(line);
      const downloading = /^\s*Downloading (?:\S*\/)?([^\s/]+\.(?:whl|tar\.gz)) \(([^)]+)\)/.exec(line);
      const installing = /^Installing collected packages: (.*)/.exec(line);
      if (downloading !== null) at = `downloading ${downloading[1]} (${downloading[2]})`;
      else if (collecting !== null) at = `looking for ${collecting[1]}`;
      else if (installing !== null) {
        toInstall = (installing[1] ?? "").split(", ").length;
        before = installedCount(venv);
      }
    },
    detail() {
      if (toInstall > 0) return `installing, ${Math.max(0, installedCount(venv) - before)} of ${toInstall}`;
      return `${at}, ${megabytes(folderBytes(downloads))} so far`;
    },
  };
}

/**
 * @param {string} root
 * @param {import("./progress.mjs").Progress} progress
 * @param {(installer: number) => void} remember
 */
export async function installPythonPackages(root, progress, remember) {
  const { service, venv, python, stamp, unfinished, downloads } = places(root);
  const logs = join(root, ".cache", "setup");
  mkdirSync(logs, { recursive: true });
  if (!existsSync(python) || existsSync(unfinished)) {
    const base = findPython();
    writeFileSync(unfinished, "");
    progress.start("Python environment");
    await runLogged({
      program: base,
      args: ["-m", "venv", "--clear", venv],
      cwd: service,
      env: process.env,
      log: join(logs, "venv.log"),
      remember,
      fix: "apt install python3-venv, or see the lines above; then run the same command again.",
    });
    progress.done(`made with Python ${environmentVersion(venv)}`);
  }
  rmSync(stamp, { force: true });
  writeFileSync(unfinished, "");
  mkdirSync(downloads, { recursive: true });
  const watcher = pipWatcher(venv, downloads);
  progress.start("Python packages", watcher.detail);
  await runLogged({
    program: python,
    args: [
      "-m",
      "pip",
      "install",
      "--no-input",
      "--disable-pip-version-check",
      "--progress-bar",
      "off",
      "-r",
      "requirements-dev.txt",
    ],
    cwd: service,
    // pip downloads into TMPDIR: here the bytes can be watched, and a small /tmp cannot run full with the GPU build's gigabytes.
    env: { ...process.env, TMPDIR: downloads, PYTHONUNBUFFERED: "1" },
    log: join(logs, "pip.log"),
    onLine: watcher.onLine,
    remember,
    fix: "Check the network, the free disk space and pip's settings (`python3 -m pip config list`), then run the same command again.",
  });
  rmSync(downloads, { recursive: true, force: true });
  rmSync(unfinished);
  writeFileSync(stamp, expectedStamp(root));
  progress.done(`${installedCount(venv)} installed`);
}
