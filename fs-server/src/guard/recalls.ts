/**
 * The recall of one armed file, the same for every guard: one at a time, bounded, and never mapped again while one is
 * under way. Holds no descriptor and makes no system call.
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

  /** No answer is waited for any more. */
  get isCutOff(): boolean {
    return this.#isCutOff;
  }

  get isRecalling(): boolean {
    return this.#pending > 0;
  }

  /** Resolves when the holder has acknowledged or is cut off; never rejects. */
  async recall(threat: Threat): Promise<RecallEnd> {
    if (this.#isCutOff) return "cut-off";
    this.#tell({ kind: "recall", threat });
    this.#pending += 1;
    const end = await this.#answer(threat);
    this.#pending -= 1;
    this.#tell({ kind: "recalled", end });
    return end;
  }

  async #answer(threat: Threat): Promise<RecallEnd> {
    const { boundMs } = this.#options;
    let timer: NodeJS.Timeout | null = null;
    try {
      const answer = this.#holder.recall(threat);
      // Most holders are done when they return: nobody is kept waiting for a turn of the event loop.
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

  /** Tells the size, unless another recall has begun meanwhile: then that one's end will. */
  settle(sizeBytes: bigint): void {
    if (this.#isCutOff || this.#pending > 0) return;
    this.#tell({ kind: "settle", sizeBytes });
    this.#holder.settle(sizeBytes);
  }

  cutOff(reason: string): void {
    if (this.#isCutOff) return;
    this.#isCutOff = true;
    this.#tell({ kind: "cut-off", reason });
    this.#holder.cutOff(reason);
  }

  #tell(news: GuardNews): void {
    this.#options.onEvent?.({ ...news, atMs: monotonicMs() });
  }
}
