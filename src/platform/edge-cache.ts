// Cloudflare's cache behind the platform's interface: its entries are answers to addresses that nobody can ask for.
import type { EdgeCache } from "./platform";

/** Where there is no cache, or none is wanted. */
export const NO_CACHE: EdgeCache = {
  match: async () => null,
  put: async () => {},
  delete: async () => {},
};

/** Several hubs in one zone share the cache: each has keys of its own. */
export function edgeCache(hub: string): EdgeCache {
  const addressOf = (key: string): string => `https://edge-cache.invalid/${encodeURIComponent(hub)}/${key}`;
  return {
    async match(key) {
      return (await caches.default.match(addressOf(key))) ?? null;
    },
    async put(key, body, maxAgeS) {
      const headers = { "cache-control": `max-age=${maxAgeS}` };
      await caches.default.put(addressOf(key), new Response(body, { headers }));
    },
    async delete(key) {
      await caches.default.delete(addressOf(key));
    },
  };
}
