// Users and organizations as they appear inside other answers, and their pictures.
import { Hono } from "hono";
import type { AppEnv } from "../app-env";
import { type Ctx, originOf } from "./request";

export type Named = {
  readonly id: string;
  readonly name: string;
  readonly fullname: string;
  readonly kind: "user" | "org";
};

export const avatarUrl = (c: Ctx, name: string): string => `${originOf(c)}/api/avatars/${name}.svg`;

/** As owner or author of something else. */
export const accountSummary = (c: Ctx, { id, name, fullname, kind }: Named) => ({
  _id: id,
  type: kind,
  name,
  fullname,
  avatarUrl: avatarUrl(c, name),
  isHf: false,
  isHfAdmin: false,
  isMod: false,
  ...(kind === "user" ? { isPro: false } : {}),
});

/** An initial on a colour, both of the name: nobody has to exist for it. */
function avatar(name: string): string {
  const hue = [...name.toLowerCase()].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 0);
  const initial = name.charAt(0).toUpperCase();
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" fill="hsl(${hue} 45% 45%)"/><text x="32" y="43" text-anchor="middle" font-family="sans-serif" font-size="32" fill="#fff">${initial}</text></svg>`;
}

export const avatars = new Hono<AppEnv>().get("/api/avatars/:file{[A-Za-z0-9][A-Za-z0-9_.-]*\\.svg}", (c) =>
  c.body(avatar(c.req.param("file").slice(0, -".svg".length)), 200, {
    "content-type": "image/svg+xml",
    "cache-control": "public, max-age=86400",
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
  }),
);
