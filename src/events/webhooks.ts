// Webhooks: addresses that are told what happens in the repositories and namespaces that their owner watches.
import { and, eq, sql } from "drizzle-orm";
import { authorize, type Caller, requireUser } from "../access/caller";
import { commitBatch, type Guard, type Statement } from "../db/client";
import { webhooks } from "../db/schema";
import { HubError } from "../errors";
import { objectId } from "../ids";
import { parseReceiver } from "./receivers";
import { allowedEvent, eventStatement } from "./trail";

export type Webhook = typeof webhooks.$inferSelect;
export type Watched = Webhook["watched"][number];
export type Domain = Webhook["domains"][number];

const MAX_WEBHOOKS = 100;

export type WebhookSettings = Pick<Webhook, "url" | "watched" | "domains" | "secret">;

/** Who may keep webhooks, as themselves. @throws authentication_required | forbidden */
function keeper(caller: Caller) {
  const user = requireUser(caller);
  const target = { subject: `account:${user.name}`, scopeId: user.id };
  authorize(caller, { action: "webhook.manage" }, target);
  return { user, target };
}

export async function listWebhooks(caller: Caller): Promise<Webhook[]> {
  const { user } = keeper(caller);
  return caller.platform.db.select().from(webhooks).where(eq(webhooks.ownerId, user.id)).orderBy(webhooks.id);
}

/** @throws webhook_not_found */
export async function findWebhook(caller: Caller, id: string): Promise<Webhook> {
  const { user } = keeper(caller);
  const [found] = await caller.platform.db
    .select()
    .from(webhooks)
    .where(and(eq(webhooks.id, id), eq(webhooks.ownerId, user.id)));
  if (found === undefined) throw new HubError("webhook_not_found");
  return found;
}

/** Nothing that happened before is told. */
const now_ = sql<number>`(select coalesce(max(seq), 0) from events)`;

export async function createWebhook(caller: Caller, settings: WebhookSettings): Promise<Webhook> {
  const { platform } = caller;
  const { user } = keeper(caller);
  const now = platform.now();
  const id = objectId(now);
  const url = parseReceiver(settings.url, platform.config).href;
  const hasRoom: Guard = {
    holds: sql`(select count(*) from webhooks where owner_id = ${user.id}) < ${MAX_WEBHOOKS}`,
    otherwise: () =>
      new HubError("invalid_request", { problem: `You have ${MAX_WEBHOOKS} webhooks: delete one first` }),
  };
  const row = { ...settings, url, id, ownerId: user.id, disabled: false, createdAt: now, failures: 0, dueAt: now };
  await change(
    caller,
    id,
    "webhook.created",
    [hasRoom],
    platform.db.insert(webhooks).values({ ...row, seenSeq: now_ }),
  );
  return findWebhook(caller, id);
}

export type WebhookChange = Partial<WebhookSettings> & { readonly disabled?: boolean };

/** What is enabled again begins with what happens from now on. @throws webhook_not_found */
export async function changeWebhook(caller: Caller, id: string, wanted: WebhookChange): Promise<Webhook> {
  const { platform } = caller;
  const before = await findWebhook(caller, id);
  const url = wanted.url === undefined ? {} : { url: parseReceiver(wanted.url, platform.config).href };
  const restart =
    before.disabled && wanted.disabled === false ? { seenSeq: now_, failures: 0, dueAt: platform.now() } : {};
  const set = { ...wanted, ...url, ...restart };
  const type = wanted.disabled === true ? "webhook.disabled" : "webhook.changed";
  if (Object.keys(set).length > 0)
    await change(caller, id, type, [stillThere(id)], platform.db.update(webhooks).set(set).where(eq(webhooks.id, id)));
  return findWebhook(caller, id);
}

/** @throws webhook_not_found */
export async function deleteWebhook(caller: Caller, id: string): Promise<void> {
  await findWebhook(caller, id);
  const gone = caller.platform.db.delete(webhooks).where(eq(webhooks.id, id));
  await change(caller, id, "webhook.deleted", [stillThere(id)], gone);
}

const stillThere = (id: string): Guard => ({
  holds: sql`exists (select 1 from webhooks where id = ${id})`,
  otherwise: () => new HubError("webhook_not_found"),
});

function change(
  caller: Caller,
  id: string,
  type: string,
  guards: readonly Guard[],
  statement: Statement,
): Promise<void> {
  const { platform, actor } = caller;
  const { target } = keeper(caller);
  const event = allowedEvent(platform, actor, { type, ...target, action: "webhook.manage", data: { webhook: id } });
  return commitBatch(platform.db, guards, [statement, eventStatement(platform.db, event)]);
}
