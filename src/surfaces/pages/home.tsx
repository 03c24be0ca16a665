// The first page: what the hub is, what is newest on it, and how any client reaches it.
import { type Listed, listRepos } from "../../hub/listing";
import type { RepoType } from "../../ids";
import { type Ctx, callerOf, originOf } from "../hf/request";
import { browseAddress } from "./address";
import { RepoRows } from "./browse";
import { answer } from "./layout";
import { jobCommand, Snippet } from "./snippets";
import { KIND_NAMES } from "./wording";

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
  const newest = async (type: RepoType): Promise<readonly Listed[]> => {
    const { repos } = await listRepos(caller, {
      type,
      filters: [],
      order: "lastModified",
      ascending: false,
      limit: NEWEST,
      facts: ["pipelineTag", "license"],
    });
    return repos;
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
          <search>
            <form class="filters" method="get" action={browseAddress("model")}>
              <label>
                Find a model
                <input type="search" name="search" maxlength={200} />
              </label>
              <button type="submit">Search</button>
            </form>
          </search>
        </section>
        <div class="two">
          <Newest id="models" type="model" title="Newest models" repos={models} none="No model is published yet." />
          <Newest
            id="datasets"
            type="dataset"
            title="Newest datasets"
            repos={datasets}
            none="No dataset is published yet."
          />
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
  readonly type: RepoType;
  readonly title: string;
  readonly repos: readonly Listed[];
  readonly none: string;
};

function Newest({ id, type, title, repos, none }: NewestProps) {
  return (
    <section id={id}>
      <h2>{title}</h2>
      {repos.length === 0 ? <p class="box pad soft">{none}</p> : <RepoRows repos={repos} />}
      <p>
        <a href={browseAddress(type)}>All {KIND_NAMES[type].toLowerCase()}</a>
      </p>
    </section>
  );
}
