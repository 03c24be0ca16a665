// What may be said of the licence of a model made from others: the strictest of theirs, or that they can't be combined.
import { LICENSES } from "./vocabulary";

/** As a card says it: `license`, `license_name`, `license_link`. */
export type Licence = { readonly id: string; readonly name: string | null; readonly link: string | null };

/**
 * `asks`: what who passes the work on must keep to; of a share-alike licence, what it admits. A work under a share-alike
 * licence can be passed on under that one or those of `becomes` only, any other under all that ask as much.
 */
type Terms = { readonly asks: ReadonlySet<string>; readonly becomes: readonly string[] | null };

const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== "");

/** Freest first: of licences that ask the same, the later one names the result. */
const PERMISSIVE: readonly (readonly [ids: string, asks: string])[] = [
  ["cc0-1.0 unlicense wtfpl pddl", ""],
  [
    "zlib isc mit bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear ncsa postgresql bsl-1.0 artistic-2.0 cdla-permissive-1.0 cdla-permissive-2.0 c-uda apple-ascl lppl-1.3c odc-by etalab-2.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0",
    "notice",
  ],
  ["openmdw-1.0 openmdw-1.1 ecl-2.0 apache-2.0", "notice patents"],
  ["afl-3.0", "notice patents venue"],
  ["cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0", "notice noncommercial"],
];

/** Each with what it admits, and what it may become. */
const SHARE_ALIKE: readonly (readonly [id: string, admits: string, becomes: string])[] = [
  ["lgpl", "notice source", "lgpl-2.1 lgpl-3.0 gpl gpl-2.0 gpl-3.0 agpl-3.0"],
  ["lgpl-2.1", "notice source", "lgpl-3.0 gpl gpl-2.0 gpl-3.0 agpl-3.0"],
  ["lgpl-3.0", "notice source patents", "gpl-3.0 agpl-3.0"],
  ["gpl", "notice source", "gpl-2.0 gpl-3.0 agpl-3.0"],
  ["gpl-2.0", "notice source", ""],
  ["gpl-3.0", "notice source patents", "agpl-3.0"],
  ["agpl-3.0", "notice source patents network", ""],
  ["mpl-2.0", "notice source patents", "lgpl-3.0 gpl-3.0 agpl-3.0"],
  ["eupl-1.1", "notice source patents", "eupl-1.2 gpl-3.0 agpl-3.0"],
  ["eupl-1.2", "notice source patents", "gpl-3.0 agpl-3.0"],
  ["epl-1.0", "notice source patents", ""],
  ["epl-2.0", "notice source patents", ""],
  ["osl-3.0", "notice source patents venue network", ""],
  ["ms-pl", "notice patents", ""],
  ["ofl-1.1", "notice", ""],
  ["gfdl", "notice", ""],
  ["lgpl-lr", "notice", ""],
  ["cdla-sharing-1.0", "notice", ""],
  ["odbl", "notice", ""],
  ["cc-by-sa-3.0", "notice patents", "cc-by-sa-4.0 gpl-3.0 agpl-3.0"],
  ["cc-by-sa-4.0", "notice patents", "gpl-3.0 agpl-3.0"],
  ["cc-by-nc-sa-2.0", "notice patents noncommercial", "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0"],
  ["cc-by-nc-sa-3.0", "notice patents noncommercial", "cc-by-nc-sa-4.0"],
  ["cc-by-nc-sa-4.0", "notice patents noncommercial", ""],
];

/** Those with terms of their own that, besides, allow no commercial use. */
const NONCOMMERCIAL = new Set(["fair-noncommercial-research-license", "intel-research", "h-research", "apple-amlr"]);
/** Those that let nobody pass on what was changed. */
const UNCHANGED = new Set(["cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"]);
/** Those that say too little to know what they ask. */
const UNCLEAR = new Set(["unknown", "cc"]);

const TERMS: ReadonlyMap<string, Terms> = new Map([
  ...PERMISSIVE.flatMap(([ids, asks]) =>
    words(ids).map((id): [string, Terms] => [id, { asks: new Set(words(asks)), becomes: null }]),
  ),
  ...SHARE_ALIKE.map(([id, admits, becomes]): [string, Terms] => [
    id,
    { asks: new Set(words(admits)), becomes: words(becomes) },
  ]),
]);
const RANK = new Map([...TERMS.keys()].map((id, i) => [id, i]));

