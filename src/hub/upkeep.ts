// Background work on stored bytes, a bounded run of it at a time.
import type { Platform } from "../platform/platform";
import { runTasks } from "../store/tasks";

const notYet = (): never => {
  throw new Error("this kind of task is not run yet");
};

/** Works until nothing is due or `until` says so. @returns whether work is left that is due now */
export const runUpkeep = (platform: Platform, until: () => boolean): Promise<boolean> =>
  runTasks(platform, until, { verify: notYet, ingest: notYet });
