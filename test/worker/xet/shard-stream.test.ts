// The answer to a shard whose checks take long: signs of life, progress, and one last line that says how it ended.
import { describe, expect, it } from "vitest";
import { HubError } from "../../../src/errors";
import { asHubError } from "../../../src/surfaces/as-hub-error";
import { answerShard, type Registration } from "../../../src/surfaces/xet/shard-stream";

/** Work that ends when it is told to. */
function slow(): { register: Registration; end: (error?: unknown) => void } {
  const gate = Promise.withResolvers<void>();
  const register: Registration = async (report) => {
    report({ verified: 3, total: 7 });
    await gate.promise;
    return { existed: false };
  };
  return { register, end: (error) => (error === undefined ? gate.resolve() : gate.reject(error)) };
}

const answer = (register: Registration, heartbeatMs: number): Promise<Response> =>
  answerShard({ defer: () => {} }, register, (failure) => asHubError(failure, "request"), heartbeatMs);

/** Reads some lines, then lets the work end, and reads the rest. */
async function linesOf(response: Response, end: () => void): Promise<unknown[]> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done = true, value } = (await reader?.read()) ?? {};
    if (done) break;
    text += decoder.decode(value, { stream: true });
    if (text.split("\n").length > 3) end();
  }
  expect(text.endsWith("\n")).toBe(true);
  return text
    .slice(0, -1)
    .split("\n")
    .map((line): unknown => JSON.parse(line));
}

describe("a shard that takes long to check", () => {
  it("shows progress until it ends with its result", async () => {
    const { register, end } = slow();
    const lines = await linesOf(await answer(register, 5), () => end());
    expect(lines.length).toBeGreaterThan(3);
    expect(lines.pop()).toEqual({ type: "result", result: 1 });
    for (const line of lines) expect(line).toEqual({ type: "validating", verified: 3, total: 7 });
  });

  it.each([
    [new HubError("xet_shard_invalid", { problem: "it lies" }), "xet_shard_invalid", false],
    [new HubError("xet_retry"), "xet_retry", true],
    [new Error("a secret of the hub"), "internal", true],
  ])("that turns out to be wrong ends with the error: %s", async (error, code, retryable) => {
    const { register, end } = slow();
    const lines = await linesOf(await answer(register, 5), () => end(error));
    expect(lines.at(-1)).toEqual({ type: "error", code, message: expect.any(String), retryable });
    expect(JSON.stringify(lines)).not.toContain("a secret of the hub");
  });
});

describe("a shard that is soon checked", () => {
  it("is answered by one line", async () => {
    const response = await answer(async () => ({ existed: true }), 60_000);
    expect(await linesOf(response, () => {})).toEqual([{ type: "result", result: 0 }]);
  });

  it("has an error with a status of its own", async () => {
    const failing = answer(() => Promise.reject(new HubError("xet_shard_invalid", { problem: "it lies" })), 60_000);
    await expect(failing).rejects.toMatchObject({ code: "xet_shard_invalid", status: 400 });
  });
});
