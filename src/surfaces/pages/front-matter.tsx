// A card's metadata: what everyone looks for as tags and links, the rest as a table.
import { HubError } from "../../errors";
import type { Facts } from "../../hub/facts/facts";
import type { RepoLink } from "../../hub/overview";
import { parseRepoId } from "../../ids";
import { cardAddress } from "./address";

export type FrontMatter = Readonly<Record<string, unknown>>;

/** Values longer than this are cut: the file itself is one link away. */
const MAX_VALUE_LENGTH = 600;
const MAX_TAGS = 60;

/** Shown as tags above, so not again in the table. */
const TAG_KEYS = ["license", "pipeline_tag", "library_name", "language", "tags"] as const;
/** Tags that only programs filter by; what they name is linked elsewhere on the page. */
const UNSHOWN = /^(license|dataset|base_model|region):|^(endpoints_compatible|model-index)$/;
const LINK_KEYS = { base_model: "model", datasets: "dataset" } as const satisfies Record<string, RepoLink["type"]>;

const textsOf = (value: unknown): string[] =>
  (Array.isArray(value) ? value : [value])
    .filter((one) => typeof one === "string" || typeof one === "number")
    .map(String);

export function Tags({ license, tags: all }: Pick<Facts, "license" | "tags">) {
  const tags = [
    ...(license === null ? [] : [`Licence: ${license}`]),
    ...all.filter((tag) => !UNSHOWN.test(tag)).map((tag) => tag.replace(/^(language|format|library):/, "")),
  ].slice(0, MAX_TAGS);
  return tags.length === 0 ? null : (
    <ul class="tags" aria-label="Tags">
      {tags.map((tag) => (
        <li class="badge">{tag}</li>
      ))}
    </ul>
  );
}

export function FrontMatterTable({ data }: { readonly data: FrontMatter }) {
  const tagKeys = new Set<string>(TAG_KEYS);
  const rest = Object.entries(data).filter(([key]) => !tagKeys.has(key));
  return rest.length === 0 ? null : (
    <details class="box pad metadata">
      <summary>Metadata of the card</summary>
      <div class="scroll" tabindex={0}>
        <table>
          <tbody>
            {rest.map(([key, value]) => (
              <tr>
                <th scope="row">{key}</th>
                <td>
                  <Value name={key} value={value} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

function Value({ name, value }: { readonly name: string; readonly value: unknown }) {
  const type = name === "base_model" || name === "datasets" ? LINK_KEYS[name] : undefined;
  const texts = textsOf(value);
  if (type !== undefined)
    return (
      <>
        {texts.map((text) => (
          <div>{isRepoName(type, text) ? <a href={cardAddress({ type, name: text })}>{text}</a> : text}</div>
        ))}
      </>
    );
  const whole = Array.isArray(value) ? texts.length === value.length : texts.length === 1;
  const text = whole ? texts.join(", ") : (JSON.stringify(value) ?? "");
  const cut = text.length > MAX_VALUE_LENGTH ? `${text.slice(0, MAX_VALUE_LENGTH)}…` : text;
  return whole ? <span>{cut}</span> : <code>{cut}</code>;
}

function isRepoName(type: RepoLink["type"], text: string): boolean {
  try {
    parseRepoId(type, text);
    return true;
  } catch (error) {
    if (error instanceof HubError) return false;
    throw error;
  }
}