/** How several licences that all hold are written as one name, and read again when the result is a parent. */
const AND = " AND ";

/** What a card says, as single licences; none where it says none. */
function singles({ id, name, link }: Licence): Licence[] {
  if (id !== "other") return [{ id, name: null, link: null }];
  const parts = (name ?? "").split(AND).filter((part) => part !== "");
  if (parts.length < 2) return [{ id, name, link }];
  return parts.map((part) =>
    LICENSES.has(part) && part !== "other"
      ? { id: part, name: null, link: null }
      : { id: "other", name: part, link: null },
  );
}

const keyOf = ({ id, name, link }: Licence): string => (id === "other" ? `other:${name ?? link ?? ""}` : id);

/** A licence that is in no table has terms of its own, which are to be passed on beside all others. */
function termsOf(licence: Licence): Terms {
  const key = keyOf(licence);
  const known = TERMS.get(key);
  if (known !== undefined) return known;
  const use = NONCOMMERCIAL.has(key) ? ["noncommercial"] : [];
  return { asks: new Set(["notice", "patents", ...use, key]), becomes: null };
}

/** Whether what is under `licence` may be passed on under `other`. The relation is an order. */
function covers(other: Licence, licence: Licence): boolean {
  const [key, otherKey] = [keyOf(licence), keyOf(other)];
  if (key === otherKey) return true;
  if (isOpaque(licence) || isOpaque(other)) return false;
  const [terms, above] = [termsOf(licence), termsOf(other)];
  if (terms.becomes !== null) return terms.becomes.includes(otherKey);
  if (![...terms.asks].every((ask) => above.asks.has(ask))) return false;
  if (above.becomes !== null || above.asks.size > terms.asks.size) return true;
  return (RANK.get(key) ?? 0) < (RANK.get(otherKey) ?? 0);
}

/** Nothing follows from it for others, and nothing of others covers it. */
const isOpaque = (licence: Licence): boolean => UNCHANGED.has(licence.id) || isUnclear(licence);

const isUnclear = ({ id, name, link }: Licence): boolean =>
  UNCLEAR.has(id) || (id === "other" && name === null && link === null);

/** The licences that hold for a work made of works under these: each once, in one order, without those that another one covers. */
export function strictest(licences: readonly Licence[]): Licence[] {
  const each = new Map(licences.flatMap(singles).map((licence) => [keyOf(licence), licence]));
  const all = [...each.values()];
  return all
    .filter((licence) => !all.some((other) => other !== licence && covers(other, licence)))
    .sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

const SHARED: readonly Licence[] = SHARE_ALIKE.map(([id]) => ({ id, name: null, link: null }));

/** What share-alike licences that differ may become together, though no parent is under it. */
const commonOf = (holding: readonly Licence[]): Licence | undefined =>
  holding.length > 1 && holding.every((one) => termsOf(one).becomes !== null)
    ? SHARED.find((other) => holding.every((one) => covers(other, one)))
    : undefined;

export type LicenceConflict = { readonly a: Licence; readonly b: Licence };

/** Two licences that can't both be kept to, out of those that hold; a licence that forbids changes stands alone, as both. */
export function conflictOf(holding: readonly Licence[]): LicenceConflict | null {
  const unchanged = holding.find(({ id }) => UNCHANGED.has(id));
  if (unchanged !== undefined) return { a: unchanged, b: unchanged };
  if (commonOf(holding) !== undefined) return null;
  const clear = holding.filter((licence) => !isUnclear(licence));
  // Where a share-alike licence is left beside another, that one asks what it does not admit.
  const shared = clear.find((licence) => termsOf(licence).becomes !== null);
  const other = clear.find((licence) => licence !== shared);
  return shared === undefined || other === undefined ? null : { a: shared, b: other };
}

/** What the card of the result says; null where nothing may be said, since a parent says too little. */
export function licenceOf(holding: readonly Licence[]): Licence | null {
  const [first] = holding;
  if (first === undefined || holding.some(isUnclear)) return null;
  if (holding.length === 1) return first;
  const common = commonOf(holding);
  if (common !== undefined) return common;
  return { id: "other", name: holding.map(nameOf).join(AND), link: null };
}

export const nameOf = ({ id, name, link }: Licence): string => (id === "other" ? (name ?? link ?? id) : id);
