/**
 * The recalls of one armed file, the same for every guard: each is bounded, and the file is not mapped again while one is
 * pending. Holds no descriptor and makes no system call.
 */
import {
  type GuardNews,
  type GuardOptions,
  type MappingHolder,
  monotonicMs,
  type RecallEnd,
  type Threat,
} from "./truncation-guard.ts";

export class Recalls {
  readonly #holder: MappingHolder;
  readonly #options: GuardOptions;
  /** Recalls under way: `settle` waits for the last of them. */
  #pending = 0;
  #isCutOff = false;

  constructor(holder: MappingHolder, options: GuardOptions) {
    this.#holder = holder;
    this.#options = options;
  }

  /** The holder is not waited for any more. */
  get isCutOff(): boolean {
    return this.#isCutOff;
  }

  get isRecalling(): boolean {
    return this.#pending > 0;
  }

  /** Resolves when the holder has acknowledged or is cut off; never rejects. */
  async recall(threat: Threat): Promise<RecallEnd> {
    if (this.#isCutOff) return "cut-off";
    this.#report({ kind: "recall", threat });
    this.#pending += 1;
    const end = await this.#answer(threat);
    this.#pending -= 1;
    this.#report({ kind: "recalled", end });
    return end;
  }

  async #answer(threat: Threat): Promise<RecallEnd> {
    const { boundMs } = this.#options;
    let timer: NodeJS.Timeout | null = null;
    try {
      const answer = this.#holder.recall(threat);
      // Most holders acknowledge by returning: the truncation does not wait for a turn of the event loop.
      if (answer === undefined) return this.#isCutOff ? "cut-off" : "acknowledged";
      const late = new Promise<"late">((resolve) => {
        timer = setTimeout(() => resolve("late"), boundMs);
      });
      if ((await Promise.race([answer, late])) !== "late") return this.#isCutOff ? "cut-off" : "acknowledged";
      this.cutOff(`no acknowledgement within ${boundMs} ms of the recall for ${threat.by}`);
    } catch (error) {
      this.cutOff(`the recall for ${threat.by} failed: ${error instanceof Error ? error.message : error}`);
    } finally {
      if (timer !== null) clearTimeout(timer);
    }
    return "cut-off";
  }

  /** Passes the size to the holder, unless another recall is pending: the end of that one settles. */
  settle(sizeBytes: bigint): void {
    if (this.#isCutOff || this.#pending > 0) return;
    this.#report({ kind: "settle", sizeBytes });
    this.#holder.settle(sizeBytes);
  }

  cutOff(reason: string): void {
    if (this.#isCutOff) return;
    this.#isCutOff = true;
    this.#report({ kind: "cut-off", reason });
    this.#holder.cutOff(reason);
  }

  #report(news: GuardNews): void {
    this.#options.onEvent?.({ ...news, atMs: monotonicMs() });
  }
}
