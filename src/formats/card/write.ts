// A model card from its parts: metadata as YAML that both versions of the language read alike, then Markdown.
import { stringify } from "yaml";

/** Keys without a value, and empty lists, are left out. */
export function writeCard(data: Readonly<Record<string, unknown>>, lines: readonly string[]): string {
  const known = Object.entries(data).filter(
    ([, value]) => value != null && !(Array.isArray(value) && value.length === 0),
  );
  const yaml = stringify(Object.fromEntries(known), { version: "1.1", indentSeq: false, lineWidth: 0 });
  return ["---", `${yaml}---`, "", ...lines, ""].join("\n");
}
