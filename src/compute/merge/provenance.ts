// provenance.intoto.jsonl of a merge: an in-toto statement that these files came from those, by SLSA's predicate. It is not signed.
import { canonicalJson } from "../../formats/canonical-json";
import type { Sha256 } from "../../ids";
import type { Engine } from "../contract";
import type { Job } from "../jobs";
import type { MergePlan } from "../plan";

export const PROVENANCE_PATH = "provenance.intoto.jsonl";

export type Build = {
  readonly publicUrl: string;
  readonly job: Pick<Job, "id" | "createdAt" | "startedAt">;
  readonly plan: MergePlan;
  readonly engine: Engine;
  /** Milliseconds since 1970. */
  readonly finishedAt: number;
};

const isoTime = (ms: number): string => new Date(ms).toISOString();

/** One line: the statement. `files`: everything the merge wrote, but this. */
export function provenance(
  { publicUrl, job, plan, engine, finishedAt }: Build,
  files: readonly { readonly path: string; readonly sha256: Sha256 }[],
): string {
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: files.map(({ path, sha256 }) => ({ name: path, digest: { sha256 } })),
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: "urn:owm:build:merge:1",
        externalParameters: { recipe: plan.recipe },
        internalParameters: {
          recipeSha256: plan.recipeSha256,
          programSha256: plan.program.sha256,
          seed: plan.seed,
          determinism: plan.determinism,
        },
        resolvedDependencies: plan.parents.flatMap(({ repo, commit, files: used }) =>
          used.map(({ path, sha256 }) => ({
            uri: `${publicUrl}/${repo}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`,
            digest: { sha256 },
            annotations: { repo, commit },
          })),
        ),
      },
      runDetails: {
        builder: {
          id: publicUrl,
          version: { [engine.name]: engine.version, ...(engine.torch == null ? {} : { torch: engine.torch }) },
        },
        metadata: {
          invocationId: `${publicUrl}/api/v1/jobs/${job.id}`,
          startedOn: isoTime(job.startedAt ?? job.createdAt),
          finishedOn: isoTime(finishedAt),
        },
      },
    },
  };
  return `${canonicalJson(statement)}\n`;
}
