// The headers of a sharded model's weights in one answer, as huggingface_hub asks for them from 2.4 on.
import { Hono } from "hono";
import type { SafetensorsHeader } from "../../formats/safetensors";
import { readShardedWeights } from "../../hub/sharded-weights";
import { parseFilePath } from "../../ids";
import type { AppEnv } from "../app-env";
import { callerOf, repoIdOf, textAfterVerb } from "./request";

/** As the file has it. */
const headerOf = ({ tensors, metadata }: SafetensorsHeader) => ({
  ...(metadata.size === 0 ? {} : { __metadata__: Object.fromEntries(metadata) }),
  ...Object.fromEntries(
    [...tensors].map(([name, { dtype, shape, begin, end }]) => [name, { dtype, shape, data_offsets: [begin, end] }]),
  ),
});

export const weights = new Hono<AppEnv>().get("/api/models/:owner/:name/safetensors-metadata/*", async (c) => {
  const path = parseFilePath(textAfterVerb(c), "path");
  const { totalSize, headers } = await readShardedWeights(callerOf(c), repoIdOf(c, "model"), path);
  return c.json({
    index: totalSize === undefined ? {} : { metadata: { total_size: totalSize } },
    headers: Object.fromEntries([...headers].map(([shard, header]) => [shard, headerOf(header)])),
  });
});
