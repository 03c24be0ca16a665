// Who is calling, and the one way to ask the policy: a denial is recorded and answered.
import { HubError } from "../errors";
import { deniedEvent } from "../events/trail";
import type { Platform } from "../platform/platform";
import { type Actor, decide, type Request } from "./policy";

export type Caller = { readonly platform: Platform; readonly actor: Actor };

/** What a refused request was aimed at, for the trail. */
export type Target = { readonly subject: string; readonly scopeId: string | null };

export const may = (caller: Caller, request: Request): boolean => decide(caller.actor, request).allow;

/** @throws authentication_required | forbidden | gated_repo | gated_repo_anonymous, after noting the attempt in the trail */
export function authorize(caller: Caller, request: Request, target: Target): void {
  const decision = decide(caller.actor, request);
  if (decision.allow) return;
  refuse(caller, request, target, decision.reason);
  if (decision.gate === true) throw gateError(caller, target, decision.reason);
  throw caller.actor.kind === "anonymous"
    ? new HubError("authentication_required")
    : new HubError("forbidden", { reason: decision.reason });
}

/** @throws repo_not_found, or what else says so: who may not read something does not learn that it exists */
export function authorizeSight(
  caller: Caller,
  request: Request,
  target: Target,
  notFound = new HubError("repo_not_found"),
): void {
  const decision = decide(caller.actor, request);
  if (decision.allow) return;
  refuse(caller, request, target, decision.reason);
  throw notFound;
}

/** Says where to ask for access. */
function gateError({ actor }: Caller, { subject }: Target, reason: string): HubError {
  const [type, repo] = subject.split(":");
  const anonymous = actor.kind === "anonymous" || (actor.kind === "xet" && actor.holder?.kind === "anonymous");
  const at = `${type === "dataset" ? "/datasets" : ""}/${repo}/ask-access`;
  return new HubError(anonymous ? "gated_repo_anonymous" : "gated_repo", { type, repo, reason, at });
}

function refuse(caller: Caller, request: Request, target: Target, reason: string): void {
  const { platform, actor } = caller;
  const purpose = request.action === "repo.use" ? { purpose: request.purpose } : {};
  const event = deniedEvent(platform, actor, { ...target, action: request.action, ...purpose }, reason);
  platform.defer(platform.events.record([event]));
}

/** The user behind the call. @throws authentication_required */
export function requireUser(caller: Caller): Extract<Actor, { kind: "user" }> {
  if (caller.actor.kind !== "user") throw new HubError("authentication_required");
  return caller.actor;
}
