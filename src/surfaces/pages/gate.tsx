// What the page of a gated repository says about its files: that they must be asked for, what is asked, and the command that asks.

import { type GateForm, gateForm, type Question } from "../../hub/gate-form";
import type { Repository } from "../../hub/repositories";
import { cardAddress, linkOf } from "./address";
import { Snippet } from "./snippets";

export type GateProps = {
  readonly repo: Repository;
  readonly origin: string;
  /** Of the card that is shown; null where it is too long for a page or there is none. */
  readonly readme: string | null;
};

export function Gate({ repo, origin, readme }: GateProps) {
  if (repo.gated === null) return null;
  const form = gateForm(readme ?? "");
  return (
    <section aria-labelledby="gate">
      <h2 id="gate">{form.heading ?? "Ask for access"}</h2>
      <p>
        Everyone sees what is here; the files are for those who were let in.{" "}
        {repo.gated === "auto" ? "Whoever asks is let in at once." : "The owner answers each request."} Your name and
        e-mail address are shown to the owner.
      </p>
      {form.prompt === null ? null : <p class="message">{form.prompt}</p>}
      <Snippet title="Ask with your token" text={askCommand(`${origin}${cardAddress(linkOf(repo))}`, form)} />
    </section>
  );
}

const EXAMPLES: Record<Exclude<Question["type"], "select">, string | boolean> = {
  text: "…",
  checkbox: true,
  date_picker: "YYYY-MM-DD",
  country: "FR",
};

function askCommand(address: string, { questions }: GateForm): string {
  const answers = questions.map(([label, question]) => [
    label,
    question.type === "select" ? question.options.map(({ value }) => value).join(" | ") : EXAMPLES[question.type],
  ]);
  const body = JSON.stringify(Object.fromEntries(answers), null, 2).replaceAll("'", "'\\''");
  return `curl ${address}/ask-access \\\n  -H "Authorization: Bearer $HF_TOKEN" \\\n  --json '${body.replaceAll("\n", "\n  ")}'`;
}
