// Lines of JSON out of bodies cut anywhere, and the bounds that keep a hostile one cheap.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { jsonNestsDeeperThan, type NdjsonOptions, readNdjson } from "../../../src/streams/ndjson";
import { bodyOf, KINDS } from "./bodies";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const code = (expected: string, line: number) =>
  expect.objectContaining({ name: "FormatError", code: `ndjson.${expected}`, line });

async function linesOf(body: ReadableStream<Uint8Array>, options: NdjsonOptions = { maxLineBytes: 1000 }) {
  const lines: { line: number; text: string }[] = [];
  for await (const line of readNdjson(body, options)) lines.push(line);
  return lines;
}
const read = (text: string | Uint8Array, options?: NdjsonOptions) =>
  linesOf(bodyOf("native", typeof text === "string" ? utf8(text) : text), options);

test.each([
  ["with a last line feed", '{"a":1}\n{"b":2}\n'],
  ["without", '{"a":1}\n{"b":2}'],
  ["with trailing blank lines", '{"a":1}\n{"b":2}\n\n \t\r\n'],
])("two lines %s", async (_, text) => {
  expect(await read(text)).toEqual([
    { line: 1, text: '{"a":1}' },
    { line: 2, text: '{"b":2}' },
  ]);
});

test("an empty body has no lines", async () => {
  expect(await read("")).toEqual([]);
  expect(await read("\n")).toEqual([]);
});

test.each(KINDS)("any lines come back from a %s body cut anywhere", async (kind) => {
  const line = fc.json({ maxDepth: 3 }).filter((text) => !text.includes("\n"));
  await fc.assert(
    fc.asyncProperty(fc.array(line), fc.integer({ min: 1, max: 50 }), async (lines, piece) => {
      const expected = lines.map((text, at) => ({ line: at + 1, text }));
      expect(await linesOf(bodyOf(kind, utf8(lines.join("\n")), piece), { maxLineBytes: 10_000 })).toEqual(expected);
    }),
    { numRuns: 40 },
  );
});

test("lines longer than the read buffer", async () => {
  const long = `"${"A".repeat(14_000_000)}"`;
  const lines = await read(`${long}\n1\n${long}`, { maxLineBytes: 14_000_002 });
  expect(lines.map(({ line, text }) => [line, text.length])).toEqual([
    [1, 14_000_002],
    [2, 1],
    [3, 14_000_002],
  ]);
});

describe("refused", () => {
  test.each([
    ["a blank line", "1\n\n2", "blank_line", 2],
    ["a line of spaces first", "  \n1", "blank_line", 1],
    ["a long line", `1\n${"2".repeat(1001)}\n3`, "line_too_long", 2],
    ["a long last line", `1\n${"2".repeat(1001)}`, "line_too_long", 2],
    ["deep arrays", `1\n${"[".repeat(33)}${"]".repeat(33)}`, "too_deep", 2],
    ["deep objects", `${'{"a":'.repeat(33)}1${"}".repeat(33)}`, "too_deep", 1],
  ])("%s", async (_, text, expected, line) => {
    await expect(read(text)).rejects.toEqual(code(expected, line));
  });

  test.each([[[0xff]], [[0xc0, 0xaf]], [[0xed, 0xa0, 0x80]], [[0xe2, 0x82]]])(
    "bytes %j that are not UTF-8",
    async (bytes) => {
      await expect(read(new Uint8Array([0x31, 0x0a, 0x22, ...bytes, 0x22, 0x0a]))).rejects.toEqual(code("utf8", 2));
    },
  );

  test("an endless line is refused long before it ends, and its source told to stop", async () => {
    let sent = 0;
    let cancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        sent += 1000;
        controller.enqueue(new Uint8Array(1000).fill(0x31));
      },
      cancel: () => {
        cancelled = true;
      },
    });
    await expect(linesOf(endless, { maxLineBytes: 10_000 })).rejects.toEqual(code("line_too_long", 1));
    expect(sent).toBeLessThan(20_000);
    expect(cancelled).toBe(true);
  });

  test("a broken connection is no end of input", async () => {
    const seen: number[] = [];
    const reading = async () => {
      for await (const { line } of readNdjson(bodyOf("chunks", utf8("1\n2\n3"), 2, new Error("lost")), {
        maxLineBytes: 10,
      }))
        seen.push(line);
    };
    await expect(reading()).rejects.toMatchObject({ code: "body_interrupted" });
    expect(seen).toEqual([1, 2]);
  });
});

test("leaving the loop early cancels the body", async () => {
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(utf8("1\n2\n")),
    cancel: () => {
      cancelled = true;
    },
  });
  for await (const { line } of readNdjson(body, { maxLineBytes: 10 })) if (line === 3) break;
  expect(cancelled).toBe(true);
});

describe("jsonNestsDeeperThan", () => {
  test.each([
    ['{"a":[1,{"b":2}]}', 3],
    ['"[[[["', 0],
    ['{"a\\"[[[":"\\\\","b":"]["}', 1],
    ["[[],[[]],[]]", 3],
    ["1", 0],
    ['["unclosed [[[', 1],
  ])("%s nests %i deep", (text, depth) => {
    expect(jsonNestsDeeperThan(text, depth)).toBe(false);
    if (depth > 0) expect(jsonNestsDeeperThan(text, depth - 1)).toBe(true);
  });

  test("agrees with a parsed value", () => {
    const depthOf = (value: unknown): number =>
      typeof value === "object" && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        const text = JSON.stringify(value);
        expect(jsonNestsDeeperThan(text, depthOf(value))).toBe(false);
        if (depthOf(value) > 0) expect(jsonNestsDeeperThan(text, depthOf(value) - 1)).toBe(true);
      }),
    );
  });

  test("is linear where every quote is escaped", () => {
    const started = performance.now();
    jsonNestsDeeperThan(`"${'\\"'.repeat(2_000_000)}"`, 3);
    jsonNestsDeeperThan(`"${"\\".repeat(4_000_000)}"`, 3);
    expect(performance.now() - started).toBeLessThan(2000);
  });
});
