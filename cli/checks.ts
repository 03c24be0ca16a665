// The list of everything `npm test` checks: each entry a command, and how to read from it how many tests passed.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import * as z from "zod";
import { offlineWrangler } from "./worker-bundle.ts";

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

export interface Check {
  title: string;
  program: string;
  args: string[];
  cwd: string;
  env: NodeJS.ProcessEnv;
  /** Where the command writes its report and how to count in it; a command without one is itself one test. */
  report?: { path: string; count: (text: string) => Counts };
}

const vitestReportShape = z.object({
  numPassedTests: z.int(),
  numFailedTests: z.int(),
  numPendingTests: z.int(),
  numTodoTests: z.int(),
});
const vitestConfigShape = z.looseObject({
  test: z.looseObject({ projects: z.array(z.looseObject({ test: z.looseObject({ name: z.string() }) })) }),
});

function countVitest(text: string): Counts {
  const report = vitestReportShape.parse(JSON.parse(text));
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

/** pytest's JUnit file: its only <testsuite> element bears the sums. */
function countJunit(text: string): Counts {
  const suite = /<testsuite [^>]*>/.exec(text)?.[0] ?? "";
  const sum = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(suite)?.[1] ?? 0);
  const failed = sum("failures") + sum("errors");
  return { passed: sum("tests") - failed - sum("skipped"), failed, skipped: sum("skipped") };
}

async function vitestProjects(root: string): Promise<string[]> {
  const loaded: unknown = await import(pathToFileURL(join(root, "vitest.config.ts")).href);
  const { default: config } = z.looseObject({ default: vitestConfigShape }).parse(loaded);
  return config.test.projects.map((project) => project.test.name);
}

/**
 * Stages follow each other; the lanes of a stage run side by side, for two cores. First what is quick and needs no hub (one lane is
 * mostly TypeScript, one Python), then what starts whole hubs.
 */
export async function allChecks(root: string, reports: string): Promise<Check[][][]> {
  const env = { ...process.env, ...offlineWrangler, NO_COLOR: "1", FORCE_COLOR: undefined };
  const service = join(root, "gpu-service");
  const node = (title: string, script: string, ...args: string[]): Check => ({
    title,
    program: process.execPath,
    args: [join(root, "node_modules", script), ...args],
    cwd: root,
    env,
  });
  const python = (title: string, cwd: string, ...args: string[]): Check => ({
    title,
    program: join(service, ".venv", "bin", "python"),
    args: ["-m", ...args],
    cwd,
    env: { ...env, MYPYPATH: service },
  });
  const vitest = (project: string): Check => {
    const path = join(reports, `vitest-${project}.json`);
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${path}`];
    const check = node(`vitest: ${project}`, "vitest/vitest.mjs", "run", "--project", project, ...reporters);
    return { ...check, report: { path, count: countVitest } };
  };
  const here = (...names: string[]) => names.filter((name) => existsSync(join(root, name)));
  const config = ["--config", join("gpu-service", "pyproject.toml")];
  const scripts = here("demo", "bench", "test");
  const junit = join(reports, "pytest.xml");
  const projects = await vitestProjects(root);
  const quick = (project: string) => project === "worker" || project === "node";
  const withHub = (chosen: (project: string) => boolean) =>
    projects.filter((project) => !quick(project) && chosen(project)).map(vitest);
  return [
    [
      [
        node("biome: format and lint", "@biomejs/biome/bin/biome", "ci", "--colors=off", "."),
        ...here(
          "tsconfig.json",
          "test/tsconfig.json",
          "cli/tsconfig.json",
          "web/tsconfig.json",
          "bench/tsconfig.json",
        ).map((path) => node(`tsc: ${path}`, "typescript/bin/tsc", "-p", path)),
        ...projects.filter(quick).map(vitest),
      ],
      [
        python("ruff: lint of gpu-service", service, "ruff", "check", "."),
        python("ruff: format of gpu-service", service, "ruff", "format", "--check", "."),
        python(
          `ruff: lint of ${scripts.join(", ")}`,
          root,
          "ruff",
          "check",
          ...config,
          "--extend-ignore=S",
          ...scripts,
        ),
        python(`ruff: format of ${scripts.join(", ")}`, root, "ruff", "format", "--check", ...config, ...scripts),
        python("mypy: gpu-service", service, "mypy"),
        // Scripts import their neighbours by name, so each folder is checked from within.
        ...here("demo", join("test", "clients", "python")).map((folder) =>
          python(`mypy: ${folder}`, join(root, folder), "mypy", "--config-file", join(service, "pyproject.toml"), "."),
        ),
        {
          ...python("pytest: gpu-service", service, "pytest", `--junitxml=${junit}`),
          report: { path: junit, count: countJunit },
        },
      ],
    ],
    [withHub((project) => project === "clients"), withHub((project) => project !== "clients")],
  ];
}
