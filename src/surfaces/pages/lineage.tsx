// What a revision was made from and what was made from it, as lists with links.
import type { Relative } from "../../hub/lineage";
import type { Overview } from "../../hub/overview";
import { cardAddress, commitAddress } from "./address";
import { shortId, weightText } from "./wording";

export type Lineage = { readonly parents: readonly Relative[]; readonly children: readonly Relative[] };

const MADE_FROM: Record<Relative["relation"], string> = {
  merge: "merged from",
  adapter: "an adapter extracted from",
  finetune: "trained on from",
  dataset: "trained on the data of",
};
const USED_FOR: Record<Relative["relation"], string> = {
  merge: "merged into",
  adapter: "used to extract",
  finetune: "trained on to",
  dataset: "used to train",
};

/** Repositories beyond these are counted. */
const SHOWN_CHILDREN = 10;

export function LineageLists({
  lineage,
  weights,
}: {
  readonly lineage: Lineage;
  readonly weights: Overview["weights"];
}) {
  const { parents, children } = lineage;
  const used = byRepository(children);
  return (
    <>
      {parents.length === 0 ? null : (
        <section aria-labelledby="made-from">
          <h2 id="made-from">Made from</h2>
          <ul class="parents">
            {parents.map((parent, i) => {
              const weight = weights[i] ?? null;
              return (
                <li>
                  <RelativeItem relative={parent} words={MADE_FROM[parent.relation]} />
                  {parent.relation === "merge" && weight !== null ? (
                    <div class="small">
                      weight <strong>{weightText(weight)}</strong>
                    </div>
                  ) : null}
                </li>
              );
            })}
          </ul>
        </section>
      )}
      {children.length === 0 ? null : (
        <section aria-labelledby="used-for">
          <h2 id="used-for">Used for</h2>
          <ul class="parents">
            {used.slice(0, SHOWN_CHILDREN).map(({ newest, count }) => (
              <li>
                <RelativeItem relative={newest} words={USED_FOR[newest.relation]} />
                {count > 1 ? <div class="soft small">and {count - 1} other revisions of it</div> : null}
              </li>
            ))}
          </ul>
          {used.length > SHOWN_CHILDREN ? <p class="soft small">and {used.length - SHOWN_CHILDREN} more</p> : null}
        </section>
      )}
    </>
  );
}

type Used = { readonly newest: Relative; readonly count: number };

/** A sweep makes many revisions of one repository from the same parents: they are one line. Children come newest first. */
function byRepository(children: readonly Relative[]): Used[] {
  const groups = new Map<string, Used>();
  for (const child of children) {
    const key = `${child.relation} ${child.source?.type} ${child.source?.repo}`;
    const group = groups.get(key);
    groups.set(key, { newest: group?.newest ?? child, count: (group?.count ?? 0) + 1 });
  }
  return [...groups.values()];
}

function RelativeItem({ relative: { source }, words }: { readonly relative: Relative; readonly words: string }) {
  return (
    <>
      <div class="soft small">{words}</div>
      {source === null ? (
        <span class="soft">a repository that is private or gone</span>
      ) : (
        <>
          <a href={cardAddress({ type: source.type, name: source.repo })}>{source.repo}</a>{" "}
          <a class="mono" href={commitAddress({ type: source.type, name: source.repo }, source.commit)}>
            {shortId(source.commit)}
          </a>
        </>
      )}
    </>
  );
}
