// Whatever is sent to whatever address: an answer in the protocol, never a failure of the hub.
import { beforeEach, describe, expect, it } from "vitest";
import { app } from "../../../src/app";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";

/** What stands where an address names something. */
const NAMES = [
  "alice",
  "%2e%2e",
  "..%2f..%2fetc%2fpasswd",
  "refs%2Fheads%2Fmain",
  "refs%2Fpr%2F99999999999999999999",
  "%00",
  "%F0%9F%92%A9",
  "%",
  "%C0%AF",
  "a".repeat(300),
  "-1",
  "1e309",
  "CON",
  "%27%20or%201%3D1",
];
const QUERIES = [
  "",
  "?limit=-1&p=-1&cursor=AAAA&expand=nothing&sort=nothing",
  "?limit=1e9&p=1e300&cursor=%00&status=x&type=x&filter=%00",
  "?cursor=&search=%25_%5B%00&num_parameters=min:x,max:-1&recursive=maybe&expand[]=",
];
const deep = (levels: number): string => `${"[".repeat(levels)}${"]".repeat(levels)}`;
const BODIES = [
  undefined,
  "",
  "null",
  "[]",
  '"text"',
  "{}",
  "{",
  deep(5000),
  '{"name":null,"type":"space","title":1,"paths":{},"files":[null],"item":[],"user":{},"status":"x","watched":"x","fromRepo":1,"toRepo":[]}',
  '{"name":"a/b/c","organization":"..","title":"x","content":"\\u0000","comment":"","tag":"..","repository":"x","message":null,"deletions":{"sha":[{}]}}',
  '{"__proto__":{"x":1},"constructor":1,"title":"\\ud800","name":"\\ud800","tag":"\\ud800"}',
];
const JSON_TYPE = "application/json";
const OTHER_TYPES = ["application/x-ndjson", "application/x-www-form-urlencoded", "text/plain"];

/** Every address that the hub serves, each once a method. */
const routes = [
  ...new Map(app.routes.map(({ method, path }) => [`${method} ${path}`, { method, path }])).values(),
].filter(({ method, path }) => method !== "ALL" && path !== "/healthz");

/** The `n`-th way to fill the address's places; one that names the repository which exists, where `known`. */
function filled(path: string, n: number, known: boolean): string {
  let place = 0;
  return path.replace(/:(\w+)(\{[^}]*\})?\??|\*/g, (_, name: string | undefined) => {
    place += 1;
    if (known && name === "owner") return "alice";
    if (known && name === "name") return path.includes("/info/") ? "model.git" : "model";
    return NAMES[(n * 7 + place * 3) % NAMES.length] ?? "x";
  });
}

let alice: Client;

beforeEach(async () => {
  alice = await user(await administrator(), "alice");
  await alice.post("/api/repos/create", { name: "model" });
  await alice.commit("alice/model", [fileLine("README.md", "---\nlicense: mit\n---\n"), fileLine("a/b.txt", "b")]);
});

/** The n-th request of a route. Bodies, names, queries and senders take turns at different paces, so that all meet. */
async function send({ method, path }: { method: string; path: string }, n: number): Promise<string[]> {
  const address = `${filled(path, n, n % 3 !== 0)}${QUERIES[n % QUERIES.length]}`;
  const body = method === "GET" || method === "HEAD" ? undefined : BODIES[n % BODIES.length];
  const who = n % 5 === 0 ? anonymous : alice;
  const response = await who.raw(method, address, {
    headers: {
      "content-type": n % 4 === 1 ? (OTHER_TYPES[(n >> 2) % 3] ?? JSON_TYPE) : JSON_TYPE,
      accept: n % 2 === 0 ? "*/*" : JSON_TYPE,
    },
    ...(body === undefined ? {} : { body }),
  });
  const text = new TextDecoder().decode(await response.arrayBuffer());
  const said = `${method} ${address.slice(0, 200)} ← ${body?.slice(0, 60)} → ${response.status} ${text.slice(0, 200)}`;
  const failed = response.status >= 500 && response.status !== 501;
  const isJson = response.headers.get("content-type")?.includes("json") === true;
  const inProtocol =
    response.status < 400 || !address.startsWith("/api/") || !isJson || method === "HEAD" || text.startsWith("{");
  return failed || !inProtocol ? [said] : [];
}

describe("any input", () => {
  it("reaches more than a hundred addresses", () => {
    expect(routes.length).toBeGreaterThan(100);
  });

  it.each(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])(
    "by %s is answered",
    { timeout: 120_000 },
    async (method) => {
      const wrong: string[] = [];
      for (const route of routes.filter((one) => one.method === method))
        for (let n = 0; n < (method === "GET" ? 9 : BODIES.length); n++) {
          // A repository that a request deleted is there again for the next.
          if (method === "DELETE" || route.path.includes("move"))
            await alice.post("/api/repos/create", { name: "model" });
          wrong.push(...(await send(route, n)));
        }
      expect(wrong).toEqual([]);
    },
  );
});
