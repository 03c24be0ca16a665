// Follows a job while its page is open: progress, state and log as they come. Without it the page has a link to refresh.

const ENDED = new Set(["succeeded", "failed", "cancelled"]);

const root = document.querySelector<HTMLElement>("[data-job-events]");
if (root !== null) follow(root);

function follow(root: HTMLElement): void {
  const state = root.querySelector<HTMLElement>("[data-job-state]");
  const bar = root.querySelector<HTMLProgressElement>("progress");
  const amount = root.querySelector<HTMLElement>("[data-job-amount]");
  const log = root.querySelector<HTMLElement>("[data-job-log]");
  root.querySelector("[data-job-refresh]")?.remove();
  let seen = Number(root.dataset.jobSeen ?? 0);

  const source = new EventSource(root.dataset.jobEvents ?? "");
  const on = (type: string, act: (data: Record<string, unknown>) => void): void => {
    source.addEventListener(type, (event) => {
      const seq = Number(event.lastEventId);
      // The feed starts at the beginning; what the page came with is there already.
      if (seq <= seen) return;
      seen = seq;
      const data: unknown = JSON.parse(event.data);
      if (typeof data === "object" && data !== null) act(Object.fromEntries(Object.entries(data)));
    });
  };
  const append = (text: string): void => {
    const line = document.createElement("li");
    const time = document.createElement("span");
    time.className = "soft";
    time.textContent = new Date().toISOString().slice(11, 19);
    line.append(time, ` ${text}`);
    log?.append(line);
  };

  on("progress", ({ done, total, unit }) => {
    if (typeof done !== "number" || typeof total !== "number" || total <= 0) return;
    if (bar !== null) {
      bar.max = total;
      bar.value = done;
    }
    if (amount !== null)
      amount.textContent = `${done.toLocaleString("en")} of ${total.toLocaleString("en")} ${typeof unit === "string" ? unit : ""}`;
  });
  on("state", (data) => {
    const name = String(data.state);
    if (state !== null) state.textContent = name;
    append(`state ${name}`);
    if (!ENDED.has(name)) return;
    source.close();
    // The page then shows what the job made.
    location.reload();
  });
  on("metric", ({ name, step, value }) => append(`${name} ${step}: ${Number(value).toPrecision(5)}`));
  on("log", ({ message }) => append(String(message)));
}
