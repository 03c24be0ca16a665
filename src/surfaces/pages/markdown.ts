// Cards from Markdown to HTML: raw HTML is shown as text, links stay harmless, headings and tables fit the page around them.
import MarkdownIt from "markdown-it";
import type { RepoLink } from "../../hub/overview";
import { blobAddress, resolveAddress } from "./address";

export type CardContext = { readonly repo: RepoLink; readonly revision: string; readonly origin: string };

const markdown = new MarkdownIt({ html: false, linkify: true });

export const escapeHtml = (text: string): string => markdown.utils.escapeHtml(text);

/** Ids of headings get a prefix, so that no card can take the id of a part of the page. */
const ID_PREFIX = "card-";

const slugOf = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replace(/\s+/g, "-");

/** An address inside the repository, as a path from its root; null for addresses elsewhere. */
function pathWithin(address: string): string | null {
  if (/^([a-z][a-z0-9+.-]*:|\/|#|\?)/i.test(address)) return null;
  const [path = ""] = address.split(/[?#]/);
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  try {
    return parts.map(decodeURIComponent).join("/");
  } catch {
    return null;
  }
}

/** The card's HTML. Addresses inside it are read as paths of the repository at the revision. */
export const renderCard = (text: string, context: CardContext): string => render(text, context, ID_PREFIX);

/** A comment's HTML, like a card's; its headings have no ids, as a page shows many comments. */
export const renderComment = (text: string, context: CardContext): string => render(text, context, null);

function render(text: string, { repo, revision, origin }: CardContext, idPrefix: string | null): string {
  const tokens = markdown.parse(text, {});
  const slugs = new Map<string, number>();
  for (const [i, token] of tokens.entries()) {
    if (token.type === "heading_open" || token.type === "heading_close")
      // The page's own title is the only h1.
      token.tag = `h${Math.min(6, Number(token.tag.slice(1)) + 1)}`;
    if (token.type === "heading_open" && idPrefix !== null) {
      const slug = slugOf(tokens[i + 1]?.content ?? "");
      const seen = slugs.get(slug) ?? 0;
      slugs.set(slug, seen + 1);
      token.attrSet("id", `${idPrefix}${seen === 0 ? slug : `${slug}-${seen}`}`);
    }
    for (const child of token.children ?? []) {
      if (child.type === "link_open") {
        const href = String(child.attrGet("href") ?? "");
        const path = pathWithin(href);
        if (href.startsWith("#")) {
          if (idPrefix !== null) child.attrSet("href", `#${idPrefix}${href.slice(1)}`);
        } else if (path !== null) child.attrSet("href", blobAddress(repo, revision, path));
        else if (!href.startsWith(`${origin}/`)) child.attrSet("rel", "nofollow noopener ugc");
      }
      if (child.type === "image") {
        const source = String(child.attrGet("src") ?? "");
        const path = pathWithin(source);
        if (path !== null) child.attrSet("src", resolveAddress(repo, revision, path));
        child.attrSet("loading", "lazy");
      }
    }
  }
  return markdown.renderer.render(tokens, markdown.options, {});
}

markdown.renderer.rules.table_open = () => '<div class="scroll" tabindex="0"><table>\n';
markdown.renderer.rules.table_close = () => "</table></div>\n";

const image = markdown.renderer.rules.image;
/** The page loads nothing from elsewhere, so that reading a card tells nobody: an image there becomes a link to it. */
markdown.renderer.rules.image = (tokens, index, options, env, self) => {
  const token = tokens[index];
  const source = String(token?.attrGet("src") ?? "");
  if (token !== undefined && /^(https?:)?\/\//i.test(source)) {
    const text = token.content === "" ? source : token.content;
    return `<a href="${markdown.utils.escapeHtml(source)}" rel="nofollow noopener ugc">${markdown.utils.escapeHtml(text)}</a>`;
  }
  return image === undefined ? self.renderToken(tokens, index, options) : image(tokens, index, options, env, self);
};
