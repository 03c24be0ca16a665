// Model cards: Markdown that starts with YAML between two lines of three dashes.
import { FormatError } from "../format-error";

/** The largest cards in use carry some hundred kilobytes of benchmark results. */
export const MAX_FRONT_MATTER_LENGTH = 1_000_000;

export type FrontMatter = {
  /** Undefined when the text has no front matter; empty when it has an empty one. */
  readonly yaml: string | undefined;
  readonly body: string;
  /** The line of the text on which the YAML begins, from 1. */
  readonly firstLine: number;
};

const FENCE = /^---[ \t]*\r?$/;

/** Splits the text; the YAML itself is not looked at. An opening line that nothing closes is a thematic break, not an error. */
export function splitFrontMatter(text: string): FrontMatter {
  const start = /^\s*/.exec(text)?.[0].length ?? 0;
  const firstEnd = text.indexOf("\n", start);
  if (firstEnd === -1 || !FENCE.test(text.slice(start, firstEnd))) return { yaml: undefined, body: text, firstLine: 1 };
  const yamlStart = firstEnd + 1;
  for (let at = yamlStart; at <= text.length; ) {
    const newline = text.indexOf("\n", at);
    const end = newline === -1 ? text.length : newline;
    // Only a line that can be a fence is cut out and tested.
    if (text.startsWith("---", at) && FENCE.test(text.slice(at, end))) {
      if (at - yamlStart > MAX_FRONT_MATTER_LENGTH)
        throw new FormatError(
          "card.front_matter_too_long",
          `has more than ${MAX_FRONT_MATTER_LENGTH} characters of front matter`,
        );
      const firstLine = text.slice(0, yamlStart).split("\n").length;
      return { yaml: text.slice(yamlStart, at), body: text.slice(end + 1), firstLine };
    }
    at = end + 1;
  }
  return { yaml: undefined, body: text, firstLine: 1 };
}
