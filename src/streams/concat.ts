// One body out of several: the segments of a file, read one after another, without their bytes passing through JavaScript.

/**
 * Opens each part only when the one before has been read, so one connection is in use at a time. Any failure, and any total
 * other than `length`, breaks the output off: a reader never takes a short file for a whole one.
 *
 * A part is a body from the store or from fetch, or a stream written in JavaScript. It must not be the readable end of an
 * IdentityTransformStream or FixedLengthStream, such as another result of this function: workerd cannot pipe one into the
 * other, and instead of failing it waits for ever.
 */
export function concatStreams(
  parts: readonly (() => Promise<ReadableStream<Uint8Array>>)[],
  length: number,
): ReadableStream<Uint8Array> {
  const { readable, writable } = new FixedLengthStream(length);
  const fill = async (): Promise<void> => {
    for (const open of parts) {
      const part = await open();
      await part.pipeTo(writable, { preventClose: true });
    }
    await writable.close();
  };
  // The error reaches whoever reads the output; abort also ends an output whose part could not even be opened.
  fill().catch((error: unknown) => writable.abort(error).catch(() => undefined));
  return readable;
}
