// The least a Worker can do with the same bindings: what the hub is measured against.
import type { Request as ClientRequest, D1Database, R2Bucket } from "@cloudflare/workers-types";

export default {
  async fetch(request: ClientRequest, env: { BLOBS: R2Bucket; DB: D1Database }): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/empty") return new Response("ok");
    if (pathname === "/d1") {
      for (let left = Number(searchParams.get("queries")); left > 0; left--) await env.DB.prepare("select 1").all();
      return new Response("ok");
    }
    if (request.method === "PUT") {
      const sha256 = searchParams.get("sha256");
      await env.BLOBS.put(pathname, request.body, sha256 === null ? {} : { sha256 });
      return new Response("ok");
    }
    const object = await env.BLOBS.get(pathname);
    if (object === null) return new Response("no such object", { status: 404 });
    return new Response(object.body, { headers: { "content-length": String(object.size) } });
  },
};
