// A unified diff as people read it: a file after the other, each to be folded, lines marked by sign and colour.

/** More is read with git. Characters. */
const MAX_SHOWN = 200_000;

export function Diff({ text }: { readonly text: string }) {
  const cut = text.length > MAX_SHOWN ? text.slice(0, text.lastIndexOf("\n", MAX_SHOWN) + 1) : text;
  const files = cut.split(/^(?=diff --git )/m).filter((one) => one !== "");
  if (files.length === 0) return <p class="soft">No file differs.</p>;
  return (
    <>
      {files.map((file) => (
        <FileDiff lines={file.trimEnd().split("\n")} />
      ))}
      {cut.length < text.length ? <p class="soft">The rest is too long for a page: see it with git.</p> : null}
    </>
  );
}

const CLASSES: Readonly<Record<string, string>> = { "+": "added", "-": "removed", "@": "hunk", "\\": "hunk" };

function FileDiff({ lines }: { readonly lines: readonly string[] }) {
  const [header = "", ...rest] = lines;
  if (header.startsWith("#")) return <p class="soft">{header.slice(2)}</p>;
  const start = rest.findIndex((line) => line.startsWith("@@"));
  // What stands before the first hunk tells of modes and ids; the names are the title.
  const facts = (start === -1 ? rest : rest.slice(0, start)).filter((line) => /^(new|deleted|old|Binary)/.test(line));
  const added = rest.filter((line, at) => at >= start && start !== -1 && line.startsWith("+")).length;
  const removed = rest.filter((line, at) => at >= start && start !== -1 && line.startsWith("-")).length;
  return (
    <details class="box diff" open>
      <summary>
        <span class="mono">{pathOf(header)}</span>{" "}
        <span class="soft small nowrap">
          +{added} −{removed}
        </span>
      </summary>
      {facts.map((fact) => (
        <p class="soft small">{fact.startsWith("Binary") ? "Binary files differ" : fact}</p>
      ))}
      {start === -1 ? null : (
        <pre tabindex={0}>
          <code class="lines">
            {rest.slice(start).map((line) => (
              <span class={CLASSES[line.charAt(0)]}>{`${line}\n`}</span>
            ))}
          </code>
        </pre>
      )}
    </details>
  );
}

/** Both names of the header are one: its second half, without `b/`. */
function pathOf(header: string): string {
  const names = header.slice("diff --git ".length);
  const second = names.slice(Math.ceil(names.length / 2));
  return second.startsWith('"') ? `"${second.slice(3)}` : second.slice(2);
}
