// Repositories by the thousand, as rows: what lists are measured on would take hours to publish.

const AT_ONCE = 1000;

/** Public models of the administrator, each with tags, a task and counts; one in a hundred is tagged `rare`, one is called `…needle`. */
export async function plantRepos(db: D1Database, count: number): Promise<{ repos: number }> {
  for (let from = 0; from < count; from += AT_ONCE) {
    const numbers = `with recursive n (i) as (select ${from} union all select i + 1 from n where i + 1 < ${Math.min(count, from + AT_ONCE)})`;
    const id = "'planted' || substr('000000' || i, -6)";
    const name = `'model-' || i || iif(i = ${Math.floor(count / 2)}, '-needle', '')`;
    await db.batch(
      [
        `${numbers} insert into repos (id, type, owner_id, name, name_key, private, created_at, updated_at, likes, downloads)
          select ${id}, 'model', (select min(id) from accounts), ${name}, ${name}, 0, i, i, i % 97, i * 7919 % 10007 from n`,
        `${numbers} insert into repo_index (repo_id, tree, version, pipeline_tag, library, parameters, used_storage)
          select ${id}, '', 1, iif(i % 2, 'text-generation', 'fill-mask'), 'transformers', i * 1000000, i from n`,
        `${numbers} insert into repo_tags (repo_id, tag) select ${id}, t.value
          from n, json_each('["safetensors","transformers","license:mit","en","region:us","rare"]') t where t.value <> 'rare' or i % 100 = 0`,
      ].map((query) => db.prepare(query)),
    );
  }
  return { repos: count };
}
