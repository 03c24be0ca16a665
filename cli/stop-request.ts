// Turns Ctrl-C, SIGTERM, a closed terminal and the death of the program that started us into one request to stop.

export interface StopRequest {
  signal: AbortSignal;
  requested: Promise<undefined>;
}

/** Repeated signals are one request: npm, the terminal and the set-up may each pass on the same Ctrl-C. */
export function stopRequested(): StopRequest {
  const controller = new AbortController();
  const requested = new Promise<undefined>((resolve) => {
    controller.signal.addEventListener("abort", () => resolve(undefined));
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => controller.abort());
  if (process.connected) {
    process.once("disconnect", () => controller.abort());
    // The channel is only listened to, and must not keep the process alive.
    process.channel?.unref();
  }
  return { signal: controller.signal, requested };
}
