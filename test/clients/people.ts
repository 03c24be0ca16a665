// Users of the running hub, made by its administrator: each test file works as people of its own.
import { randomBytes } from "node:crypto";
import { inject } from "vitest";
import * as z from "zod";

export type Person = { readonly name: string; readonly token: string };

const TokenAnswer = z.object({ token: z.string().startsWith("hf_") });

export type Administered = { readonly endpoint: string; readonly token: string };

/** The hub that all client tests share, as its administrator. */
export const sharedHub = (): Administered => ({ endpoint: inject("endpoint"), token: inject("token") });

/** A call to the hub's own API. @throws unless the answer is a success */
export async function callHub(hub: Administered, method: string, path: string, body?: unknown): Promise<unknown> {
  const response = await fetch(`${hub.endpoint}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${hub.token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} → ${response.status}: ${text}`);
  return text === "" ? null : JSON.parse(text);
}

/** A new user with a token; the name is unique to this run of the tests. */
export async function newPerson(name: string, scope: "read" | "write" | "admin" = "write"): Promise<Person> {
  const unique = `${name}-${randomBytes(4).toString("hex")}`;
  await callHub(sharedHub(), "POST", "/users", { name: unique });
  return { name: unique, token: await newToken(unique, scope) };
}

export async function newToken(user: string, scope: "read" | "write" | "admin"): Promise<string> {
  const wanted = { name: "test", scope, days: 1 };
  return TokenAnswer.parse(await callHub(sharedHub(), "POST", `/users/${user}/tokens`, wanted)).token;
}
