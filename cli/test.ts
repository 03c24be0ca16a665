// `npm test`: runs every check to the end, prints each one's output whole under a heading, and closes with the counts.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { allChecks, type Check, type Counts } from "./checks.ts";
import { stopRequested } from "./stop-request.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

interface Outcome extends Counts {
  title: string;
}

/** A command that fails without naming a failed test (it crashed, or found none) still counts as one failure. */
function countsOf({ report }: Check, succeeded: boolean): Counts {
  const plain = { passed: succeeded ? 1 : 0, failed: succeeded ? 0 : 1, skipped: 0 };
  if (report === undefined) return plain;
  if (!existsSync(report.path)) return { passed: 0, failed: 1, skipped: 0 };
  const counts = report.count(readFileSync(report.path, "utf8"));
  return succeeded ? counts : { ...counts, failed: Math.max(1, counts.failed) };
}

function words({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

async function runCheck(check: Check, signal: AbortSignal): Promise<Outcome> {
  const startedAt = Date.now();
  const output: Buffer[] = [];
  const problem = await new Promise<string>((resolve) => {
    const child = spawn(check.program, check.args, {
      cwd: check.cwd,
      env: check.env,
      stdio: ["ignore", "pipe", "pipe"],
      signal,
      killSignal: "SIGTERM",
    });
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => output.push(chunk));
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code, killedBy) => resolve(code === 0 ? "" : `ended with ${code ?? killedBy}`));
  });
  const counts = countsOf(check, problem === "");
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  const text = Buffer.concat(output).toString("utf8").trim();
  console.log(`\n──── ${check.title}: ${words(counts)} (${seconds} s)${problem === "" ? "" : ` — ${problem}`}`);
  if (text !== "") console.log(text);
  return { title: check.title, ...counts };
}

async function runInOrder(checks: Check[], signal: AbortSignal): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const check of checks) {
    if (!signal.aborted) outcomes.push(await runCheck(check, signal));
  }
  return outcomes;
}

const { signal } = stopRequested();
const reports = mkdtempSync(join(tmpdir(), "owm-test-"));
try {
  const outcomes: Outcome[] = [];
  for (const lanes of await allChecks(ROOT, reports))
    outcomes.push(...(await Promise.all(lanes.map((lane) => runInOrder(lane, signal)))).flat());
  const sum = (key: keyof Counts) => outcomes.reduce((total, outcome) => total + outcome[key], 0);
  const total = { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
  const failing = outcomes.filter(({ failed }) => failed > 0).map(({ title, failed }) => `  ${title}: ${failed}`);
  console.log(failing.length === 0 ? "" : `\nFailed:\n${failing.join("\n")}\n`);
  if (signal.aborted) console.log("Interrupted: not every check has run.");
  console.log(words(total));
  process.exitCode = total.failed > 0 || signal.aborted ? 1 : 0;
} finally {
  rmSync(reports, { recursive: true, force: true });
}
