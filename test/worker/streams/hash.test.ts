// The pump: every way a body can end, for every kind of body.
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { parseSha256 } from "../../../src/ids";
import { readAll } from "../../../src/streams/chunks";
import { pump } from "../../../src/streams/hash";
import { bodyOf, KINDS, pattern } from "./bodies";

const sha256 = (bytes: Uint8Array) => parseSha256(createHash("sha256").update(bytes).digest("hex"), "sha256");
const hubError = (code: string, fields: object) => expect.objectContaining({ name: "HubError", code, fields });
const SIZES = [0, 1, 4999, 1 << 20, (1 << 20) + 1, 3_500_000];

/** A receiver that keeps what it was given, as it was given: a pump that reused its buffer would be found out. */
function collector() {
  const state: { parts: Uint8Array[]; ended: string; reason: unknown } = {
    parts: [],
    ended: "open",
    reason: undefined,
  };
  const to = new WritableStream<Uint8Array>({
    write: (chunk) => void state.parts.push(chunk),
    close: () => {
      state.ended = "closed";
    },
    abort: (reason) => {
      state.ended = "aborted";
      state.reason = reason;
    },
  });
  return { to, state, bytes: async () => readAll(new Blob(state.parts).stream(), 1 << 30) };
}

describe.each(KINDS)("a %s body", (kind) => {
  test.each(SIZES)("of %i bytes is hashed and forwarded", async (size) => {
    const bytes = pattern(size);
    expect(await pump(bodyOf(kind, bytes, 70_001), { expectedSize: size })).toEqual({ size, sha256: sha256(bytes) });
    const { to, state, bytes: received } = collector();
    const pumped = await pump(bodyOf(kind, bytes, 70_001), { expectedSize: size, expectedSha256: sha256(bytes), to });
    expect(pumped).toEqual({ size, sha256: sha256(bytes) });
    expect(state.ended).toBe("closed");
    expect(sha256(await received())).toBe(sha256(bytes));
  });

  test("that is short", async () => {
    const { to, state } = collector();
    await expect(pump(bodyOf(kind, pattern(9000)), { expectedSize: 9001, to })).rejects.toEqual(
      hubError("size_mismatch", { actual: 9000, expected: 9001 }),
    );
    expect(state.ended).toBe("aborted");
    await expect(pump(bodyOf(kind, pattern(0)), { expectedSize: 1 })).rejects.toEqual(
      hubError("size_mismatch", { actual: 0, expected: 1 }),
    );
  });

  test("that is too long", async () => {
    const { to, state } = collector();
    await expect(pump(bodyOf(kind, pattern(9001)), { expectedSize: 9000, to })).rejects.toEqual(
      hubError("size_mismatch", { actual: "more than 9000", expected: 9000 }),
    );
    expect(state.ended).toBe("aborted");
  });

  test("that breaks off", async () => {
    const { to, state } = collector();
    const gone = new Error("connection lost");
    const pumping = pump(bodyOf(kind, pattern(9000), 5000, gone), { expectedSize: 10_000, to });
    await expect(pumping).rejects.toMatchObject({
      code: "body_interrupted",
      fields: { expected: 10_000 },
      cause: expect.any(Error),
    });
    expect(state.ended).toBe("aborted");
    expect(state.reason).toMatchObject({ code: "body_interrupted" });
  });

  test("with another digest than declared is not committed", async () => {
    const { to, state } = collector();
    const declared = sha256(pattern(1));
    await expect(pump(bodyOf(kind, pattern(100)), { expectedSize: 100, expectedSha256: declared, to })).rejects.toEqual(
      hubError("digest_mismatch", { actual: sha256(pattern(100)), expected: declared }),
    );
    expect(state.ended).toBe("aborted");
  });
});

test("an endless body is refused, and told to stop", async () => {
  let cancelled: unknown;
  const endless = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(1000)),
    cancel: (reason) => {
      cancelled = reason;
    },
  });
  await expect(pump(endless, { expectedSize: 5000 })).rejects.toMatchObject({ code: "size_mismatch" });
  expect(cancelled).toMatchObject({ code: "size_mismatch" });
});

test("a failing receiver's error comes through as it is", async () => {
  const full = new Error("disk full");
  const to = new WritableStream<Uint8Array>({ write: () => Promise.reject(full) });
  await expect(pump(bodyOf("native", pattern(3_000_000)), { expectedSize: 3_000_000, to })).rejects.toBe(full);
});

test("forwards through a FixedLengthStream at the reader's pace", async () => {
  const bytes = pattern(3_000_000);
  const { readable, writable } = new FixedLengthStream(bytes.length);
  const [pumped, received] = await Promise.all([
    pump(bodyOf("native", bytes, 100_000), { expectedSize: bytes.length, to: writable }),
    new Response(readable).bytes(),
  ]);
  expect(pumped.sha256).toBe(sha256(bytes));
  expect(sha256(received)).toBe(pumped.sha256);
});

test("a short body breaks the FixedLengthStream off instead of ending it", async () => {
  const { readable, writable } = new FixedLengthStream(100);
  const received = new Response(readable).bytes().then(
    () => "complete",
    () => "broken",
  );
  await expect(pump(bodyOf("native", pattern(50)), { expectedSize: 100, to: writable })).rejects.toMatchObject({
    code: "size_mismatch",
  });
  expect(await received).toBe("broken");
});

test("a body of strings is refused", async () => {
  const strings = new Response("x").body?.pipeThrough(new TextDecoderStream());
  // The types forbid it, JavaScript does not.
  const untyped: ReadableStream = strings ?? expect.fail("no body");
  await expect(pump(untyped, { expectedSize: 1 })).rejects.toMatchObject({ code: "body_interrupted" });
});

test("a receiver that gives up without reading ends the pump", async () => {
  const { writable } = new FixedLengthStream(3_500_000);
  const gaveUp = new AbortController();
  const body = bodyOf("bytes", pattern(3_500_000), 70_001);
  const pumped = pump(body, { expectedSize: 3_500_000, to: writable, signal: gaveUp.signal });
  gaveUp.abort(new Error("the bucket is busy"));
  await expect(pumped).rejects.toThrow("the bucket is busy");
});

describe("readAll", () => {
  test.each(KINDS)("gives a %s body whole, up to the limit", async (kind) => {
    const bytes = pattern(2_500_000);
    expect(sha256(await readAll(bodyOf(kind, bytes, 300_000), bytes.length))).toBe(sha256(bytes));
    await expect(readAll(bodyOf(kind, bytes, 300_000), bytes.length - 1)).rejects.toMatchObject({
      code: "payload_too_large",
    });
  });

  test("no body is an empty one", async () => {
    expect(await readAll(null, 0)).toEqual(new Uint8Array());
  });
});
