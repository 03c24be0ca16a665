// Adds up the requests of one client that the hub's isolates have let through in one window: one Durable Object each, in memory only.
import { DurableObject } from "cloudflare:workers";
import type { Env } from "./cloudflare";

export class RateWindow extends DurableObject<Env> {
  #window = 0;
  #sum = 0;

  /** @returns the sum in this window; a late report of a window that is over counts nothing */
  add(window: number, count: number): number {
    if (window > this.#window) {
      this.#window = window;
      this.#sum = 0;
    }
    if (window === this.#window) this.#sum += count;
    return this.#sum;
  }
}
