// What fetching is made of: sets of ids, entries of packs, bands, and requests that mean what they say or are refused.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteSource } from "../../../../src/formats/git/byte-source";
import { IdSet } from "../../../../src/formats/git/id-set";
import { entryHeader, packEntry, packHeader } from "../../../../src/formats/git/pack-entry";
import { readPack } from "../../../../src/formats/git/pack-reader";
import { readPktLine } from "../../../../src/formats/git/pkt-line";
import { SideBand } from "../../../../src/formats/git/side-band";
import { parseCommand, parseFilter, parsePlainRequest } from "../../../../src/formats/git/upload-pack-request";
import { command, pkts } from "../../../kit/git-protocol";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const hex = fc.uint8Array({ minLength: 20, maxLength: 20 }).map((bytes) => bytes.toHex());

it("a set of ids is a set, in the order of what came first", () => {
  // Few different ones, so that some come again; many, so that it grows.
  const some = fc.integer({ min: 0, max: 900 }).map((n) => n.toString(16).padStart(40, "0"));
  fc.assert(
    fc.property(fc.array(fc.oneof(some, hex), { maxLength: 2000, size: "max" }), (ids) => {
      const set = new IdSet();
      const model = new Set<string>();
      for (const id of ids) {
        expect(set.has(id)).toBe(model.has(id));
        expect(set.add(id).added).toBe(!model.has(id));
        model.add(id);
      }
      expect(set.slice(0, set.size)).toEqual([...model]);
      expect([...model].map((id) => set.indexOf(id))).toEqual([...model].map((_, i) => i));
    }),
    { numRuns: 30 },
  );
  expect(() => new IdSet().add("abc")).toThrow(RangeError);
  expect(() => new IdSet().at(0)).toThrow(RangeError);
});

it("a pack of entries is read back", async () => {
  const objects = fc.array(
    fc.record({
      type: fc.constantFrom("commit", "tree", "blob", "tag" as const),
      content: fc.uint8Array({ maxLength: 5000, size: "max" }),
    }),
    { maxLength: 20 },
  );
  await fc.assert(
    fc.asyncProperty(objects, async (list) => {
      const { createHash } = await import("node:crypto");
      const body = Buffer.concat([
        packHeader(list.length),
        ...list.map(({ type, content }) => packEntry(type, content)),
      ]);
      const pack = Buffer.concat([body, createHash("sha1").update(body).digest()]);
      const pieces = [new Uint8Array(pack)];
      const source = new ByteSource(async () => pieces.shift());
      const limits = { objects: 100, objectBytes: 10_000, totalBytes: 1_000_000 };
      const entries = await readPack(source, limits, () => undefined);
      expect(entries.map(({ kind, size }) => ({ kind, size }))).toEqual(
        list.map(({ content }) => ({ kind: "whole", size: content.length })),
      );
    }),
    { numRuns: 30 },
  );
});

it("sizes of any length are told", () => {
  const sizeOf = (bytes: Uint8Array): number =>
    bytes.reduce((sum, byte, at) => sum + (at === 0 ? byte & 15 : (byte & 127) * 16 * 128 ** (at - 1)), 0);
  fc.assert(
    fc.property(fc.maxSafeNat(), (size) => {
      const bytes = entryHeader("blob", size);
      expect(sizeOf(bytes)).toBe(size);
      expect((bytes[0] ?? 0) & 0x70).toBe(3 << 4);
      expect([...bytes].map((byte) => byte >> 7)).toEqual([...bytes].map((_, at) => (at < bytes.length - 1 ? 1 : 0)));
    }),
  );
});

it("bands carry every byte in lines that are no longer than they may be", async () => {
  const pieces = fc.array(fc.uint8Array({ maxLength: 400, size: "max" }), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(pieces, fc.integer({ min: 6, max: 1000 }), async (parts, longest) => {
      const given: Uint8Array[] = [];
      const band = new SideBand(async (bytes) => {
        given.push(bytes);
      }, longest);
      for (const part of parts) await band.pack(part);
      await band.flush();
      const bytes = new Uint8Array(Buffer.concat(given));
      const content: Uint8Array[] = [];
      for (let at = 0; at < bytes.length; ) {
        const read = readPktLine(bytes, at);
        if (read?.line.kind !== "data") return expect.fail("no line of data");
        expect(read.next - at).toBeLessThanOrEqual(longest);
        expect(read.line.bytes[0]).toBe(1);
        content.push(read.line.bytes.subarray(1));
        at = read.next;
      }
      expect(Buffer.concat(content).equals(Buffer.concat(parts))).toBe(true);
    }),
    { numRuns: 50 },
  );
});

describe("requests", () => {
  const one = "1".repeat(40);
  const two = "2".repeat(40);

  it("of version 2", () => {
    const args = [`want ${one}`, `want ${one}`, `have ${two}`, `shallow ${two}`, "deepen 3", "deepen-relative"];
    expect(parseCommand(utf8(command("fetch", [...args, "filter blob:limit=1k", "include-tag", "done"])))).toEqual({
      kind: "fetch",
      request: {
        wants: [one],
        haves: [two],
        shallow: [two],
        deepening: { kind: "depth", depth: 3, relative: true },
        filter: { blobLimit: 1024, treeDepth: Number.POSITIVE_INFINITY },
        done: true,
        waitForDone: false,
        includeTag: true,
        noProgress: false,
      },
    });
  });

  it("of the versions before", () => {
    const body = pkts([
      `want ${one} multi_ack_detailed side-band-64k include-tag agent=x`,
      `want ${two}`,
      "0000",
      "done",
    ]);
    expect(parsePlainRequest(utf8(body))).toMatchObject({
      request: { wants: [one, two], includeTag: true, done: true },
      detailed: true,
      noDone: false,
      band: "large",
    });
  });

  it("filters", () => {
    const all = Number.POSITIVE_INFINITY;
    expect(parseFilter("blob:none")).toEqual({ blobLimit: 0, treeDepth: all });
    expect(parseFilter("blob:limit=2M")).toEqual({ blobLimit: 2 << 20, treeDepth: all });
    expect(parseFilter("combine:tree:3+blob%3Alimit=7")).toEqual({ blobLimit: 7, treeDepth: 3 });
    for (const bad of ["", "blob:limit=", "blob:limit=-1", "tree:x", "sparse:oid=a", "combine:%", "object:type=blob"])
      expect(() => parseFilter(bad)).toThrow(expect.objectContaining({ code: "git.request" }));
  });

  it("of random bytes and lines are read or refused, and nothing else", () => {
    const line = fc.oneof(
      fc.constantFrom(
        "0000",
        "0001",
        "command=fetch",
        "command=ls-refs",
        "done",
        `want ${one}`,
        "deepen 1",
        "deepen x",
      ),
      fc.string(),
    );
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.array(line, { maxLength: 8 }).map((lines) => utf8(pkts(lines))),
    );
    fc.assert(
      fc.property(body, (bytes) => {
        for (const parse of [parseCommand, parsePlainRequest])
          try {
            parse(bytes);
          } catch (error) {
            expect(error).toMatchObject({ name: "FormatError" });
          }
      }),
      { numRuns: 500 },
    );
  });
});
