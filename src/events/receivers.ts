// Which addresses the hub may send to: a webhook's URL is chosen by its owner, and must not lead into the hub's own network.
import type { Config } from "../config";
import { HubError } from "../errors";

const MAX_URL_LENGTH = 2000;
/** Beside the protocol's own, which the URL then does not name. */
const PORTS = new Set(["", "8443"]);
/** Names that mean something on the hub's own network only, or nothing at all. */
const INNER_DOMAINS = new Set("arpa corp home internal intranet invalid lan local localhost onion".split(" "));
const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

export const isLoopback = (url: URL): boolean => LOOPBACK.has(url.hostname);

/**
 * The address as it is used. `new URL` writes every spelling of an IP address in one way, so none gets past the check for them;
 * a name that leads to an inner address is refused by the network it is sent through.
 * @throws invalid_field
 */
export function parseReceiver(text: string, config: Config): URL {
  const refused = (problem: string): HubError => new HubError("invalid_field", { field: "url", problem });
  if (text.length > MAX_URL_LENGTH) throw refused(`must have at most ${MAX_URL_LENGTH} characters`);
  if (!URL.canParse(text)) throw refused("is no URL");
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") throw refused("must name no user: use a secret instead");
  url.hash = "";
  if (config.webhooksToLoopback && url.protocol === "http:" && isLoopback(url)) return url;
  if (url.protocol !== "https:") throw refused("must begin with https://");
  if (!PORTS.has(url.port)) throw refused("must use port 443 or 8443");
  const host = url.hostname.replace(/\.$/, "");
  if (host.startsWith("[") || /^[\d.]+$/.test(host)) throw refused("must name a host, not an IP address");
  const domain = host.split(".").at(-1) ?? "";
  if (!host.includes(".") || INNER_DOMAINS.has(domain)) throw refused("must name a host of the public internet");
  if (ownHosts(config).has(host)) throw refused("must not lead back to this hub");
  return url;
}

const ownHosts = ({ publicUrl, downloadDomain }: Config): Set<string> =>
  new Set([publicUrl, ...(downloadDomain === null ? [] : [downloadDomain.origin])].map((one) => new URL(one).hostname));
