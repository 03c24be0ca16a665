// What a gated repository's card asks before it lets anyone at its files: the `extra_gated_*` keys, and whether answers fit them.
import * as z from "zod";
import { HubError } from "../errors";
import { parseCard } from "../formats/card/yaml";
import type { Platform } from "../platform/platform";
import { findEntries, readTextFile } from "./files";
import type { Snapshot } from "./repositories";

/** By the card's own labels. */
export type Answers = Readonly<Record<string, string>>;

const Option = z.union([
  z.string().transform((text) => ({ label: text, value: text })),
  z.object({ label: z.string(), value: z.string() }),
]);
/** A kind of question that is not known is asked as text. */
const Question = z.union([
  z.enum(["text", "checkbox", "date_picker", "country"]).transform((type) => ({ type })),
  z.object({ type: z.literal("select"), options: z.array(Option).min(1) }),
  z.object({ type: z.enum(["text", "checkbox", "date_picker", "country"]) }),
  z.unknown().transform(() => ({ type: "text" as const })),
]);
export type Question = z.output<typeof Question>;

const Card = z.object({
  extra_gated_heading: z.string().optional().catch(undefined),
  extra_gated_description: z.string().optional().catch(undefined),
  extra_gated_prompt: z.string().optional().catch(undefined),
  extra_gated_eu_disallowed: z.boolean().default(false).catch(false),
  extra_gated_fields: z.record(z.string(), Question).default({}).catch({}),
});

export type GateForm = {
  readonly heading: string | null;
  readonly prompt: string | null;
  readonly euDisallowed: boolean;
  readonly questions: readonly (readonly [label: string, question: Question])[];
};

const MAX_ANSWER_CHARS = 2000;
const EU = new Set("AT BE BG HR CY CZ DE DK EE ES FI FR GR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split(" "));

export function gateForm(readme: string): GateForm {
  const parsed = parseCard(readme);
  const card = Card.parse("card" in parsed ? parsed.card.data : {});
  return {
    heading: card.extra_gated_heading ?? null,
    prompt: card.extra_gated_prompt ?? card.extra_gated_description ?? null,
    euDisallowed: card.extra_gated_eu_disallowed,
    questions: Object.entries(card.extra_gated_fields),
  };
}

/** The form of the card of a revision: that of `main` counts. */
export async function readGateForm(platform: Platform, snapshot: Snapshot): Promise<GateForm> {
  const [readme] = await findEntries(platform.db, snapshot, ["README.md"]);
  return gateForm(await readTextFile(platform, snapshot.repo, readme));
}

/** The answers to the form's questions, and no others. @throws invalid_field naming the question | forbidden */
export function checkAnswers(form: GateForm, answers: Answers, country: string | null): Answers {
  if (form.euDisallowed && country !== null && EU.has(country))
    throw new HubError("forbidden", { reason: "the model card does not offer these files in the European Union" });
  return Object.fromEntries(
    form.questions.map(([label, question]) => {
      const answer = (answers[label] ?? "").trim();
      const problem = problemWith(question, answer);
      if (problem !== null) throw new HubError("invalid_field", { field: label, problem });
      return [label, answer];
    }),
  );
}

function problemWith(question: Question, answer: string): string | null {
  if (question.type === "checkbox")
    return ["true", "on", "1", "yes"].includes(answer.toLowerCase()) ? null : "must be agreed to: send true";
  if (answer === "") return "must be answered";
  if (answer.length > MAX_ANSWER_CHARS) return `must be at most ${MAX_ANSWER_CHARS} characters`;
  switch (question.type) {
    case "text":
      return null;
    case "date_picker":
      return /^\d{4}-\d{2}-\d{2}$/.test(answer) && !Number.isNaN(Date.parse(answer))
        ? null
        : "must be a date as YYYY-MM-DD";
    case "country":
      return /^[A-Z]{2}$/.test(answer) ? null : "must be a country's two letters, as FR";
    case "select": {
      const values = question.options.flatMap(({ label, value }) => [label, value]);
      return values.includes(answer) ? null : `must be one of ${question.options.map(({ value }) => value).join(", ")}`;
    }
  }
}
