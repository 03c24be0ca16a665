// A network between two services that does what a test tells it: holds a request at a chosen point, loses it, or sends it twice.
import { once } from "node:events";
import {
  type ClientRequest,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as openRequest,
  type Server,
  type ServerResponse,
} from "node:http";
import { pipeline } from "node:stream/promises";

const HOST = "127.0.0.1";

/** Where on its way a request is held. Nothing of it has reached the service at `arrived`, all of it at `answered`. */
export type Point = "arrived" | "half-sent" | "answered" | "half-answered" | "passed";

export type Match = { readonly method: string; readonly path: RegExp };

/** A request that stands still at its point until the test says how it goes on. */
export type Held = {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The request's bytes; empty unless the point is `arrived` or `answered` and they are few. */
  readonly body: Buffer;
  /** What the service answered; null before. */
  readonly status: number | null;
  /** As if nothing had happened. */
  release(): void;
  /** The caller sees its connection end; so does the service, if the request had not been passed on whole. */
  drop(): void;
};

type HoldFault = { readonly kind: "hold"; readonly point: Point; readonly reached: (held: Held) => void };
type Fault =
  | HoldFault
  | { readonly kind: "answer"; readonly status: number }
  | { readonly kind: "repeat"; readonly seen: (statuses: readonly number[]) => void };

/** A request that was answered; bytes are those of the bodies, as far as they have come. */
export type Passed = {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly sent: number;
  readonly received: number;
};

type Count = { bytes: number };

type Rule = { readonly match: Match; skip: number; left: number; readonly fault: Fault };

const MAX_KEPT_BODY = 1024 * 1024;

export class FaultyNetwork {
  /** Null: nobody listens there. */
  target: string | null = null;
  readonly url: string;
  readonly #server: Server;
  /** Parts of paths whose requests pass without faults: what earlier scenarios still send. */
  readonly leftAlone = new Set<string>();
  #rules: Rule[] = [];
  readonly #releases = new Set<() => void>();
  /** Every request that was answered, in order. */
  log: Passed[] = [];
  readonly #passesHost: boolean;

  private constructor(server: Server, port: number, passesHost: boolean) {
    this.#server = server;
    this.#passesHost = passesHost;
    this.url = `http://${HOST}:${port}`;
    server.on("request", (request, response) => {
      this.#serve(request, response).catch(() => cut(request, response));
    });
  }

  /** With `passHost` the service takes this for its own address, and the links that it hands out lead through here too. */
  static async start({ passHost = false } = {}): Promise<FaultyNetwork> {
    const server = createServer({ requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 1000 });
    server.listen(0, HOST);
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("a TCP server has a numeric port");
    return new FaultyNetwork(server, address.port, passHost);
  }

  async close(): Promise<void> {
    this.heal();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  /** Holds the next such request (after `skip` others) at the point. */
  hold(match: Match, point: Point, skip = 0): Promise<Held> {
    return new Promise((reached) => {
      this.#rules.push({ match, skip, left: 1, fault: { kind: "hold", point, reached } });
    });
  }

  /** Answers the next such requests itself, with an empty body. */
  answer(match: Match, status: number, times = 1): void {
    this.#rules.push({ match, skip: 0, left: times, fault: { kind: "answer", status } });
  }

  /** Sends the next such request twice, one after the other; the caller gets the second answer. */
  repeat(match: Match): Promise<readonly number[]> {
    return new Promise((seen) => {
      this.#rules.push({ match, skip: 0, left: 1, fault: { kind: "repeat", seen } });
    });
  }

  /** The statuses that such requests were answered with. */
  statuses(match: Match): number[] {
    return this.log
      .filter(({ method, path }) => method === match.method && match.path.test(path))
      .map(({ status }) => status);
  }

  /** No more faults; what is held goes on, and the log starts anew. */
  heal(): void {
    this.#rules = [];
    this.log = [];
    for (const release of [...this.#releases]) release();
  }

  #faultFor(method: string, path: string): Fault | null {
    for (const part of this.leftAlone) if (path.includes(part)) return null;
    const rule = this.#rules.find(({ match, left }) => left > 0 && match.method === method && match.path.test(path));
    if (rule === undefined) return null;
    if (rule.skip > 0) {
      rule.skip--;
      return null;
    }
    rule.left--;
    return rule.fault;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "GET", url = "/" } = request;
    const fault = this.#faultFor(method, url);
    if (fault?.kind === "answer") {
      const { length } = await readAll(request);
      response.writeHead(fault.status).end();
      this.#note(request, fault.status, { bytes: length }, { bytes: 0 });
    } else if (fault?.kind === "repeat") await this.#twice(request, response, fault.seen);
    else await this.#pass(request, response, fault);
  }

  #note(request: IncomingMessage, status: number, sent: Count, received: Count): void {
    this.log.push({
      method: request.method ?? "GET",
      path: request.url ?? "/",
      status,
      get sent() {
        return sent.bytes;
      },
      get received() {
        return received.bytes;
      },
    });
  }

