// Users of the running hub, made by its administrator: each test file works as people of its own.
import { randomBytes } from "node:crypto";
import { inject } from "vitest";
import * as z from "zod";

export type Person = { readonly name: string; readonly token: string };

const TokenAnswer = z.object({ token: z.string().startsWith("hf_") });

/** A call to the hub's own API. @throws unless the answer is a success */
export async function callHub(method: string, path: string, body?: unknown, token = inject("token")): Promise<unknown> {
  const response = await fetch(`${inject("endpoint")}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} → ${response.status}: ${text}`);
  return text === "" ? null : JSON.parse(text);
}

/** A new user with a token; the name is unique to this run of the tests. */
export async function newPerson(name: string, scope: "read" | "write" | "admin" = "write"): Promise<Person> {
  const unique = `${name}-${randomBytes(4).toString("hex")}`;
  await callHub("POST", "/users", { name: unique });
  return { name: unique, token: await newToken(unique, scope) };
}

export async function newToken(user: string, scope: "read" | "write" | "admin"): Promise<string> {
  return TokenAnswer.parse(await callHub("POST", `/users/${user}/tokens`, { name: "test", scope, days: 1 })).token;
}
