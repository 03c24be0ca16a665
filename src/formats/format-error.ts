// The one error of the codecs: what is wrong with the bytes, where, and what would be right; it knows nothing of HTTP.

export type FormatErrorDetails = { readonly field?: string; readonly line?: number; readonly fix?: string };

/** `message` reads after "field: ", and ends with the fix when there is one. */
export class FormatError extends Error {
  readonly code: string;
  readonly field: string | undefined;
  readonly line: number | undefined;
  readonly fix: string | undefined;

  constructor(code: string, problem: string, details: FormatErrorDetails = {}, options?: ErrorOptions) {
    super(details.fix === undefined ? problem : `${problem}: ${details.fix}`, options);
    this.name = "FormatError";
    this.code = code;
    this.field = details.field;
    this.line = details.line;
    this.fix = details.fix;
  }
}
