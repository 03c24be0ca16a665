// How often hot routes ask D1: each question is a round trip to the primary.
import { beforeEach, expect, it } from "vitest";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";
import { countRoundTrips, countRowsRead } from "../../kit/round-trips";

const REPO = "ada/digits";
let ada: Client;

beforeEach(async () => {
  ada = await user(await administrator(), "ada");
  await ada.post("/api/repos/create", { name: "digits", private: true });
  await ada.commit(REPO, [fileLine("config.json", "{}"), fileLine("deep/er/file.txt", "text")]);
  // The token's day of last use is written once a day, after the answer.
  await ada.get("/api/whoami-v2");
});

async function queriesOf(client: Client, method: string, path: string): Promise<number> {
  const { d1, result } = await countRoundTrips(() => client.raw(method, path));
  await result.arrayBuffer();
  expect(result.status).toBe(200);
  return d1;
}

const HOT: [string, string, number][] = [
  ["HEAD", `/${REPO}/resolve/main/deep/er/file.txt`, 2],
  ["GET", `/${REPO}/resolve/main/config.json`, 2],
  ["GET", `/api/models/${REPO}`, 3],
  ["GET", `/api/models/${REPO}/revision/main`, 3],
  ["GET", `/api/models/${REPO}/tree/main?recursive=true`, 3],
];
for (const [method, path, most] of HOT)
  it(`${method} ${path} asks D1 ${most} times with a token, one less without`, async () => {
    expect(await queriesOf(ada, method, path)).toBe(most);
    await ada.send("PUT", `/api/models/${REPO}/settings`, { private: false });
    expect(await queriesOf(anonymous, method, path)).toBe(most - 1);
  });

it("a file or a page of a large folder costs what it is, not what the folder is", async () => {
  const files = Array.from({ length: 600 }, (_, i) =>
    fileLine(`many/more/${String(i).padStart(3, "0")}.txt`, String(i)),
  );
  expect((await ada.commit(REPO, files)).status).toBe(200);
  const first = await ada.raw("GET", `/api/models/${REPO}/tree/main/many/more?limit=10`);
  const [, next = ""] = /<([^>]+)>/.exec(first.headers.get("link") ?? "") ?? [];
  for (const path of [
    `/${REPO}/resolve/main/many/more/599.txt`,
    `/api/models/${REPO}/tree/main/many/more?limit=10`,
    next,
  ]) {
    const { read, result } = await countRowsRead(() => ada.raw("GET", path));
    await result.arrayBuffer();
    expect([path, result.status, read < 150]).toEqual([path, 200, true]);
  }
});
