// Loads a server with small requests over a few connections that stay open. (wrk would cost less, but waits for a HEAD's body.)
import { connect, type Socket } from "node:net";

const CONNECTIONS = 16;
const HEAD_END = "\r\n\r\n";
const LAST_CHUNK = "0\r\n\r\n";

export type Call = { readonly method: "GET" | "HEAD"; readonly url: string; readonly headers: Record<string, string> };

/** Whether an answer, which is ASCII, has come whole. */
function isWhole(answer: string, method: Call["method"]): boolean {
  const headEnd = answer.indexOf(HEAD_END);
  if (headEnd < 0) return false;
  if (method === "HEAD") return true;
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(answer)?.[1];
  if (length === undefined) return answer.endsWith(LAST_CHUNK);
  return answer.length >= headEnd + HEAD_END.length + Number(length);
}

/** Asks again and again on one connection, until `goesOn` says no; resolves to how often it was answered. */
function ask(socket: Socket, request: string, method: Call["method"], goesOn: () => boolean): Promise<number> {
  return new Promise((resolve, reject) => {
    let answer = "";
    let count = 0;
    socket.once("error", reject);
    socket.once("close", () => reject(new Error(`the connection was closed after ${count} answers: ${answer}`)));
    socket.on("data", (part: string) => {
      answer += part;
      if (!isWhole(answer, method)) return;
      if (!answer.startsWith("HTTP/1.1 200 ")) reject(new Error(`${request}was answered\n${answer}`));
      answer = "";
      count++;
      if (goesOn()) socket.write(request);
      else {
        resolve(count);
        socket.destroy();
      }
    });
    socket.write(request);
  });
}

/** Sends the call over and over for so many seconds; resolves to the number of answers, all of them 200. */
export async function load({ method, url, headers }: Call, seconds: number): Promise<number> {
  const { hostname, port, pathname, search, host } = new URL(url);
  const lines = Object.entries({ host, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  const request = `${method} ${pathname}${search} HTTP/1.1\r\n${lines.join("")}\r\n`;
  const end = performance.now() + seconds * 1000;
  const counts = await Promise.all(
    Array.from({ length: CONNECTIONS }, () => {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true }).setEncoding("latin1");
      return ask(socket, request, method, () => performance.now() < end);
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

export const describeLoad = (seconds: number): string => `${CONNECTIONS} connections for ${seconds} s`;
