// One service as a process group of its own: start it, see it end, stop it gently, or kill it outright.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { groupMembers, isRunning, type ProcessIdentity } from "./process-identity.mjs";
import { identify, type RunRecord } from "./state-folder.ts";

const TAIL_BYTES = 4000;
const GONE_POLL_MS = 20;
/** After SIGKILL only the kernel is waited for. */
const GONE_LIMIT_MS = 5000;

export interface ServiceCommand {
  name: string;
  program: string;
  args: string[];
  cwd: string;
  env: NodeJS.ProcessEnv;
  log: string;
  /** Whether the service speaks with us over Node's IPC channel. */
  channel: boolean;
}

export function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch (error) {
    const ended = error instanceof Error && "code" in error && error.code === "ESRCH";
    if (!ended) throw error;
  }
}

async function killGroup(group: number): Promise<void> {
  signalGroup(group, "SIGKILL");
  const limit = Date.now() + GONE_LIMIT_MS;
  while (groupMembers(group).length > 0 && Date.now() < limit) await pause(GONE_POLL_MS);
}

export class ServiceProcess {
  readonly name: string;
  readonly pid: number;
  /** Says how the process ended; its whole group is gone by then. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #log: string;
  #hasEnded = false;
  #wasTold = false;

  private constructor(command: ServiceCommand, child: ChildProcess, pid: number) {
    this.name = command.name;
    this.pid = pid;
    this.#child = child;
    this.#log = command.log;
    this.ended = new Promise((resolve) => {
      child.once("exit", async (code, signal) => {
        // What the leader leaves behind would hold the port or the state.
        await killGroup(pid);
        this.#hasEnded = true;
        resolve(code === null ? `ended by ${signal}` : `exit code ${code}`);
      });
    });
  }

  static async start(command: ServiceCommand): Promise<ServiceProcess> {
    const log = openSync(command.log, "a");
    try {
      const child = spawn(command.program, command.args, {
        cwd: command.cwd,
        env: command.env,
        stdio: command.channel ? ["ignore", log, log, "ipc"] : ["ignore", log, log],
        detached: true,
      });
      await new Promise((resolve, reject) => child.once("spawn", resolve).once("error", reject));
      if (child.pid === undefined) throw new Error(`${command.name} has no process id`);
      return new ServiceProcess(command, child, child.pid);
    } finally {
      closeSync(log);
    }
  }

  /** Whether its end, if it has ended, was asked for here. */
  get wasTold(): boolean {
    return this.#wasTold;
  }

  /** Every living process of the service, its leader among them. */
  members(): ProcessIdentity[] {
    return this.#hasEnded ? [] : groupMembers(this.pid);
  }

  send(message: object): void {
    // A process that is just ending has closed its side; its end is reported elsewhere.
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  record(): RunRecord["services"] {
    const leader = identify(this.pid);
    return leader === undefined ? [] : [{ name: this.name, ...leader, members: this.members() }];
  }

  /** Asks the service to end and kills what is left of it after the grace. */
  async stop(graceMs: number): Promise<void> {
    if (this.#hasEnded) return;
    this.#wasTold = true;
    this.#child.kill("SIGTERM");
    const impatience = setTimeout(() => signalGroup(this.pid, "SIGKILL"), graceMs);
    await this.ended;
    clearTimeout(impatience);
  }

  /** What a crash or a power cut does: no warning, no last words. */
  async kill(): Promise<void> {
    if (this.#hasEnded) return;
    this.#wasTold = true;
    signalGroup(this.pid, "SIGKILL");
    await this.ended;
  }

  logTail(): string {
    const text = readFileSync(this.#log, "utf8").slice(-TAIL_BYTES).trimEnd();
    return `The end of ${this.#log}:\n${text}`;
  }
}

/** Stops what a killed supervisor left running, by pid and start time: a pid that now belongs to another program is left alone. */
export async function stopOrphans(run: RunRecord): Promise<string[]> {
  const stopped: string[] = [];
  for (const { name, pid, started, members } of run.services) {
    const alive = [{ pid, started }, ...members].filter(isRunning);
    if (alive.length === 0) continue;
    stopped.push(name);
    if (isRunning({ pid, started })) await killGroup(pid);
    for (const member of members.filter(isRunning)) process.kill(member.pid, "SIGKILL");
  }
  return stopped;
}
