// Xorbs as the stock client builds them, and the requests that bring them to a hub.
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import type { HubClient } from "./hub-client.ts";
import { type Content, makeFile, onNewMachine, writeLocally } from "./stock-client.ts";
import { send } from "./transfer.ts";

const XORB_MIB = 64;
const XORB_NAME = /^default\.([0-9a-f]{64})$/;

const connectionShape = z.object({ casUrl: z.url(), accessToken: z.string() });

export type Xorb = { readonly hash: string; readonly body: Buffer };

/** So many xorbs of about 64 MiB of content each, no two alike, the way the Xet library writes them to its own disk: with a footer. */
export async function buildXorbs(folder: string, content: Content, count: number, seed: number): Promise<Xorb[]> {
  const file = join(folder, "for-xorbs");
  const store = join(folder, "xorbs");
  await makeFile(file, content, count * XORB_MIB, seed);
  await onNewMachine(folder, (home) => writeLocally(home, store, file));
  const place = join(store, "xet", "xorbs", "xorbs");
  const xorbs = readdirSync(place).flatMap((name): Xorb[] => {
    const hash = XORB_NAME.exec(name)?.[1];
    return hash === undefined ? [] : [{ hash, body: readFileSync(join(place, name)) }];
  });
  rmSync(file);
  rmSync(store, { recursive: true });
  // The last one may be a remainder of any size.
  return xorbs.toSorted((a, b) => b.body.length - a.body.length).slice(0, count);
}

/** A Xet client of one repository. */
export class XetConnection {
  readonly #casUrl: string;
  readonly #headers: Record<string, string>;

  private constructor(casUrl: string, token: string) {
    this.#casUrl = casUrl;
    this.#headers = { authorization: `Bearer ${token}` };
  }

  static async open(client: HubClient, repo: string): Promise<XetConnection> {
    const route = `/api/models/${repo}/xet-write-token/main`;
    const { casUrl, accessToken } = await client.call("GET", route, undefined, connectionShape);
    return new XetConnection(casUrl, accessToken);
  }

  async sendXorb({ hash, body }: Xorb): Promise<void> {
    await send("POST", `${this.#casUrl}/v1/xorbs/default/${hash}`, [body], body.length, this.#headers);
  }

  async sendShard(shard: Buffer): Promise<void> {
    await send("POST", `${this.#casUrl}/v2/shards`, [shard], shard.length, this.#headers);
  }
}
