// Which files travel as LFS and which are ignored: `.gitattributes`, `.gitignore` and a look at the first bytes.
import { lastMatch, type PatternRule, parsePatterns } from "../formats/git/patterns";

const LFS = "filter=lfs diff=lfs merge=lfs -text";

/** What a new repository tracks as LFS: the file types that hold weights, arrays, archives and media. */
const LFS_PATTERNS =
  "*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gguf *.gz *.h5 *.joblib *.keras *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz *.wasm *.xz *.zip *.zst *tfevents* *.jpg *.jpeg *.png *.gif *.webp *.mp3 *.mp4 *.wav *.flac *.pdf";

export const DEFAULT_ATTRIBUTES = `${LFS_PATTERNS.split(" ")
  .map((pattern) => `${pattern} ${LFS}`)
  .join("\n")}\n`;

/** Text up to this size may stay in git. Bytes. */
export const MAX_REGULAR_BYTES = 10 * 1024 * 1024;

export type Attributes = readonly { readonly rule: PatternRule; readonly lfs: boolean }[];

export function parseAttributes(text: string): Attributes {
  return text.split(/\r?\n/).flatMap((line) => {
    const [pattern, ...settings] = line.trim().split(/\s+/);
    if (pattern === undefined || pattern === "" || pattern.startsWith("#")) return [];
    const filter = settings.findLast((one) => /^[-!]?filter\b/.test(one));
    return filter === undefined ? [] : parsePatterns(pattern).map((rule) => ({ rule, lfs: filter === "filter=lfs" }));
  });
}

export function isLfsTracked(attributes: Attributes, path: string): boolean {
  return attributes.findLast(({ rule }) => rule.matches(path))?.lfs ?? false;
}

/** How a client should send a file, given its size in bytes and its first bytes. */
export function uploadMode(attributes: Attributes, path: string, size: number, sample: Uint8Array): "lfs" | "regular" {
  if (size === 0) return "regular";
  return isLfsTracked(attributes, path) || size > MAX_REGULAR_BYTES || isBinary(sample, size) ? "lfs" : "regular";
}

/** `sample`: the first bytes of a file of `size` bytes. */
export function isBinary(sample: Uint8Array, size: number): boolean {
  if (sample.includes(0)) return true;
  try {
    // A sample that is not the whole file may end inside a character: `stream` lets the last one be incomplete.
    new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(sample, { stream: sample.length < size });
    return false;
  } catch {
    return true;
  }
}

export const isIgnored = (rules: readonly PatternRule[], path: string): boolean => lastMatch(rules, path);

/** The attributes text with a line for each of these LFS files that no pattern covers; null when nothing is to add. */
export function withTracked(text: string, paths: readonly string[]): string | null {
  const attributes = parseAttributes(text);
  const untracked = paths.filter((path) => !isLfsTracked(attributes, path));
  if (untracked.length === 0) return null;
  const start = text === "" || text.endsWith("\n") ? text : `${text}\n`;
  return `${start}${untracked.map((path) => `${escapePattern(path)} ${LFS}\n`).join("")}`;
}

/** A path as a pattern that matches just it: wildcards escaped, white space as git's attributes files need it. */
const escapePattern = (path: string): string => `/${path.replace(/[\\*?[]/g, "\\$&").replace(/\s/g, "[[:space:]]")}`;
