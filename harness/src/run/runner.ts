/** Runs cases, some at a time, each in a folder of its own with a hard time limit, and has them judged. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Erratum,
  type Expectation,
  judge,
  type RunResult,
  type TraceEvent,
  type Verdict,
} from "../../../language/src/index.ts";
import type { Machine } from "../engine.ts";
import { errorStack } from "../error-text.ts";
import type { RunDirectory } from "./directory.ts";
import type { PlannedCase } from "./plan.ts";
import { type CaseResult, mergeRuns, resultText } from "./result.ts";
import { stoppedProcesses, sweep } from "./sweep.ts";

/** How long an engine may overrun the limit that it was given before the case is ended from outside. */
const OVERRUN_MS = 3000;

export type RunnerOptions = {
  /** The machine of all the cases, open. */
  readonly machine: Machine;
  readonly directory: RunDirectory;
  readonly jobs: number;
  /** Hard limit of a case on a real machine; where things are slower, so much longer. */
  readonly timeoutMs: number;
  /** How often each case is run. */
  readonly repeat: number;
  /** Number of the first case, for its folder's name: 0 if left out. */
  readonly firstIndex?: number;
  /** Ctrl-C: no new case is started, those under way are ended. */
  readonly signal: AbortSignal;
  readonly expectationOf: (planned: PlannedCase) => Expectation | null;
  readonly errata: readonly Erratum[];
  readonly onStart: (planned: PlannedCase, index: number) => void;
  readonly onEnd: (result: CaseResult) => void;
  /** `CaseContext.onEvent` of every case. */
  readonly onEvent?: (event: TraceEvent) => void;
};

export type RunOutcome = {
  /** In the order of the plan; cases of which an interruption let no run end are missing. */
  readonly results: readonly CaseResult[];
  /** What could not be cleaned up, and crashes of the judge: defects of this program. */
  readonly defects: readonly string[];
  readonly interrupted: boolean;
};

class Runner {
  readonly #options: RunnerOptions;
  readonly defects: string[] = [];

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /** Runs the case and waits for its end only within the limit. */
  async #execute(planned: PlannedCase, directory: string): Promise<RunResult> {
    const { machine, signal, onEvent } = this.#options;
    const slowness = machine.slowness(planned);
    const timeoutMs = this.#options.timeoutMs * slowness;
    const ended = new AbortController();
    const limit = sleep(timeoutMs + OVERRUN_MS, null, { signal: ended.signal }).catch(() => null);
    const run = machine.run(planned, {
      directory,
      timeoutMs,
      signal,
      slowness,
      ...(onEvent === undefined ? {} : { onEvent }),
    });
    const result = await Promise.race([run, limit]);
    ended.abort();
    const overrun = `the engine did not end within ${timeoutMs + OVERRUN_MS} ms`;
    return this.#unlessStopped(planned, result ?? { kind: "timeout", message: overrun });
  }

  /** Where a process of the run is stopped, what was seen is not the kernel's doing. */
  #unlessStopped({ nature }: PlannedCase, result: RunResult): RunResult {
    // A process that serves several cases has the run's tag.
    const stopped = nature.isReal ? stoppedProcesses(this.#options.directory.path) : [];
    if (stopped.length === 0) return result;
    return { kind: "engine-error", message: `stopped from outside: ${stopped.join(", ")}` };
  }

  #judge(planned: PlannedCase, expectation: Expectation | null, result: RunResult): Verdict {
    const { scenario, proposal, engine, nature, machine } = planned;
    const { errata } = this.#options;
    try {
      return judge({ scenario, proposal, engine, nature, machine, expectation, errata, result });
    } catch (error) {
      this.defects.push(`the judge failed on ${scenario.id} x ${proposal.id}: ${errorStack(error)}`);
      return { kind: "inconclusive", cause: "engine-error", reason: "the judge failed" };
    }
  }

  /** One case, as often as asked for, or until an interruption; null: it ended the first run. */
  async runCase(planned: PlannedCase, index: number): Promise<CaseResult | null> {
    if (planned.support.kind === "no") {
      const verdict: Verdict = { kind: "skip", reason: planned.support.reason };
      return { planned, verdict, result: null, expectation: null, outcomes: [], durationMs: 0 };
    }
    this.#options.onStart(planned, index);
    const number = (this.#options.firstIndex ?? 0) + index;
    const runs: CaseResult[] = [];
    for (let run = 0; run < this.#options.repeat; run += 1) {
      const result = await this.#runOnce(planned, `case-${number}-${run}`);
      if (result === null) break;
      runs.push(result);
    }
    return runs.length === 0 ? null : mergeRuns(runs);
  }

  /** One run from its folder to its verdict; null if an interruption ended it. */
  async #runOnce(planned: PlannedCase, name: string): Promise<CaseResult | null> {
    await this.#options.machine.recover();
    if (this.#options.signal.aborted) return null;
    const startMs = performance.now();
    const directory = this.#options.directory.caseDirectory(name);
    const result = await this.#execute(planned, directory);
    for (const left of await sweep(directory)) this.defects.push(`${planned.scenario.id}: ${left}`);
    if (this.#options.signal.aborted) return null;
    const expectation = this.#options.expectationOf(planned);
    const verdict = this.#judge(planned, expectation, result);
    const outcomes = [{ text: resultText(result), verdict: verdict.kind, count: 1 }];
    return { planned, verdict, result, expectation, outcomes, durationMs: performance.now() - startMs };
  }
}

/** Runs all cases of a plan. Does not reject for anything that a case does. */
export async function runCases(plan: readonly PlannedCase[], options: RunnerOptions): Promise<RunOutcome> {
  const runner = new Runner(options);
  const results = new Map<number, CaseResult>();
  const queue = plan.entries();
  async function work(): Promise<void> {
    for (const [index, planned] of queue) {
      if (options.signal.aborted) return;
      const result = await runner.runCase(planned, index);
      if (result === null) return;
      results.set(index, result);
      options.onEnd(result);
    }
  }
  await Promise.all(Array.from({ length: options.jobs }, work));
  return {
    results: [...results].sort(([a], [b]) => a - b).map(([, result]) => result),
    defects: runner.defects,
    interrupted: options.signal.aborted,
  };
}
