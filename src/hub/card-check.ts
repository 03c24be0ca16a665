// A commit that brings a broken card is refused before anything is published: lists and clients read cards, and would miss what it says.
import { HubError } from "../errors";
import { checkCard } from "../formats/card/validate";
import type { RepoType } from "../ids";
import type { Platform } from "../platform/platform";
import { readNewTextFile } from "./files";
import type { Change } from "./tree-edit";

const CARD = "README.md";

/** @throws invalid_card with every error and its line; warnings keep nothing back */
export async function refuseBrokenCard(platform: Platform, type: RepoType, changes: readonly Change[]): Promise<void> {
  const change = changes.find((one) => one.path === CARD);
  if (change?.kind !== "put") return;
  const { errors } = checkCard(type, await readNewTextFile(platform, CARD, change.file));
  if (errors.length === 0) return;
  throw new HubError("invalid_card", { problem: errors.map(({ message }) => `- ${message}`).join("\n") });
}
