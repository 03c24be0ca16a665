// What a card says, read leniently: a value of another type than it should have is taken for absent.
import type { CardData } from "./yaml";

export const textField = (data: CardData, key: string): string | undefined => {
  const value = data[key];
  return typeof value === "string" && value !== "" ? value : undefined;
};

/** One text or a list of texts. */
export function textsField(data: CardData, key: string): string[] {
  const value = data[key];
  const all: readonly unknown[] = Array.isArray(value) ? value : [value];
  return all.filter((one) => typeof one === "string").filter((one) => one !== "");
}

/** A name that repositories have: `owner/name`, or `name` alone as the ecosystem's oldest models. */
export const isRepoName = (text: string): boolean =>
  /^[A-Za-z0-9][\w.-]{0,95}(\/[A-Za-z0-9_][\w.-]{0,95})?$/.test(text) && !/--|\.\.|\.git$/.test(text);
