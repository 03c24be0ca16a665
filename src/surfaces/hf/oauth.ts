// Logging in a program that has no browser, as OAuth's device flow speaks it; errors are OAuth's own.
import { Hono } from "hono";
import * as z from "zod";
import { HubError } from "../../errors";
import { DEVICE_CODE_S, POLL_INTERVAL_S, redeemDeviceCode, startDeviceLogin } from "../../hub/device-login";
import { readAll } from "../../streams/chunks";
import type { AppEnv } from "../app-env";
import { type Ctx, callerOf, originOf } from "./request";

const DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code";
const MAX_BODY_BYTES = 64 * 1024;

const TokenRequest = z.object({ grant_type: z.string(), device_code: z.string().max(200).optional() });
const DeviceRequest = z.object({ client_id: z.string().min(1).max(200) });

/** A form, as OAuth has it, or JSON, which some clients send for some grants. */
async function parameters(c: Ctx): Promise<unknown> {
  const text = new TextDecoder().decode(await readAll(c.req.raw.body, MAX_BODY_BYTES));
  if (!(c.req.header("content-type") ?? "").includes("json")) return Object.fromEntries(new URLSearchParams(text));
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const DESCRIPTIONS = {
  authorization_pending: "Nobody has approved the code yet.",
  slow_down: "Ask less often: five seconds more between two requests.",
  expired_token: "The code has expired: start again.",
  access_denied: "The login was denied.",
  invalid_grant: "There is no such code, or it was used already: start again.",
  invalid_request: "A parameter is missing or malformed: send a form with grant_type and device_code, or client_id.",
  unsupported_grant_type:
    "This hub gives tokens by the device flow only: they last for months and are not renewed or exchanged.",
};

function refuse(c: Ctx, error: keyof typeof DESCRIPTIONS): Response {
  c.header("cache-control", "no-store");
  return c.json({ error, error_description: DESCRIPTIONS[error] }, 400);
}

export const oauth = new Hono<AppEnv>()
  .post("/oauth/device", async (c) => {
    const asked = DeviceRequest.safeParse(await parameters(c));
    if (!asked.success) return refuse(c, "invalid_request");
    const { deviceCode, userCode } = await startDeviceLogin(callerOf(c).platform);
    const page = `${originOf(c)}/device`;
    c.header("cache-control", "no-store");
    return c.json({
      device_code: deviceCode,
      user_code: userCode,
      verification_uri: page,
      verification_uri_complete: `${page}?user_code=${userCode}`,
      expires_in: DEVICE_CODE_S,
      interval: POLL_INTERVAL_S,
    });
  })
  .post("/oauth/token", async (c) => {
    const asked = TokenRequest.safeParse(await parameters(c));
    if (!asked.success) return refuse(c, "invalid_request");
    const { grant_type, device_code } = asked.data;
    if (grant_type !== DEVICE_GRANT) return refuse(c, "unsupported_grant_type");
    if (device_code === undefined) return refuse(c, "invalid_request");
    const redeemed = await redeemDeviceCode(callerOf(c).platform, device_code);
    if ("refusal" in redeemed) return refuse(c, redeemed.refusal);
    c.header("cache-control", "no-store");
    return c.json({ access_token: redeemed.token, token_type: "bearer", expires_in: redeemed.expiresInS });
  })
  .all("/oauth/*", () => {
    throw new HubError("not_served", { what: "OAuth applications" });
  });
