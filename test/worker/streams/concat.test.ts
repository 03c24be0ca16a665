// Several streams as one: the bytes in order, and every failure seen by the reader.
import fc from "fast-check";
import { expect, test } from "vitest";
import { concatStreams } from "../../../src/streams/concat";
import { bodyOf, pattern } from "./bodies";

const whole = (stream: ReadableStream<Uint8Array>) => new Response(stream).bytes();

/** Parts as the store and fetch give them, and as JavaScript makes them. */
const KINDS = ["stored", "bytes", "chunks"] as const;
const part =
  (bytes: Uint8Array, kind: (typeof KINDS)[number] = "stored") =>
  async () =>
    kind === "stored" ? new Blob([bytes]).stream() : bodyOf(kind, bytes);

test("any parts of any kind come out in order", async () => {
  const parts = fc.array(fc.tuple(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(...KINDS)), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(parts, async (list) => {
      const expected = new Uint8Array(list.flatMap(([bytes]) => [...bytes]));
      const stream = concatStreams(
        list.map(([bytes, kind]) => part(bytes, kind)),
        expected.length,
      );
      expect(await whole(stream)).toEqual(expected);
    }),
    { numRuns: 50 },
  );
});

test("parts are opened one at a time, each when the one before is read", async () => {
  const events: string[] = [];
  const open = (name: string) => async () => {
    events.push(`open ${name}`);
    return part(pattern(10_000))();
  };
  const reader = concatStreams([open("a"), open("b")], 20_000).getReader();
  await reader.read();
  await scheduler.wait(20);
  expect(events).toEqual(["open a"]);
  for (let done = false; !done; ) done = (await reader.read()).done;
  expect(events).toEqual(["open a", "open b"]);
});

test.each([
  ["the first part cannot be opened", [() => Promise.reject(new Error("gone"))], 10],
  ["a later part cannot be opened", [part(pattern(5)), () => Promise.reject(new Error("gone"))], 10],
  ["a part breaks off", [part(pattern(5)), async () => bodyOf("chunks", pattern(3), 2, new Error("lost"))], 10],
  ["the parts are too short", [part(pattern(5)), part(pattern(4))], 10],
  ["the parts are too long", [part(pattern(5)), part(pattern(6))], 10],
  ["there are no parts", [], 1],
])("the output breaks when %s", async (_, parts, length) => {
  await expect(whole(concatStreams(parts, length))).rejects.toThrow();
});

test("a reader that leaves stops the source, and later parts stay closed", async () => {
  let cancelled = false;
  let opened = false;
  const endless = async () =>
    new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(1000)),
      cancel: () => {
        cancelled = true;
      },
    });
  const later = async () => {
    opened = true;
    return part(pattern(1))();
  };
  const reader = concatStreams([endless, later], 1_000_000).getReader();
  await reader.read();
  await reader.cancel("enough");
  await scheduler.wait(20);
  expect([cancelled, opened]).toEqual([true, false]);
});
