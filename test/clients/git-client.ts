// The git on this machine, as one person: a home of its own, the token where git keeps passwords.
import { execFile, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inject } from "vitest";
import type { Person } from "./people.ts";

export type GitRun = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** Whether git-lfs is installed; without it what needs it is skipped. */
export const HAS_LFS = spawnSync("git", ["lfs", "version"]).status === 0;
if (!HAS_LFS) console.warn("No git-lfs was found: the tests that need it are skipped. apt-get install git-lfs");

const MAX_OUTPUT_BYTES = 64 << 20;

export class Git {
  readonly #home: string;

  /** `person` null: nobody, and nobody to ask. */
  constructor(home: string, person: Person | null) {
    this.#home = home;
    mkdirSync(home, { recursive: true });
    const name = person?.name ?? "nobody";
    const config = [
      `[user]\n\tname = ${name}\n\temail = ${name}@example.org`,
      "[init]\n\tdefaultBranch = main",
      "[advice]\n\tdetachedHead = false",
      ...(person === null ? [] : ["[credential]\n\thelper = store"]),
      ...(HAS_LFS
        ? [
            '[filter "lfs"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n\tprocess = git-lfs filter-process\n\trequired = true',
          ]
        : []),
    ];
    writeFileSync(join(home, ".gitconfig"), `${config.join("\n")}\n`);
    const { host, protocol } = new URL(inject("endpoint"));
    if (person !== null)
      writeFileSync(join(home, ".git-credentials"), `${protocol}//${name}:${person.token}@${host}\n`);
  }

  /** Whatever becomes of it. */
  run(folder: string, args: readonly string[], env: Record<string, string> = {}, input = ""): Promise<GitRun> {
    const own = {
      PATH: process.env.PATH ?? "",
      HOME: this.#home,
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_TERMINAL_PROMPT: "0",
      LC_ALL: "C",
    };
    return new Promise((resolve) => {
      const child = execFile(
        "git",
        args,
        { cwd: folder, env: { ...own, ...env }, maxBuffer: MAX_OUTPUT_BYTES },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
          resolve({ code, stdout, stderr });
        },
      );
      // A program that reads nothing may have ended before it is told that there is nothing.
      child.stdin?.on("error", () => undefined);
      child.stdin?.end(input);
    });
  }

  /** @returns what it printed @throws unless it went well */
  async ok(folder: string, ...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(folder, args);
    if (code !== 0) throw new Error(`git ${args.join(" ")} → ${code}: ${stderr}`);
    return stdout.trim();
  }
}

/** `datasets/` before the name of a dataset. */
export const gitUrl = (repo: string): string => `${inject("endpoint")}/${repo}`;
