// The shared hub behind an address of its own on which every request is counted, and can be held: what did the client really do?
import { afterAll, beforeAll, inject } from "vitest";
import { FaultyNetwork, type Match, type Passed } from "../faults/proxy.ts";

const XORB: Match = { method: "POST", path: /^\/cas\/v1\/xorbs\/default\/[0-9a-f]{64}$/ };
const SHARD: Match = { method: "POST", path: /^\/cas\/v[12]\/shards$/ };
const RECONSTRUCTION: Match = { method: "GET", path: /^\/cas\/v[12]\/reconstructions\// };
const DATA: Match = { method: "GET", path: /^\/cas\/objects\// };
const LFS: Match = { method: "POST", path: /\/info\/lfs\/objects\/batch$/ };
export const REQUESTS = { XORB, SHARD, RECONSTRUCTION, DATA, LFS };

const fits =
  ({ method, path }: Match) =>
  (one: Passed): boolean =>
    one.method === method && path.test(one.path);

/** What was asked for since the last time; bytes are those of bodies. */
export type Traffic = {
  readonly all: readonly Passed[];
  /** Xorbs that were taken. */
  readonly xorbs: number;
  readonly xorbBytes: number;
  readonly shards: number;
  readonly reconstructions: number;
  readonly dataBytes: number;
  readonly lfsCalls: number;
  /** Of all requests together. */
  readonly sentBytes: number;
};

export type RecordedHub = {
  readonly endpoint: string;
  readonly network: FaultyNetwork;
  /** What has passed since it was last asked. */
  traffic(): Traffic;
};

const sum = (rows: readonly Passed[], of: "sent" | "received"): number =>
  rows.reduce((total, one) => total + one[of], 0);

function trafficOf(all: readonly Passed[]): Traffic {
  const xorbs = all.filter(fits(XORB)).filter(({ status }) => status === 200);
  return {
    all,
    xorbs: xorbs.length,
    xorbBytes: sum(xorbs, "sent"),
    shards: all.filter(fits(SHARD)).filter(({ status }) => status === 200).length,
    reconstructions: all.filter(fits(RECONSTRUCTION)).filter(({ status }) => status === 200).length,
    dataBytes: sum(all.filter(fits(DATA)), "received"),
    lfsCalls: all.filter(fits(LFS)).length,
    sentBytes: sum(all, "sent"),
  };
}

/** Call it at the top of a test file. */
export function recordedHub(): RecordedHub {
  let network: FaultyNetwork | undefined;
  const started = (): FaultyNetwork => {
    if (network === undefined) throw new Error("the network is there once the tests run");
    return network;
  };
  beforeAll(async () => {
    network = await FaultyNetwork.start({ passHost: true });
    network.target = inject("endpoint");
  });
  afterAll(() => network?.close());
  return {
    get endpoint() {
      return started().url;
    },
    get network() {
      return started();
    },
    traffic() {
      const { log } = started();
      started().log = [];
      return trafficOf(log);
    },
  };
}
