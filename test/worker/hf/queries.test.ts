// How often hot routes ask D1: each question is a round trip to the primary.
import { beforeEach, expect, it } from "vitest";
import { administrator, anonymous, type Client, fileLine, user } from "../../kit/actors";
import { countRoundTrips } from "../../kit/round-trips";

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
