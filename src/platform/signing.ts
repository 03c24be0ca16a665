// Keyed digests under the hub's secret: upload URLs and job tokens carry them, so that they need no row of their own.
import { createHash, timingSafeEqual } from "node:crypto";

const encoder = new TextEncoder();
const keys = new Map<string, Promise<CryptoKey>>();

function keyOf(secret: string): Promise<CryptoKey> {
  let key = keys.get(secret);
  if (key === undefined) {
    key = crypto.subtle.importKey("raw", encoder.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, [
      "sign",
      "verify",
    ]);
    keys.set(secret, key);
  }
  return key;
}

/** HMAC-SHA256 of the parts, which are joined unambiguously; `purpose` keeps one use's signatures out of another's. */
export async function sign(secret: string, purpose: string, ...parts: (string | number)[]): Promise<string> {
  const mac = await crypto.subtle.sign(
    "HMAC",
    await keyOf(secret),
    encoder.encode(JSON.stringify([purpose, ...parts])),
  );
  return Buffer.from(mac).toString("base64url");
}

/** HMAC-SHA256 of the text as it is, in base64: for signatures that others check by a form of their own. */
export async function macBase64(secret: string, text: string): Promise<string> {
  return Buffer.from(await crypto.subtle.sign("HMAC", await keyOf(secret), encoder.encode(text))).toString("base64");
}

/** In constant time. */
export async function isSigned(
  secret: string,
  signature: string,
  purpose: string,
  ...parts: (string | number)[]
): Promise<boolean> {
  return crypto.subtle.verify(
    "HMAC",
    await keyOf(secret),
    Buffer.from(signature, "base64url"),
    encoder.encode(JSON.stringify([purpose, ...parts])),
  );
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/** Whether two secrets are the same, in a time that tells nothing of either. */
export const sameSecret = (a: string, b: string): boolean => timingSafeEqual(digest(a), digest(b));

const sealingKeys = new Map<string, Promise<CryptoKey>>();
const NONCE_BYTES = 12;

function sealingKeyOf(secret: string): Promise<CryptoKey> {
  let key = sealingKeys.get(secret);
  if (key === undefined) {
    key = sign(secret, "sealing").then((mac) =>
      crypto.subtle.importKey("raw", Buffer.from(mac, "base64url"), "AES-GCM", false, ["encrypt", "decrypt"]),
    );
    sealingKeys.set(secret, key);
  }
  return key;
}

/** A text for someone who must neither read nor change it, and will send it back; it opens with the same `context` only. */
export async function seal(secret: string, context: string, text: string): Promise<string> {
  const iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const algorithm = { name: "AES-GCM", iv, additionalData: encoder.encode(context) };
  const sealed = await crypto.subtle.encrypt(algorithm, await sealingKeyOf(secret), encoder.encode(text));
  return Buffer.concat([iv, new Uint8Array(sealed)]).toString("base64url");
}

/** Null for what was not sealed here, or in another context. */
export async function unseal(secret: string, context: string, sealed: string): Promise<string | null> {
  const bytes = Buffer.from(sealed, "base64url");
  const iv = bytes.subarray(0, NONCE_BYTES);
  const algorithm = { name: "AES-GCM", iv, additionalData: encoder.encode(context) };
  try {
    const text = await crypto.subtle.decrypt(algorithm, await sealingKeyOf(secret), bytes.subarray(NONCE_BYTES));
    return new TextDecoder().decode(text);
  } catch {
    return null;
  }
}
