// The first page: what the hub is, what is newest on it, and how any client reaches it.
import { listRepos } from "../../hub/listing";
import type { Repository } from "../../hub/repositories";
import type { RepoType } from "../../ids";
import { type Ctx, callerOf, originOf } from "../hf/request";
import { cardAddress, linkOf } from "./address";
import { answer, Time } from "./layout";
import { jobCommand, Snippet } from "./snippets";
import { dateTime } from "./wording";

const NEWEST = 12;

const MERGE = {
  kind: "merge",
  method: "linear",
  a: "ada/one",
  b: "bob/other",
  lambda: 0.5,
  output: { repo: "ada/merged" },
};
const EVALUATE = { kind: "evaluate", model: "ada/merged", dataset: "ada/digits", split: "test" };

export async function home(c: Ctx): Promise<Response> {
  const caller = callerOf(c);
  const newest = async (type: RepoType): Promise<Repository[]> => {
    const { repos } = await listRepos(caller, {
      type,
      filters: [],
      order: "lastModified",
      ascending: false,
      limit: NEWEST,
    });
    return repos.map(({ repo }) => repo);
  };
  const [models, datasets] = await Promise.all([newest("model"), newest("dataset")]);
  const origin = originOf(c);
  return answer(c, {
    title: "OWM Hub",
    description: "Open-weight models, published with the record of how they were made.",
    children: (
      <>
        <section class="hero">
          <h1>Models you can take apart, merge and check</h1>
          <p class="lead">
            OWM Hub publishes open-weight models as architecture, weights and the record of how they were made, so that
            anyone can download them with the tools they have, merge them, and recompute every figure.
          </p>
        </section>
        <div class="two">
          <Newest id="models" title="Newest models" repos={models} none="No model is published yet." />
          <Newest id="datasets" title="Newest datasets" repos={datasets} none="No dataset is published yet." />
        </div>
        <section id="use" class="use-it">
          <h2>Use it with what you have</h2>
          <p>Stock clients work unchanged: point them here with one variable.</p>
          <div class="two wide">
            <Snippet title="Any Hugging Face client" text={`export HF_ENDPOINT=${origin}`} />
            <Snippet title="Upload a folder" text="hf upload your-name/your-model ./folder" />
            <Snippet title="Merge two models" text={jobCommand(origin, MERGE)} />
            <Snippet title="Evaluate one" text={jobCommand(origin, EVALUATE)} />
          </div>
        </section>
      </>
    ),
  });
}

type NewestProps = {
  readonly id: string;
  readonly title: string;
  readonly repos: readonly Repository[];
  readonly none: string;
};

function Newest({ id, title, repos, none }: NewestProps) {
  return (
    <section id={id}>
      <h2>{title}</h2>
      {repos.length === 0 ? (
        <p class="box pad soft">{none}</p>
      ) : (
        <ul class="rows box">
          {repos.map((repo) => (
            <li>
              <a href={cardAddress(linkOf(repo))}>
                {repo.owner}/{repo.name}
              </a>{" "}
              {repo.private ? <span class="badge on">Private</span> : null}
              <div class="soft small">
                Changed <Time ms={repo.updatedAt} text={dateTime(repo.updatedAt)} />
              </div>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
