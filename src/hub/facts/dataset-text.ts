// What the text of a dataset's card tells: how it begins, and how to cite it.

const MAX_DESCRIPTION = 500;
const MAX_CITATION = 4000;

/** The beginning of the text, without its headings and images. */
export function descriptionOf(body: string): string | null {
  const text = body
    .slice(0, 20 * MAX_DESCRIPTION)
    .split("\n")
    .filter((line) => !/^\s*(#|!\[|<|```|\||---)/.test(line))
    .join(" ")
    .replace(/\s+/g, " ")
    .trim();
  if (text === "") return null;
  return text.length <= MAX_DESCRIPTION ? text : `${text.slice(0, MAX_DESCRIPTION).toWellFormed()}…`;
}

/** The first entry of a bibliography that stands in a block of code. */
export function citationOf(body: string): string | null {
  for (const [, block = ""] of body.matchAll(/^```[^\n]*\n([\s\S]*?)^```/gm))
    if (/^\s*@\w+\s*\{/.test(block)) return block.trim().slice(0, MAX_CITATION).toWellFormed();
  return null;
}
