// The pattern language of `.gitignore` and `.gitattributes` (gitignore(5), wildmatch).

export type PatternRule = { readonly negated: boolean; readonly matches: (path: string) => boolean };

/** Rules of a patterns file; comments and blank lines are skipped. A pattern of over 500 characters is no pattern. */
export function parsePatterns(text: string): PatternRule[] {
  return text.split(/\r?\n/).flatMap((line) => {
    const trimmed = line.replace(/(?<!\\)\s+$/, "");
    if (trimmed === "" || trimmed.startsWith("#") || trimmed.length > 500) return [];
    const negated = trimmed.startsWith("!");
    return [{ negated, matches: compile(negated ? trimmed.slice(1) : trimmed.replace(/^\\(?=[!#])/, "")) }];
  });
}

/** Whether the last rule that matches the path, or a directory above it, says yes. */
export function lastMatch(rules: readonly PatternRule[], path: string): boolean {
  const parts = path.split("/");
  const prefixes = parts.map((_, i) => parts.slice(0, i + 1).join("/"));
  const decides = rules.findLast((rule) => prefixes.some((prefix) => rule.matches(prefix)));
  return decides !== undefined && !decides.negated;
}

function compile(pattern: string): (path: string) => boolean {
  const body = pattern.replace(/\/$/, "");
  const anchored = body.includes("/");
  const tokens = tokenize(body.replace(/^\//, ""));
  return (path) => wildmatch(tokens, anchored ? path : path.slice(path.lastIndexOf("/") + 1));
}

type Token =
  | { readonly kind: "one"; readonly test: (char: string) => boolean }
  | { readonly kind: "star" | "anyDirectories" | "anything" };

const SPACE = /\s/;

function tokenize(pattern: string): Token[] {
  const tokens: Token[] = [];
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern.charAt(i);
    if (pattern.startsWith("**/", i) && (i === 0 || pattern[i - 1] === "/")) {
      tokens.push({ kind: "anyDirectories" });
      i += 2;
    } else if (pattern.slice(i) === "**" && pattern[i - 1] === "/") {
      tokens.push({ kind: "anything" });
      i++;
    } else if (char === "*") {
      if (tokens.at(-1)?.kind !== "star") tokens.push({ kind: "star" });
    } else if (char === "?") tokens.push({ kind: "one", test: (one) => one !== "/" });
    else if (char === "[" && pattern.indexOf("]", i + 2) > 0) {
      const end = pattern.startsWith("[[:space:]]", i) ? i + 10 : pattern.indexOf("]", i + 2);
      const set = pattern.slice(i + 1, end);
      tokens.push({ kind: "one", test: set === "[:space:]" ? (one) => SPACE.test(one) : inSet(set) });
      i = end;
    } else {
      const literal = char === "\\" && i + 1 < pattern.length ? pattern.charAt(++i) : char;
      tokens.push({ kind: "one", test: (one) => one === literal });
    }
  }
  return tokens;
}

function inSet(set: string): (char: string) => boolean {
  const negated = /^[!^]/.test(set);
  const body = negated ? set.slice(1) : set;
  const ranges: [string, string][] = [];
  for (let i = 0; i < body.length; i++) {
    const from = body.charAt(i);
    if (body[i + 1] === "-" && i + 2 < body.length) {
      ranges.push([from, body.charAt(i + 2)]);
      i += 2;
    } else ranges.push([from, from]);
  }
  return (char) => char !== "/" && ranges.some(([from, to]) => char >= from && char <= to) !== negated;
}

/** Reachable token positions, advanced character by character: linear in pattern × text, whatever the pattern. */
function wildmatch(tokens: readonly Token[], text: string): boolean {
  let positions = skipEmpty(tokens, new Set([0]), true);
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i);
    const next = new Set<number>();
    for (const position of positions) {
      const token = tokens[position];
      if (token === undefined) continue;
      if (token.kind === "one") {
        if (token.test(char)) next.add(position + 1);
      } else if (token.kind === "anything" || token.kind === "anyDirectories" || char !== "/") next.add(position);
    }
    positions = skipEmpty(tokens, next, char === "/");
    if (positions.size === 0) return false;
  }
  return positions.has(tokens.length);
}

/** Stars may match nothing; directories may match none where a path segment begins. */
function skipEmpty(tokens: readonly Token[], positions: Set<number>, atSegmentStart: boolean): Set<number> {
  for (const position of positions) {
    const kind = tokens[position]?.kind;
    if (kind === "star" || kind === "anything" || (kind === "anyDirectories" && atSegmentStart))
      positions.add(position + 1);
  }
  return positions;
}
