// A collection as a page: what it holds, in its order, without what the reader may not see.
import { itemsOf } from "../../hub/collection-items";
import { findCollection, parseCollectionSlug, slugOf } from "../../hub/collections";
import { type Ctx, callerOf } from "../hf/request";
import { cardAddress } from "./address";
import { answer, Time } from "./layout";
import { dateTime } from "./wording";

export async function collection(c: Ctx): Promise<Response> {
  const slug = `${c.req.param("owner") ?? ""}/${c.req.param("slug") ?? ""}`;
  const found = await findCollection(callerOf(c), parseCollectionSlug(slug));
  const items = await itemsOf(callerOf(c), [found]);
  return answer(c, {
    title: `${found.title} · OWM Hub`,
    description: found.description ?? undefined,
    children: (
      <>
        <p class="soft small">A collection of {found.owner.fullname}</p>
        <h1>
          {found.title} {found.private ? <span class="badge on">Private</span> : null}
        </h1>
        {found.description === null ? null : <p class="lead">{found.description}</p>}
        {items.length === 0 ? (
          <p class="box pad soft">Nothing is in it yet.</p>
        ) : (
          <ul class="rows box">
            {items.map((item) => {
              const isNested = item.type === "collection";
              const address = isNested
                ? `/collections/${slugOf(item.nested)}`
                : cardAddress({ type: item.type, name: `${item.owner}/${item.name}` });
              const isPrivate = isNested ? item.nested.private : item.private;
              const updatedAt = isNested ? item.nested.updatedAt : item.updatedAt;
              return (
                <li>
                  <a href={address}>{isNested ? item.nested.title : `${item.owner}/${item.name}`}</a>{" "}
                  <span class="badge">{item.type}</span> {isPrivate ? <span class="badge on">Private</span> : null}
                  {item.note === null ? null : <div>{item.note}</div>}
                  <div class="soft small">
                    Changed <Time ms={updatedAt} text={dateTime(updatedAt)} />
                  </div>
                </li>
              );
            })}
          </ul>
        )}
      </>
    ),
  });
}
