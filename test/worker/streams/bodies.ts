// Bodies of every kind a stream can come as: native, byte streams written in JavaScript, and streams of plain chunks.

export const pattern = (size: number): Uint8Array => {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at++) bytes[at] = (at * 31 + (at >> 8)) & 0xff;
  return bytes;
};

export type Kind = "native" | "bytes" | "chunks";
export const KINDS: readonly Kind[] = ["native", "bytes", "chunks"];

/** Cuts the bytes into pieces and sends them; `failure` breaks the stream off at the end instead of closing it. */
export function bodyOf(kind: Kind, bytes: Uint8Array, piece = 5000, failure?: Error): ReadableStream<Uint8Array> {
  const cut = (at: number): Uint8Array => bytes.slice(at, at + piece);
  if (kind === "native") {
    const { readable, writable } = new IdentityTransformStream();
    const writer = writable.getWriter();
    const send = async (): Promise<void> => {
      for (let at = 0; at < bytes.length; at += piece) await writer.write(cut(at));
      await (failure === undefined ? writer.close() : writer.abort(failure));
    };
    send().catch(() => undefined);
    return readable;
  }
  let at = 0;
  const pull = (controller: ReadableByteStreamController | ReadableStreamDefaultController): void => {
    if (at < bytes.length) {
      controller.enqueue(cut(at));
      at += piece;
    } else if (failure !== undefined) {
      controller.error(failure);
    } else {
      controller.close();
      if ("byobRequest" in controller) controller.byobRequest?.respond(0);
    }
  };
  return kind === "bytes" ? new ReadableStream({ type: "bytes", pull }) : new ReadableStream<Uint8Array>({ pull });
}
