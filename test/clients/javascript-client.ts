// What tests of the stock JavaScript client share: a fetch that keeps a list, and the bytes of what came.

export type Made = { readonly method: string; readonly path: string };

/** `fetch`, and a list of what it was asked for. */
export function recordingFetch(): { fetch: typeof fetch; made: Made[] } {
  const made: Made[] = [];
  return {
    made,
    fetch: (input, init) => {
      const { pathname } = new URL(input instanceof Request ? input.url : input);
      made.push({ method: init?.method ?? "GET", path: pathname });
      return fetch(input, init);
    },
  };
}

export async function bytesOf(blob: Blob | null): Promise<Buffer> {
  if (blob === null) throw new Error("there is no such file");
  return Buffer.from(await blob.arrayBuffer());
}
