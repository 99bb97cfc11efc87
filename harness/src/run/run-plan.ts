/** Runs a plan from its folder to its end, machine by machine; leaves nothing behind, however it ends. */
import {
  type Attestation,
  type Erratum,
  type Expectation,
  needsAttention,
} from "../../../language/src/index.ts";
import { thisMachine } from "../machine.ts";
import { version } from "../paths.ts";
import type { RunDirectory } from "./directory.ts";
import { type Lane, lanesOf, runLane } from "./lanes.ts";
import { live } from "./live.ts";
import type { RunEnd, RunInfo, RunObserver } from "./observer.ts";
import type { Place, PlannedCase, Shard } from "./plan.ts";
import type { RunOutcome } from "./runner.ts";

export type Limits = {
  readonly shard: Shard | null;
  readonly repeat: number;
  readonly timeoutMs: number;
  readonly jobs: number;
  /** Beside so many processes that never sleep; none if left out. */
  readonly busy?: number;
};

export type RunPlan = {
  readonly cases: readonly PlannedCase[];
  /** The places of the cases. */
  readonly places: readonly Place[];
  readonly limits: Limits;
  readonly expectationOf: (planned: PlannedCase) => Expectation | null;
  readonly errata: readonly Erratum[];
  /** Of which booted kernels the console is kept: of those on which a case needs attention, or of all. */
  readonly consoles: "needed" | "all";
};

export type Observers = readonly Partial<RunObserver>[];

/** All of them as one; `onEvent` only where one listens, since events cost the engines something. */
function fanOut(observers: Observers): Omit<RunObserver, "onEvent"> & Pick<Partial<RunObserver>, "onEvent"> {
  const listeners = observers.flatMap((one) => (one.onEvent === undefined ? [] : [one]));
  return {
    onBegin: (info, cases) => observers.forEach((one) => void one.onBegin?.(info, cases)),
    onBooted: (machine) => observers.forEach((one) => void one.onBooted?.(machine)),
    onCaseStart: (planned) => observers.forEach((one) => void one.onCaseStart?.(planned)),
    onCaseEnd: (result) => observers.forEach((one) => void one.onCaseEnd?.(result)),
    onConsoles: (machine) => observers.forEach((one) => void one.onConsoles?.(machine)),
    onLaneEnd: () => observers.forEach((one) => void one.onLaneEnd?.()),
    onEnd: () => observers.forEach((one) => void one.onEnd?.()),
    ...(listeners.length === 0
      ? {}
      : { onEvent: (event) => listeners.forEach((one) => void one.onEvent?.(event)) }),
  };
}

type Observer = ReturnType<typeof fanOut>;

async function infoOf(
  { cases, limits }: RunPlan,
  lanes: readonly Lane[],
  directory: RunDirectory,
): Promise<RunInfo> {
  const attestations: Attestation[] = [];
  for (const { machine, engines } of lanes) attestations.push(...(await machine.attestations(engines)));
  const here = thisMachine();
  return {
    version: version(),
    startedAt: new Date().toISOString(),
    kernel: here.kernel,
    node: here.node,
    pageSize: here.pageSize,
    kvmBackend: here.kvmBackend,
    runDirectory: directory.path,
    fileSystem: here.runDirectory.fileSystem,
    cases: cases.length,
    ...limits,
    busy: limits.busy ?? 0,
    attestations,
  };
}

/** A console is needed where a result on its kernel was unexpected or inconclusive. */
function reportConsoles(
  { machine }: Lane,
  { results }: RunOutcome,
  { observer, consoles }: Pick<RunPlan, "consoles"> & { readonly observer: Observer },
): void {
  const boots = machine.consoles();
  if (boots.every(({ lines }) => lines.length === 0)) return;
  if (consoles === "needed" && !results.some(({ verdict }) => needsAttention(verdict.kind))) return;
  observer.onConsoles({ name: machine.name, boots });
}

/** Runs the cases in a directory that goes away afterwards, lane by lane. */
async function runLanes(
  { limits, expectationOf, errata, consoles }: RunPlan,
  lanes: readonly Lane[],
  context: { readonly directory: RunDirectory; readonly signal: AbortSignal; readonly observer: Observer },
): Promise<readonly string[]> {
  const { directory, signal, observer } = context;
  const { jobs, timeoutMs, repeat, busy = 0 } = limits;
  const defects: string[] = [];
  let firstIndex = 0;
  for (const lane of lanes) {
    if (signal.aborted) break;
    try {
      const outcome = await runLane(lane, {
        directory,
        jobs,
        timeoutMs,
        repeat,
        busy,
        firstIndex,
        signal,
        expectationOf,
        errata,
        ...(observer.onEvent === undefined ? {} : { onEvent: observer.onEvent }),
        onBooted: observer.onBooted,
        onStart: observer.onCaseStart,
        onEnd: observer.onCaseEnd,
        onEnded: (ended) => reportConsoles(lane, ended, { observer, consoles }),
      });
      firstIndex += outcome.results.length;
      defects.push(...outcome.defects);
    } finally {
      observer.onLaneEnd();
    }
  }
  return defects;
}

/** The observers hear of the run while it lasts, and of all results. */
export async function runPlan(plan: RunPlan, observers: Observers): Promise<RunEnd> {
  const startMs = performance.now();
  const observer = fanOut(observers);
  const { value, interruptedBy, left } = await live({}, async ({ directory, signal }) => {
    try {
      const lanes = lanesOf(
        plan.cases,
        plan.places.map(({ machine }) => machine),
      );
      observer.onBegin(await infoOf(plan, lanes, directory), plan.cases);
      return await runLanes(plan, lanes, { directory, signal, observer });
    } finally {
      observer.onEnd();
    }
  });
  return {
    interruptedBy,
    defects: [...(value ?? []), ...left],
    durationMs: performance.now() - startMs,
  };
}
