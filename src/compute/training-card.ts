// The model card of a training: from which data, and from which model if any.
import { writeCard } from "../formats/card/write";
import type { TrainPlan } from "./plan";

export function trainingCard(title: string, { dataset, initial, split }: TrainPlan): string {
  const start =
    initial === null ? "Trained from scratch" : `Trained on from ${initial.repo} at \`${initial.commit.slice(0, 12)}\``;
  return writeCard(
    {
      library_name: "owm",
      datasets: [dataset.repo],
      ...(initial === null ? {} : { base_model: [initial.repo], base_model_relation: "finetune" }),
    },
    [
      `# ${title}`,
      "",
      `${start}, on the split \`${split}\` of ${dataset.repo} at \`${dataset.commit.slice(0, 12)}\`.`,
      "",
      "`training.json` is the record of the training: data digest, optimizer, hyperparameters, initialization, seed and loss curve.",
    ],
  );
}
