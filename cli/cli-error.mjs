// The one error a person at the terminal is meant to read: what is wrong, and what to do about it.

export class CliError extends Error {
  /**
   * @param {string} message
   * @param {string} fix
   */
  constructor(message, fix) {
    super(message);
    this.name = "CliError";
    this.fix = fix;
  }
}

/**
 * Prints a CliError for a person; anything else is a defect of ours and keeps its stack.
 * @param {unknown} error
 */
export function printError(error) {
  if (!(error instanceof CliError)) {
    console.error(error);
    return;
  }
  console.error(`\nStopped: ${error.message}`);
  if (error.fix !== "") console.error(`Fix: ${error.fix}`);
}
