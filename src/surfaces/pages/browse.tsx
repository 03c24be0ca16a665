// Models and datasets to look through: searched, by task and licence, in an order, page by page. A plain form, its state in the address.
import { LICENSES, PIPELINE_TAGS } from "../../formats/card/vocabulary";
import { type Filter, isOrder, type Listed, listRepos, type Order } from "../../hub/listing";
import type { Repository } from "../../hub/repositories";
import type { RepoType } from "../../ids";
import { type Ctx, callerOf } from "../hf/request";
import { browseAddress, cardAddress, linkOf } from "./address";
import { answer, Time } from "./layout";
import { dateTime, KIND_NAMES } from "./wording";

const PAGE = 30;

const ORDERS: readonly (readonly [Order, string])[] = [
  ["lastModified", "Changed last"],
  ["trendingScore", "Trending"],
  ["downloads", "Most downloads"],
  ["likes", "Most likes"],
  ["createdAt", "Newest"],
];

type Choice = { readonly search: string; readonly task: string; readonly license: string; readonly sort: Order };

function choiceOf(c: Ctx): Choice {
  const text = (name: string): string => c.req.query(name)?.trim() ?? "";
  const sort = text("sort");
  return {
    search: text("search"),
    task: text("task"),
    license: text("license"),
    sort: isOrder(sort) ? sort : "lastModified",
  };
}

function filtersOf(type: RepoType, { search, task, license }: Choice): Filter[] {
  const byTask: Filter =
    type === "model" ? { kind: "task", task } : { kind: "tag", anyOf: [`task_categories:${task}`] };
  return [
    ...(search === "" ? [] : [{ kind: "search", text: search } as const]),
    ...(task === "" ? [] : [byTask]),
    ...(license === "" ? [] : [{ kind: "tag", anyOf: [`license:${license}`] } as const]),
  ];
}

export async function browse(c: Ctx, type: RepoType): Promise<Response> {
  const choice = choiceOf(c);
  const cursor = c.req.query("cursor");
  const { repos, next } = await listRepos(callerOf(c), {
    type,
    filters: filtersOf(type, choice),
    order: choice.sort,
    ascending: false,
    limit: PAGE,
    facts: ["pipelineTag", "license"],
    ...(cursor === undefined ? {} : { cursor }),
  });
  const kind = KIND_NAMES[type];
  return answer(c, {
    title: `${kind} · OWM Hub`,
    children: (
      <>
        <h1>{kind}</h1>
        <SearchForm type={type} choice={choice} />
        {repos.length === 0 ? (
          <p class="box pad soft">
            {next === null ? "Nothing here is like that." : "Nothing so far: there is more to look through."}
          </p>
        ) : (
          <RepoRows repos={repos} />
        )}
        {next === null ? null : (
          <p>
            <a rel="next" href={browseAddress(type, { ...choice, cursor: next })}>
              Next page
            </a>
          </p>
        )}
      </>
    ),
  });
}

function SearchForm({ type, choice }: { readonly type: RepoType; readonly choice: Choice }) {
  return (
    <search>
      <form class="filters" method="get" action={browseAddress(type)}>
        <label>
          Name
          <input type="search" name="search" value={choice.search} maxlength={200} />
        </label>
        <Select
          name="task"
          label="Task"
          value={choice.task}
          options={[...PIPELINE_TAGS].map((one) => [one, one])}
          any
        />
        <Select
          name="license"
          label="Licence"
          value={choice.license}
          options={[...LICENSES].map((one) => [one, one])}
          any
        />
        <Select name="sort" label="Order" value={choice.sort} options={ORDERS} />
        <button type="submit">Search</button>
      </form>
    </search>
  );
}

type SelectProps = {
  readonly name: string;
  readonly label: string;
  readonly value: string;
  readonly options: readonly (readonly [value: string, text: string])[];
  /** Whether none may be chosen. */
  readonly any?: boolean;
};

function Select({ name, label, value, options, any = false }: SelectProps) {
  return (
    <label>
      {label}
      <select name={name}>
        {any ? <option value="">Any</option> : null}
        {options.map(([one, text]) => (
          <option value={one} selected={one === value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

const counted = (count: number, what: string): string =>
  `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

type Row = { readonly repo: Repository } & Partial<Pick<Listed, "facts" | "likes" | "downloads">>;

export function RepoRows({ repos }: { readonly repos: readonly Row[] }) {
  return (
    <ul class="rows box">
      {repos.map(({ repo, facts, likes = 0, downloads = 0 }) => (
        <li>
          <a href={cardAddress(linkOf(repo))}>
            {repo.owner}/{repo.name}
          </a>{" "}
          {repo.private ? <span class="badge on">Private</span> : null}{" "}
          {[facts?.pipelineTag, facts?.license].map((one) =>
            one == null ? null : [<span class="badge">{one}</span>, " "],
          )}
          <div class="soft small">
            Changed <Time ms={repo.updatedAt} text={dateTime(repo.updatedAt)} />
            {downloads > 0 ? ` · ${counted(downloads, "download")} in 30 days` : null}
            {likes > 0 ? ` · ${counted(likes, "like")}` : null}
          </div>
        </li>
      ))}
    </ul>
  );
}
