// A job's events as a server-sent stream, read from D1 as they come.

import { type JobEvent, readJobEvents } from "../../compute/job-events";
import { hasEnded, type Job, loadJob } from "../../compute/jobs";
import type { Platform } from "../../platform/platform";
import { isoTime } from "./router";

const POLL_MS = 700;
const PAGE = 500;
/** Proxies drop connections that stay silent for a minute. */
const KEEP_ALIVE_POLLS = Math.round(15_000 / POLL_MS);
/** An invocation may make 1,000 queries, two a poll: the client then comes again with its `Last-Event-ID`. */
const MAX_POLLS = 450;

/** Ends after the event that ends the job, when the client goes, or after some minutes. */
export function jobFeed(platform: Platform, job: Job, after: number, signal: AbortSignal): Response {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  platform.defer(
    follow(platform, job, after, writer, signal)
      // Whoever listened is gone.
      .catch(() => writer.abort().catch(() => undefined)),
  );
  return new Response(readable, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  });
}

async function follow(
  platform: Platform,
  job: Job,
  after: number,
  writer: WritableStreamDefaultWriter<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const encoder = new TextEncoder();
  const send = (text: string) => writer.write(encoder.encode(text));
  await send(`retry: ${POLL_MS}\n\n`);
  let seen = after;
  for (let poll = 0; poll < MAX_POLLS && !signal.aborted; poll++) {
    // The state before the events: a job seen as ended has all its events written.
    const ended = hasEnded((await loadJob(platform, job.id))?.state ?? "cancelled");
    const events = await readJobEvents(platform, job.id, seen, PAGE);
    if (events.length > 0) await send(events.map(frame).join(""));
    else if (ended) break;
    else if (poll % KEEP_ALIVE_POLLS === KEEP_ALIVE_POLLS - 1) await send(": still here\n\n");
    seen = events.at(-1)?.seq ?? seen;
    if (events.length < PAGE && !ended) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  await writer.close();
}

function frame({ seq, type, at, attempt, data }: JobEvent): string {
  const content = typeof data === "object" && data !== null ? data : { value: data };
  return `id: ${seq}\nevent: ${type}\ndata: ${JSON.stringify({ ...content, at: isoTime(at), attempt })}\n\n`;
}
