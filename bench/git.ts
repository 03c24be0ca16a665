// A clone of 1,000 commits and 5,000 files: from the hub, object by object and from kept entries, beside git daemon over the same repository.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { claimPort } from "../cli/ports.ts";
import { cpuSeconds, cpuSecondsOfChildren } from "./kit/processes.ts";
import { printHeading, printTable } from "./kit/report.ts";
import { interleave, median, ratio, type Sample, samplesOf, type Target } from "./kit/rounds.ts";
import type { Stage } from "./kit/stage.ts";

const exec = promisify(execFile);
const DAEMON = "git daemon";
const KEPT = "hub, kept entries";
/** Background work begins some seconds after the first clone. */
const KEEPING_MS = 5 * 60_000;

/** A first commit of all files in 50 folders, then commits that change one each. */
function* history(commits: number, files: number): Generator<string> {
  const path = (i: number): string => `dir${String(i % 50).padStart(2, "0")}/file${String(i).padStart(5, "0")}.txt`;
  const data = (text: string): string => `data ${text.length}\n${text}\n`;
  for (let k = 0; k <= commits; k++) {
    yield `commit refs/heads/main\ncommitter A <a@example.org> ${1_700_000_000 + 60 * k} +0000\n${data(`commit ${k}\n`)}`;
    const changed = k === 0 ? Array.from({ length: files }, (_, i) => i) : [(k * 7919) % files];
    for (const i of changed)
      yield `M 100644 inline ${path(i)}\n${data(`${k === 0 ? `file ${i}` : `version ${k}`}\n`.repeat(20))}`;
  }
}

async function makeRepository(folder: string, commits: number, files: number): Promise<void> {
  await exec("git", ["init", "--quiet", "--bare", "--initial-branch=main", folder]);
  const importer = spawn("git", ["--git-dir", folder, "fast-import", "--quiet"], {
    stdio: ["pipe", "ignore", "inherit"],
  });
  for (const text of history(commits, files)) if (!importer.stdin.write(text)) await once(importer.stdin, "drain");
  importer.stdin.end();
  const [code] = await once(importer, "close");
  if (code !== 0) throw new Error(`git fast-import ended with ${code}`);
  // As a server that is looked after keeps it.
  await exec("git", ["--git-dir", folder, "gc", "--quiet"]);
}

/** Resolves when something listens. */
async function listening(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const connected = await once(socket, "connect").then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (connected) return;
    await pause(50);
  }
}

export async function benchGit(stage: Stage, { rounds, quick }: { rounds: number; quick: boolean }): Promise<void> {
  const { client, hub, folder } = stage;
  const [commits, files] = quick ? [100, 500] : [1000, 5000];
  printHeading(`Clone of ${commits} commits and ${files} files, ${rounds} rounds`);
  const source = join(folder, "served", "history.git");
  await makeRepository(source, commits, files);
  const repo = await client.createRepo("history", false);
  const url = `${hub.endpoint}/${repo}`;
  const pushUrl = new URL(url);
  pushUrl.username = client.user;
  pushUrl.password = client.token;
  await exec("git", ["--git-dir", source, "push", "--quiet", "--force", pushUrl.href, "main"]);

  const port = await claimPort(0, "");
  const options = ["--export-all", "--reuseaddr", "--listen=127.0.0.1", `--port=${port}`];
  const { stdout: programs } = await exec("git", ["--exec-path"]);
  const daemon = spawn(join(programs.trim(), "git-daemon"), [...options, `--base-path=${join(folder, "served")}`], {
    stdio: "ignore",
  });
  try {
    await listening(port);
    const cloned = join(folder, "cloned.git");
    const measured = async (from: string, cpu: () => number): Promise<Sample> => {
      const before = cpu();
      const started = performance.now();
      await exec("git", ["clone", "--quiet", "--bare", from, cloned]);
      const seconds = (performance.now() - started) / 1000;
      rmSync(cloned, { recursive: true });
      // The daemon's children are counted when it has seen them end.
      await pause(300);
      return { seconds, work: 1, cpuSeconds: cpu() - before };
    };
    const fromHub = () => measured(url, () => cpuSeconds(hub.pids()));
    const fromDaemon = () =>
      measured(`git://127.0.0.1:${port}/history.git`, () => cpuSecondsOfChildren(daemon.pid ?? 0));
    const beside = await fromDaemon();
    const cold = await fromHub();
    // Nothing tells when the entries are kept but that it goes faster.
    for (const limit = Date.now() + KEEPING_MS; Date.now() < limit; await pause(5000))
      if ((await fromHub()).seconds < cold.seconds / 2) break;
    const targets: Target[] = [
      { name: DAEMON, run: fromDaemon },
      { name: KEPT, run: fromHub },
    ];
    const results = await interleave(targets, rounds);
    const row = (name: string, samples: readonly Sample[], wall: number, base: readonly Sample[]) => {
      const cpu = (of: readonly Sample[]): number => median(of.map((sample) => sample.cpuSeconds));
      return [
        name,
        median(samples.map(({ seconds }) => seconds)).toFixed(2),
        cpu(samples).toFixed(2),
        wall.toFixed(2),
        // The kernel counts hundredths of a second.
        (cpu(samples) / Math.max(cpu(base), 0.01)).toFixed(0),
      ];
    };
    const base = samplesOf(results, DAEMON);
    printTable(
      ["", "seconds", "CPU s of the server", "time beside daemon", "CPU beside daemon"],
      [
        row(DAEMON, base, 1, base),
        row(KEPT, samplesOf(results, KEPT), 1 / ratio(results, KEPT, DAEMON), base),
        row("hub, object by object (once)", [cold], cold.seconds / beside.seconds, [beside]),
      ],
    );
  } finally {
    daemon.kill();
    await once(daemon, "close");
  }
}
