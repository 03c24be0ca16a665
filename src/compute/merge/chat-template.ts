// The chat template of a merge: one of the known formats, the recipe's own text, or that of the models.
import * as z from "zod";
import { CHAT_TEMPLATES } from "../../formats/chat-templates";
import { findStoredFiles, type StoredFile } from "../../hub/files";
import type { Snapshot } from "../../hub/repositories";
import type { Platform } from "../../platform/platform";
import { readWhole } from "../sources";

const FILES = ["chat_template.jinja", "tokenizer_config.json"];

/** A model may have several templates by name: `default` is the one for plain chat. */
const TokenizerConfig = z.object({
  chat_template: z
    .union([
      z.string(),
      z
        .array(z.object({ name: z.string(), template: z.string() }))
        .transform((named) => named.find(({ name }) => name === "default")?.template ?? null),
    ])
    .nullable()
    .catch(null),
});

/**
 * What `chat_template` of a recipe means: the name of a format, a template, or `auto` for the donor's, or else what most of the
 * models have. Null where none of them has any. `models`: the donor first.
 */
export async function chatTemplateOf(
  platform: Platform,
  setting: string,
  models: readonly Snapshot[],
): Promise<string | null> {
  if (setting !== "auto") return Object.hasOwn(CHAT_TEMPLATES, setting) ? (CHAT_TEMPLATES[setting] ?? null) : setting;
  const files = await findStoredFiles(
    platform.db,
    models.flatMap((snapshot) => FILES.map((path) => ({ snapshot, path }))),
  );
  const found: (string | null)[] = [];
  for (const i of models.keys()) found.push(await readTemplate(platform, files[2 * i], files[2 * i + 1]));
  return found[0] ?? mostCommon(found.filter((text) => text !== null));
}

async function readTemplate(
  platform: Platform,
  file: StoredFile | null | undefined,
  tokenizer: StoredFile | null | undefined,
): Promise<string | null> {
  const decoder = new TextDecoder();
  if (file != null) return decoder.decode(await readWhole(platform, file, "chat_template"));
  if (tokenizer == null) return null;
  try {
    const config = TokenizerConfig.safeParse(
      JSON.parse(decoder.decode(await readWhole(platform, tokenizer, "chat_template"))),
    );
    return config.success ? config.data.chat_template : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Of equally common ones the first. */
function mostCommon(texts: readonly string[]): string | null {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  const most = Math.max(0, ...counts.values());
  return texts.find((text) => counts.get(text) === most) ?? null;
}
