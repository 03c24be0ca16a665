// What tests of Xet let the stock Python client do, each time as a machine of its own choice.
import * as z from "zod";
import { pythonStep, type Session } from "./python-client.ts";
import type { RecordedHub } from "./recorded-hub.ts";

const Uploaded = z.object({ commit: z.string(), hf_xet: z.string() });
const Proposed = z.object({ commit: z.string(), revision: z.string() });

/** A session that reaches the hub through its recorded address; `home` is the machine's cache. */
export const xetSession = (hub: RecordedHub, home: string, session: Omit<Session, "home" | "endpoint">): Session => ({
  ...session,
  home,
  endpoint: hub.endpoint,
});

/** `from` is a file, which gets the path, or a folder. The repository is made if need be. */
export const upload = (session: Session, args: { repo: string; from: string; path?: string; private?: boolean }) =>
  pythonStep(session, "xet.py", "up", args, Uploaded);

/** The same as a pull request, to a repository that is there. */
export const propose = (session: Session, args: { repo: string; from: string; path?: string }) =>
  pythonStep(session, "xet.py", "propose", { ...args, propose: true }, Proposed);

/** @returns SHA-256 of the file that came */
export const download = (session: Session, args: { repo: string; path: string; revision?: string }) =>
  pythonStep(session, "xet.py", "down", args, z.string());

/** @returns path → SHA-256 */
export const snapshot = (session: Session, args: { repo: string; revision?: string }) =>
  pythonStep(session, "xet.py", "snapshot", args, z.record(z.string(), z.string()));
