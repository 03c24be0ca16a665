// A client that costs little: it reads a body into one buffer and sends one from memory, so that the server is what is timed.
import { createHash, type Hash } from "node:crypto";
import { request } from "node:http";
import { connect } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { MIB } from "./bytes.ts";

const HEAD_END = "\r\n\r\n";

export type GetOptions = { readonly headers?: Record<string, string>; readonly hash?: Hash };

/** Reads the status line and the length; undefined while the head has not come whole. */
function parseHead(text: string): { bodyAt: number; length: number } | undefined {
  const end = text.indexOf(HEAD_END);
  if (end < 0) return undefined;
  const head = text.slice(0, end);
  if (!head.startsWith("HTTP/1.1 200 ")) throw new Error(`the download was answered: ${head.split("\r\n")[0]}`);
  const length = /^content-length: (\d+)$/im.exec(head)?.[1];
  if (length === undefined) throw new Error("the download has no Content-Length");
  return { bodyAt: end + HEAD_END.length, length: Number(length) };
}

/** GETs the address over a connection of its own and drops the bytes; resolves to their number once all have come. */
export function get(address: string, { headers = {}, hash }: GetOptions = {}): Promise<number> {
  const { hostname, port, pathname, search, host } = new URL(address);
  return new Promise((resolve, reject) => {
    let head = "";
    let expected = -1;
    let received = 0;
    const body = (bytes: Buffer): void => {
      hash?.update(bytes);
      received += bytes.length;
      if (received < expected) return;
      resolve(received);
      socket.destroy();
    };
    const take = (bytes: Buffer): void => {
      if (expected >= 0) {
        body(bytes);
        return;
      }
      const from = head.length;
      head += bytes.toString("latin1");
      const parsed = parseHead(head);
      if (parsed === undefined) return;
      expected = parsed.length;
      body(bytes.subarray(parsed.bodyAt - from));
    };
    const socket = connect({
      host: hostname,
      port: Number(port),
      onread: {
        buffer: Buffer.alloc(MIB),
        callback: (count, buffer) => {
          try {
            take(Buffer.from(buffer.buffer, buffer.byteOffset, count));
          } catch (error) {
            reject(error);
            socket.destroy();
          }
          return true;
        },
      },
    });
    socket.once("error", reject);
    socket.once("close", () => reject(new Error(`${address} broke off after ${received} of ${expected} bytes`)));
    const lines = Object.entries({ host, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`GET ${pathname}${search} HTTP/1.1\r\n${lines.join("")}\r\n`);
  });
}

export async function sha256At(address: string, headers: Record<string, string> = {}): Promise<string> {
  const hash = createHash("sha256");
  await get(address, { headers, hash });
  return hash.digest("hex");
}

/** PUTs a body of known size; resolves to the ETag of the answer, or to nothing where it has none. */
export async function put(
  address: string,
  chunks: Iterable<Buffer> | AsyncIterable<Buffer>,
  size: number,
): Promise<string | undefined> {
  return (await send("PUT", address, chunks, size)).etag;
}

/** Sends a body of known size and reads the answer. */
export async function send(
  method: "PUT" | "POST",
  address: string,
  chunks: Iterable<Buffer> | AsyncIterable<Buffer>,
  size: number,
  headers: Record<string, string> = {},
): Promise<{ readonly text: string; readonly etag: string | undefined }> {
  const body = Readable.from(chunks, { objectMode: false, highWaterMark: MIB });
  const outgoing = request(address, { method, headers: { ...headers, "content-length": size } });
  const answered = new Promise<{ status: number; text: string; etag: string | undefined }>((resolve, reject) => {
    outgoing.once("error", reject);
    outgoing.once("response", async (response) => {
      const parts: string[] = [];
      for await (const part of response.setEncoding("utf8")) parts.push(String(part));
      resolve({ status: response.statusCode ?? 0, text: parts.join(""), etag: response.headers.etag });
    });
  });
  const [{ status, text, etag }] = await Promise.all([answered, pipeline(body, outgoing)]);
  if (status !== 200) throw new Error(`the upload was answered ${status}: ${text}`);
  return { text, etag };
}
