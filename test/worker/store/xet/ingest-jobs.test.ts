// A job's output is ingested like any other file, and what it has from its parents is found by its lineage.
import { describe, expect, it, vi } from "vitest";
import { administrator, user } from "../../../kit/actors";
import { mergeOutputs, publishModel, safetensors } from "../../../kit/jobs";
import { MergeScenario } from "../../../kit/merge-scenario";
import { Backroom, digestOf, download } from "../../../kit/upkeep";
import { randomBytes } from "../../../kit/xet";

vi.setConfig({ testTimeout: 30_000 });
const scenario = new MergeScenario();

/** 1.2 MB of weights that do not repeat. */
const VALUES = Array.from(new Int16Array(randomBytes(5, 600_000).buffer));

describe("the output of a job", () => {
  it("is read as a Xet file, and costs what its parents do not have", async () => {
    const bob = await user(await administrator(), "bob");
    const parent = safetensors({ w: VALUES });
    await publishModel(bob, "bob/a", parent);
    await publishModel(bob, "bob/b", parent);
    const back = new Backroom();
    await back.run();
    const before = await back.packedBytes();

    // Of the parent all but the first numbers, with which the first chunk goes.
    const merged = safetensors({ w: [...VALUES.slice(0, 10).map((value) => value + 1), ...VALUES.slice(10)] });
    const request = { kind: "merge", method: "linear", a: "bob/a", b: "bob/b", lambda: 0.5 };
    const id = await scenario.hub.accept(scenario.ada, { ...request, output: { repo: "ada/merged", private: true } });
    await scenario.drive(id, undefined, mergeOutputs(merged));
    expect(scenario.hub.upkeepWoken).toBeGreaterThan(0);
    await back.run();
    const digest = digestOf(merged);
    expect(await back.holding("merged", digest)).toMatchObject({ state: "verified", known: digest });
    expect((await back.packedBytes()) - before).toBeLessThan(300_000);
    expect(digestOf(await download(scenario.ada, "ada/merged", "model.safetensors"))).toBe(digest);
  });
});
