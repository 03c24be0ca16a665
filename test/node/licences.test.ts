// The licence of a merge: in whatever order the parents come, it asks for all that each of them asks for.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { conflictOf, type Licence, licenceOf, nameOf, strictest } from "../../src/formats/card/licences";
import { LICENSES } from "../../src/formats/card/vocabulary";

const licence = (id: string, name: string | null = null): Licence => ({ id, name, link: null });
const holding = (...ids: string[]) => strictest(ids.map((id) => licence(id)));
const outcome = (all: Licence[]) => (conflictOf(all) === null ? licenceOf(all) : "conflict");
const resultOf = (...ids: string[]) => {
  const all = holding(...ids);
  const conflict = conflictOf(all);
  if (conflict !== null) return `${nameOf(conflict.a)} against ${nameOf(conflict.b)}`;
  const result = licenceOf(all);
  return result === null ? null : nameOf(result);
};

describe("the result", () => {
  test.each([
    [["mit", "mit"], "mit"],
    [["mit", "apache-2.0"], "apache-2.0"],
    [["cc0-1.0", "cc-by-4.0"], "cc-by-4.0"],
    [["apache-2.0", "gpl-3.0"], "gpl-3.0"],
    [["gpl-3.0", "agpl-3.0", "mit"], "agpl-3.0"],
    [["cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-4.0"], "cc-by-sa-4.0"],
    [["cc-by-sa-4.0", "gpl-3.0"], "gpl-3.0"],
    [["apache-2.0", "cc-by-nc-4.0"], "apache-2.0 AND cc-by-nc-4.0"],
    [["mit", "cc-by-nc-4.0"], "cc-by-nc-4.0"],
    [["mit", "cc-by-nc-sa-4.0", "cc-by-nc-4.0"], "cc-by-nc-sa-4.0"],
    [["mpl-2.0", "lgpl-2.1"], "lgpl-3.0"],
    [["mpl-2.0", "eupl-1.1", "cc-by-sa-3.0"], "gpl-3.0"],
    [["llama3", "apache-2.0"], "llama3"],
    [["llama3", "gemma"], "gemma AND llama3"],
    [["cc-by-nc-4.0", "apple-amlr"], "apple-amlr"],
    [["intel-research", "apple-amlr"], "apple-amlr AND intel-research"],
    [["mit", "unknown"], null],
    [[], null],
  ])("of %j is %s", (ids, expected) => {
    expect(resultOf(...ids)).toBe(expected);
  });

  test.each([
    [["gpl-2.0", "apache-2.0"], "gpl-2.0 against apache-2.0"],
    [["gpl-2.0", "gpl-3.0"], "gpl-2.0 against gpl-3.0"],
    [["gpl-3.0", "cc-by-nc-4.0"], "gpl-3.0 against cc-by-nc-4.0"],
    [["cc-by-sa-4.0", "cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0 against cc-by-sa-4.0"],
    [["cc-by-sa-4.0", "llama3"], "cc-by-sa-4.0 against llama3"],
    [["odbl", "mpl-2.0"], "mpl-2.0 against odbl"],
    [["cc-by-nd-4.0"], "cc-by-nd-4.0 against cc-by-nd-4.0"],
  ])("of %j is a conflict: %s", (ids, expected) => {
    expect(resultOf(...ids)).toBe(expected);
  });

  test("of a merge of merges names every licence once", () => {
    const [first, second] = [licenceOf(holding("llama3", "gemma")), licenceOf(holding("gemma", "mit", "openrail"))];
    if (first === null || second === null) throw new Error("both can be said");
    expect(licenceOf(strictest([first, second]))).toMatchObject({ id: "other", name: "gemma AND llama3 AND openrail" });
  });

  test("of licences of one's own keeps their names and links", () => {
    const own = { id: "other", name: "qwen-research", link: "LICENSE" };
    expect(licenceOf(strictest([own, licence("mit")]))).toEqual(own);
    expect(licenceOf(strictest([licence("other"), licence("mit")]))).toBeNull();
  });
});

describe("whatever the parents", () => {
  const one = fc.oneof(
    fc.constantFrom(...LICENSES).map((id) => licence(id)),
    fc.constantFrom("a-licence", "b-licence", "mit AND a-licence").map((name) => licence("other", name)),
  );
  const some = fc.array(one, { maxLength: 6 });

  test("their order, grouping and repetition change nothing", () => {
    fc.assert(
      fc.property(some, some, (a, b) => {
        const whole = strictest([...a, ...b]);
        expect(strictest([...b, ...a])).toEqual(whole);
        expect(strictest([...strictest(a), ...strictest(b)])).toEqual(whole);
        expect(strictest([...whole, ...a])).toEqual(whole);
        const [first, second] = [licenceOf(strictest(a)), licenceOf(strictest(b))];
        if (first !== null && second !== null) expect(outcome(strictest([first, second]))).toEqual(outcome(whole));
      }),
    );
  });

  test("the result is no freer than any of them", () => {
    fc.assert(
      fc.property(some, one, (others, parent) => {
        const all = strictest([...others, parent]);
        const result = licenceOf(all);
        // Adding a parent's own licence to the result adds nothing to it.
        if (result !== null) expect(licenceOf(strictest([result, parent]))).toEqual(result);
        const noncommercial = /-nc-|noncommercial|research|apple-amlr/.test(parent.id);
        if (noncommercial && result !== null) expect(nameOf(result)).toMatch(/-nc-|noncommercial|research|apple-amlr/);
        if (conflictOf(strictest([parent])) !== null) expect(conflictOf(all)).not.toBeNull();
      }),
    );
  });
});
