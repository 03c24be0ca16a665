// The rules a file path in a repository obeys, so that it can be checked out on any file system and shown without disguise.
import { FormatError } from "./format-error";
import { encodeUtf8, isBidiControl, isControl, quote } from "./text";

export const MAX_PATH_BYTES = 1024;
export const MAX_SEGMENT_BYTES = 255;
export const MAX_PATH_LEVELS = 32;

const WINDOWS_DEVICE = /^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])$/;
/** Code points that HFS+ ignores when it compares names, so `.g<U+200C>it` would open `.git`. */
const IGNORED_BY_HFS = /[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]/g;

function reject(rule: string, problem: string, fix: string): never {
  throw new FormatError(`path.${rule}`, problem, { field: "path", fix });
}

/** True for every spelling that some file system takes for git's own directory. */
function isGitDirectory(segment: string): boolean {
  const name = segment.replace(IGNORED_BY_HFS, "").toLowerCase();
  const stem = name.split(":")[0]?.replace(/[. ]+$/, "");
  return stem === ".git" || stem === "git~1";
}

function isWindowsDevice(segment: string): boolean {
  return WINDOWS_DEVICE.test((segment.split(/[.:]/)[0] ?? "").trimEnd().toLowerCase());
}

function checkCharacters(path: string): void {
  if (!path.isWellFormed()) reject("encoding", "holds half of a surrogate pair", "send valid Unicode");
  for (const character of path) {
    const codePoint = character.codePointAt(0) ?? 0;
    if (isControl(codePoint)) reject("control", "holds a control character", "remove it");
    if (isBidiControl(codePoint)) reject("bidi", "holds a character that changes the reading direction", "remove it");
    if (character === "\\") reject("backslash", "holds a backslash", "separate folders with /");
  }
}

function checkSegment(segment: string): void {
  if (segment === "") reject("segment", "has an empty segment", "write single slashes, none at the end");
  if (segment === "." || segment === "..")
    reject("segment", `has the segment ${segment}`, "write the path from the root of the repository");
  const bytes = encodeUtf8(segment).length;
  if (bytes > MAX_SEGMENT_BYTES)
    reject(
      "segment_too_long",
      `has a segment of ${bytes} bytes (${quote(segment, 40)})`,
      `use at most ${MAX_SEGMENT_BYTES}`,
    );
  // Before the trailing-dot rule: git itself refuses these names, whatever they end in.
  if (isGitDirectory(segment))
    reject("git", `has the segment ${quote(segment)}, which git keeps for itself`, "rename it");
  if (/[. ]$/.test(segment))
    reject("trailing", `has the segment ${quote(segment)}, which ends in a dot or a space`, "rename it");
  if (isWindowsDevice(segment))
    reject("reserved", `has the segment ${quote(segment)}, a device name on Windows`, "rename it");
}

/** Throws a FormatError `path.…` unless the path is one that a commit may write. */
export function checkFilePath(path: string): void {
  if (path === "") reject("empty", "is empty", "name a file");
  // UTF-8 is never shorter than UTF-16 counts: this bounds the work before anything walks the text.
  const bytes = path.length > MAX_PATH_BYTES ? path.length : encodeUtf8(path).length;
  if (bytes > MAX_PATH_BYTES) reject("too_long", `has more than ${MAX_PATH_BYTES} bytes`, "shorten it");
  checkCharacters(path);
  if (path.startsWith("/"))
    reject("absolute", "is absolute", "write it from the root of the repository, without a leading /");
  if (/^[A-Za-z]:/.test(path))
    reject("absolute", "starts with a drive letter", "write it from the root of the repository");
  if (path !== path.normalize("NFC"))
    reject("normal_form", "is not in Unicode normal form C", "normalise it (NFC), as most systems do on their own");
  const segments = path.split("/");
  if (segments.length > MAX_PATH_LEVELS)
    reject("too_deep", `has ${segments.length} levels`, `use at most ${MAX_PATH_LEVELS}`);
  for (const segment of segments) checkSegment(segment);
}

/** Two paths with one key would be one file on a case-insensitive or normalising file system. */
export const pathKey = (path: string): string => path.normalize("NFC").toUpperCase().toLowerCase().normalize("NFC");

/** Throws `path.clash` when two files of one commit could not both be checked out: `A` and `a`, or `x` and `x/y`. */
export function checkPathSet(paths: Iterable<string>): void {
  const files = new Map<string, string>();
  for (const path of paths) {
    const key = pathKey(path);
    const other = files.get(key);
    if (other !== undefined)
      reject(
        "clash",
        `${quote(path)} and ${quote(other)} are one file where case does not count`,
        "rename one of them",
      );
    files.set(key, path);
  }
  for (const [key, path] of files) {
    for (let slash = key.indexOf("/"); slash !== -1; slash = key.indexOf("/", slash + 1)) {
      const file = files.get(key.slice(0, slash));
      if (file !== undefined)
        reject("clash", `${quote(file)} is a file, and a folder in ${quote(path)}`, "rename one of them");
    }
  }
}
