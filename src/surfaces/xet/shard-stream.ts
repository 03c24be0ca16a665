// Answers a shard as the second version of the protocol does: at once when it is soon checked, else as NDJSON that shows life meanwhile.
import type { HubError } from "../../errors";
import type { Platform } from "../../platform/platform";
import type { ShardProgress } from "../../store/xet/shards";

/** Clients give up on an answer that stays silent for minutes, proxies sooner. */
const HEARTBEAT_MS = 10_000;
/** Of an error's text: lines are kept far below the 1 MiB that clients read. */
const MAX_MESSAGE = 4096;

export type Registration = (report: (progress: ShardProgress) => void) => Promise<{ readonly existed: boolean }>;

type Outcome = { readonly event: Record<string, unknown> } | { readonly failure: unknown };

/**
 * What fails before the first heartbeat is thrown, and gets a status of its own; later it is the stream's last line. The work goes
 * on when the client leaves: sending the shard again finds what was done.
 */
export async function answerShard(
  platform: Pick<Platform, "defer">,
  register: Registration,
  asHubError: (failure: unknown) => HubError,
  heartbeatMs: number = HEARTBEAT_MS,
): Promise<Response> {
  let progress: ShardProgress = { verified: 0, total: null };
  const work: Promise<Outcome> = register((now) => {
    progress = now;
  }).then(
    ({ existed }) => ({ event: { type: "result", result: existed ? 0 : 1 } }),
    (failure: unknown) => ({ failure }),
  );
  const first = await within(work, heartbeatMs);
  if (first !== null) {
    if ("failure" in first) throw first.failure;
    return stream(new Blob([line(first.event)]).stream());
  }
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const encoder = new TextEncoder();
  const follow = async (): Promise<void> => {
    let outcome: Outcome | null = null;
    while (outcome === null) {
      const { verified, total } = progress;
      await writer.write(encoder.encode(line({ type: "validating", verified, total: total ?? verified })));
      outcome = await within(work, heartbeatMs);
    }
    await writer.write(encoder.encode(line("event" in outcome ? outcome.event : failed(asHubError(outcome.failure)))));
    await writer.close();
  };
  platform.defer(Promise.all([work, follow().catch((error: unknown) => writer.abort(error).catch(() => undefined))]));
  return stream(readable);
}

const stream = (body: ReadableStream<Uint8Array>): Response =>
  new Response(body, { headers: { "content-type": "application/x-ndjson", "cache-control": "no-store" } });

const line = (event: Record<string, unknown>): string => `${JSON.stringify(event)}\n`;

const failed = (error: HubError): Record<string, unknown> => ({
  type: "error",
  code: error.code,
  message: error.message.slice(0, MAX_MESSAGE),
  retryable: error.status >= 500 || error.status === 429,
});

/** Null when the time is over first. */
async function within<T>(work: Promise<T>, ms: number): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