  async #pass(request: IncomingMessage, response: ServerResponse, fault: HoldFault | null): Promise<void> {
    let status: number | null = null;
    const point = fault?.point;
    // What a test may want to read or send again; larger bodies only stream through.
    const keep = point === "arrived" || point === "answered";
    const body =
      keep && Number(request.headers["content-length"] ?? 0) <= MAX_KEPT_BODY ? await readAll(request) : null;
    const hold = () => this.#held(request, response, fault, body ?? Buffer.alloc(0), status);

    if (point === "arrived") await hold();
    const upstream = this.#open(request);
    response.once("close", () => upstream.destroy());
    const answered = once(upstream, "response");
    // A broken connection shows below, where the answer is awaited.
    answered.catch(() => undefined);
    const sent = { bytes: body?.length ?? 0 };
    const received = { bytes: 0 };
    if (body !== null) upstream.end(body);
    else
      pipeline(request, counted(request.headers, sent, point === "half-sent" ? hold : null), upstream).catch(() =>
        upstream.destroy(new Error("the request broke off")),
      );

    const [answer] = await answered;
    if (!isMessage(answer)) throw new Error("no answer");
    status = answer.statusCode ?? 502;
    this.#note(request, status, sent, received);
    if (point === "answered") await hold();
    response.writeHead(status, answer.headers);
    await pipeline(answer, counted(answer.headers, received, point === "half-answered" ? hold : null), response);
    if (point === "passed") await hold();
  }

  /** Waits for the test; throws when it wants the connection cut. */
  #held(
    request: IncomingMessage,
    response: ServerResponse,
    fault: HoldFault | null,
    body: Buffer,
    status: number | null,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const release = () => {
        this.#releases.delete(release);
        resolve();
      };
      const drop = () => {
        release();
        // Too late for a request that has passed: its connection may carry the next one.
        if (fault?.point !== "passed") reject(new Error("dropped by the test"));
        if (fault?.point !== "passed") cut(request, response);
      };
      this.#releases.add(release);
      fault?.reached({ path: request.url ?? "/", headers: request.headers, body, status, release, drop });
    });
  }

  async #twice(
    request: IncomingMessage,
    response: ServerResponse,
    seen: (statuses: readonly number[]) => void,
  ): Promise<void> {
    const body = await readAll(request);
    const statuses: number[] = [];
    for (let time = 1; time <= 2; time++) {
      const upstream = this.#open(request);
      const answered = once(upstream, "response");
      upstream.end(body);
      const [answer] = await answered;
      if (!isMessage(answer)) throw new Error("no answer");
      const status = answer.statusCode ?? 502;
      statuses.push(status);
      const bytes = await readAll(answer);
      this.#note(request, status, { bytes: body.length }, { bytes: bytes.length });
      if (time === 2) response.writeHead(status, answer.headers).end(bytes);
    }
    seen(statuses);
  }

  #open(request: IncomingMessage): ClientRequest {
    if (this.target === null) throw new Error("nobody listens there");
    const { host, ...others } = request.headers;
    const headers = this.#passesHost ? { ...others, host } : others;
    const upstream = openRequest(`${this.target}${request.url ?? "/"}`, {
      method: request.method ?? "GET",
      headers,
      agent: false,
    });
    // Broken connections show where the answer is awaited.
    upstream.on("error", () => undefined);
    return upstream;
  }
}

/** Passes everything on and counts it, with a pause once half of the announced length has gone. */
function counted(headers: IncomingHttpHeaders, passed: Count, hold: (() => Promise<void>) | null) {
  const half = Number(headers["content-length"] ?? 0) / 2;
  return async function* (source: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      if (!(chunk instanceof Uint8Array)) throw new Error("a body is bytes");
      yield chunk;
      const before = passed.bytes;
      passed.bytes += chunk.length;
      const isMiddle = before < half && passed.bytes >= half;
      if (isMiddle) await hold?.();
    }
  };
}

const isMessage = (value: unknown): value is IncomingMessage =>
  typeof value === "object" && value !== null && "statusCode" in value;

async function readAll(stream: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) if (chunk instanceof Uint8Array) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function cut(request: IncomingMessage, response: ServerResponse): void {
  request.destroy();
  response.destroy();
}
