// Runs in a process of its own, as its author would write it: the stock @huggingface/transformers, whose folder, and what to do, come as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { packages, endpoint, cache, token, model, texts } = JSON.parse(process.argv[2] ?? "");
const entry = createRequire(`${packages}/`).resolve("@huggingface/transformers");
const { AutoConfig, AutoTokenizer, env, pipeline } = await import(pathToFileURL(entry).href.replace(/\.cjs$/, ".mjs"));

env.remoteHost = `${endpoint}/`;
env.remotePathTemplate = "{model}/resolve/{revision}/";
env.cacheDir = cache;
// The library shows its token to the ecosystem's own hub only.
if (token !== undefined)
  env.fetch = (url, init) => {
    const headers = new Headers(init?.headers);
    headers.set("authorization", `Bearer ${token}`);
    return fetch(url, { ...init, headers });
  };

async function answer() {
  const config = await AutoConfig.from_pretrained(model);
  const tokenizer = await AutoTokenizer.from_pretrained(model);
  const extract = await pipeline("feature-extraction", model, { dtype: "fp32" });
  const features = await extract(texts, { pooling: "none" });
  return { type: config.model_type, ids: tokenizer.encode(texts[0]), dims: features.dims, features: features.tolist() };
}

console.log(JSON.stringify(await answer().catch((error) => ({ error: String(error) }))));
