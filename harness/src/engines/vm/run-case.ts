/**
 * A case whose guest runs in a VM process of its own, beside the host actors. This side starts it, passes signals between
 * the two, classifies what the guest saw while the file is still what it was, and turns the report into evidence. A process
 * that has nothing of its case left serves the next one. The guest, and the process that runs it, are the engine's.
 */
import { join } from "node:path";
import {
  type Access,
  type Attestation,
  cpuOf,
  type Evidence,
  isDeviceAccess,
  type Proposal,
  type RunResult,
  type Scenario,
  type TraceEvent,
} from "../../../../language/src/index.ts";
import { KVM_ASYNC_PF_ENABLED, monotonicMs } from "../../../../vmm/src/index.ts";
import { onAbort } from "../../abort.ts";
import type { CaseContext } from "../../engine.ts";
import {
  type Bystanders,
  bystanderCounters,
  bystandersOf,
  progressOf,
  STARVED_AFTER_MS,
} from "../bystander.ts";
import { exitText, within } from "../child.ts";
import { ChildPool, type PooledChild } from "../child-pool.ts";
import { type HostSetup, openHostSetup, setupFailure, signalsOfLostMemory } from "../host-setup.ts";
import { killedText } from "../host-step.ts";
import { busyReason, ioPatienceMs } from "../patience.ts";
import { SeenAccesses } from "../seen.ts";
import { kvmFacts } from "./kvm-support.ts";
import type { FromVm, ToVm, VmReport } from "./messages.ts";
import {
  accessesSeen,
  accessTimes,
  bystandersWatched,
  guestKernelSeen,
  isHungByTime,
  unexpectedError,
  vmmSeen,
} from "./observe.ts";
import type { CasePlan, PlanPlace } from "./plan.ts";

/** Part of a case's time that is kept for ending it. */
const CLOSE_RESERVE_MS = 1500;
/** Part that is kept for the VM process's report. */
const REPORT_RESERVE_MS = 700;
/**
 * After the VM's end, on a real machine: how long a host actor's word may be under way on a busy machine. Only who is held
 * up takes it.
 */
const HOST_WORD_MS = 1000;

export type VmPool<Plan extends CasePlan> = ChildPool<ToVm<Plan>, FromVm>;

/** @param entry path of the VM process's source file in the repository */
export function vmPool<Plan extends CasePlan>(entry: string): VmPool<Plan> {
  return new ChildPool<ToVm<Plan>, FromVm>(entry);
}

/** The part of a case that depends on the engine. */
export type VmEngine<Plan extends CasePlan> = {
  /** The processes that can serve a case with this plan. */
  poolFor(plan: Plan): VmPool<Plan>;
  /** How long a guest may run, on a real machine. */
  readonly lifeMs: number;
  /** After its report: how long a VM process may take to give everything back before it is killed, on a real machine. */
  readonly idleMs: number;
  plan(place: PlanPlace): Plan;
  /** Without what the case's own set-up adds. */
  attestation(report: VmReport): Attestation;
};

type Parts<Plan extends CasePlan> = {
  readonly setup: HostSetup;
  readonly plan: Plan;
  readonly pool: VmPool<Plan>;
  readonly attestation: VmEngine<Plan>["attestation"];
};

/** The VM process of one case. */
class VmProcess<Plan extends CasePlan> {
  readonly #setup: HostSetup;
  readonly #pool: VmPool<Plan>;
  readonly #child: PooledChild<ToVm<Plan>, FromVm>;
  readonly #seen: SeenAccesses;
  readonly windowBytes: number;
  readonly ready: Promise<void>;
  /** Resolves with the report, or null if the process ended without one. */
  readonly reported: Promise<VmReport | null>;
  /** Resolves with `idle` once nothing of the case is left in the process, with `ended` if it ended first. */
  readonly #idle: Promise<"idle" | "ended">;
  #ending = "";
  #signal: string | null = null;
  #asyncPageFaultMsr: bigint | null = null;
  #filePath: string | null = null;

  constructor(
    scenario: Scenario,
    { setup, plan, pool, directory }: Pick<Parts<Plan>, "setup" | "plan" | "pool"> & { directory: string },
  ) {
    this.#pool = pool;
    this.#seen = new SeenAccesses(scenario, setup);
    this.#setup = setup;
    this.windowBytes = plan.windowBytes;
    let onReady = (): void => {};
    let onReport = (_report: VmReport | null): void => {};
    let onIdle = (_state: "idle" | "ended"): void => {};
    this.ready = new Promise((resolve) => {
      onReady = resolve;
    });
    this.reported = new Promise((resolve) => {
      onReport = resolve;
    });
    this.#idle = new Promise((resolve) => {
      onIdle = resolve;
    });
    this.#child = pool.borrow(directory, plan.guard === null ? [] : [setup.fileDescriptor]);
    this.#child.listen({
      onMessage: (message) => {
        if (message.type === "ready") {
          this.#filePath = message.filePath;
          onReady();
        } else if (message.type === "report") onReport(message.report);
        else if (message.type === "idle") onIdle("idle");
        // Nothing else wakes what waits for the server: not even a signal.
        else if (message.type === "waits") setup.endServer();
        else this.#receive(message);
      },
      onExit: (exit) => {
        this.#ending = exitText(exit);
        this.#signal = exit.kind === "signal" ? exit.signal : null;
        onReady();
        onReport(null);
        onIdle("ended");
      },
    });
    setup.onSignal((name) => this.#child.send({ type: "signal", name }));
    this.#child.send({ type: "start", plan });
  }

  #receive(message: Extract<FromVm, { type: "signal" | "saw" | "take" }>): void {
    switch (message.type) {
      case "signal":
        this.#setup.raise(message.name, message.from);
        return;
      case "saw":
        this.#seen.take(message.task, message.step, message.bytes);
        return;
      case "take":
        this.#asyncPageFaultMsr = message.asyncPageFaultMsr;
        this.#child.send({ type: "taken" });
    }
  }

  /** The mapped file, if it is not the host setup's: a sealed copy. */
  get filePath(): string | undefined {
    return this.#filePath ?? undefined;
  }

  hostSettled(): void {
    this.#child.send({ type: "host-settled" });
  }

  saw(actor: string, stepIndex: number): Access | null {
    return this.#seen.access(actor, stepIndex);
  }

  /** How it ended, for messages. Empty while it runs. */
  get ending(): string {
    return this.#ending;
  }

  /** The signal that ended it; null: it runs, or ended otherwise. */
  get signal(): string | null {
    return this.#signal;
  }

  /** MSR_KVM_ASYNC_PF_EN, as far as it was told; null: it was not. */
  get asyncPageFaultMsr(): bigint | null {
    return this.#asyncPageFaultMsr;
  }

  kill(): Promise<void> {
    return this.#child.kill();
  }

  /** After the case: another one may have the process if it reports in time that it has released everything. */
  async leave(after: "report" | "failure", boundMs: number): Promise<void> {
    const isIdle = after === "report" && (await within(this.#idle, boundMs)) && (await this.#idle) === "idle";
    await (isIdle ? this.#pool.giveBack(this.#child) : this.kill());
  }
}

async function perform<Plan extends CasePlan>(
  scenario: Scenario,
  proposal: Proposal,
  parts: Pick<Parts<Plan>, "setup" | "attestation"> & { readonly vm: VmProcess<Plan> },
  { boundMs, slowness }: { readonly boundMs: number; readonly slowness: number },
): Promise<RunResult> {
  const { setup, vm } = parts;
  const left = (): number => Math.max(0, boundMs - setup.nowMs());
  if (!(await within(vm.ready, left()))) return { kind: "timeout", message: "the VM was not set up in time" };
  setup.begin(vm.filePath);
  void setup.settled(left()).then((settled) => {
    if (settled) vm.hostSettled();
  });
  if (!(await within(vm.reported, left()))) {
    return { kind: "timeout", message: `the VM process gave no report within ${boundMs} ms` };
  }
  const report = (await vm.reported) ?? deathReport(scenario, vm);
  if (report === null) return { kind: "engine-error", message: `VM process: ${vm.ending}` };
  // The guest may have seen the effect of a step before its actor's word of it has arrived here.
  await setup.settled(Math.min(left(), HOST_WORD_MS * slowness));
  const failure = (await setup.failure()) ?? unexpectedError(report);
  if (failure !== null) return { kind: "engine-error", message: failure };
  if (report.outOfTime) {
    const states = report.tasks.map(
      ({ actor, state, currentStep }) => `${actor} ${state} at step ${currentStep}`,
    );
    const said = report.guest?.console.findLast((line) => line.trim() !== "");
    const last = said === undefined ? "" : `; last on its console: ${said}`;
    return {
      kind: "timeout",
      message: `the guest had not finished when its time was over: ${states.join(", ")}${last}${killedText(setup.hostSteps())}`,
    };
  }
  const bystanders = bystandersSeen(scenario, report, slowness);
  if (bystanders.kind === "not-known") return { kind: "busy", message: bystanders.reason };
  const evidence = toEvidence(scenario, proposal, { ...parts, report, bystanders });
  const busy = await busyReason(setup, {
    isHungByTime: isHungByTime(report),
    patienceMs: ioPatienceMs(scenario, slowness),
  });
  return busy === null ? { kind: "evidence", evidence } : { kind: "busy", message: busy };
}

/**
 * The report of a VM process that a device of the scenario's has killed: nothing of the guest is left but what came before.
 * null: its end is no observation.
 */
function deathReport(
  scenario: Scenario,
  { signal, asyncPageFaultMsr }: Pick<VmProcess<CasePlan>, "signal" | "asyncPageFaultMsr">,
): VmReport | null {
  const hasDevice = Object.values(scenario.actors).some(
    (actor) => actor.in === "vmm" && actor.steps.some(isDeviceAccess),
  );
  if (signal === null || !hasDevice || !signalsOfLostMemory.includes(signal)) return null;
  return {
    capabilities: kvmFacts().capabilities,
    history: [{ kind: "killed", signal }],
    end: { kind: "vmm-killed", signal },
    outOfTime: false,
    final: { counters: {}, asyncPageFaultMsr, clock: null },
    tasks: [],
    apfNotPresentCount: 0,
    apfReadyCount: 0,
    nmiCount: 0,
    oopsCount: 0,
    heartbeat: 0,
    heartbeatSinceTrouble: 0,
    events: [],
  };
}

function bystandersSeen(scenario: Scenario, report: VmReport, slowness: number): Bystanders {
  const watched = Object.entries(bystandersWatched(scenario, report));
  return bystandersOf(
    Object.fromEntries(
      watched.map(([name, one]) => {
        const actor = scenario.actors[name];
        const cpu = actor?.in === "guest-task" || actor?.in === "guest-kernel" ? cpuOf(actor) : 0;
        return [name, progressOf(one, { who: `vCPU ${cpu}`, starvedAfterMs: STARVED_AFTER_MS, slowness })];
      }),
    ),
  );
}

const byValue = (a: bigint, b: bigint): number => Number(a - b);

/**
 * Beside KVM's counters the guest's: its kernel's scheduling decisions, in all and after the first trouble (it is alive);
 * how far the counting tasks came; the microseconds from the beginning of the first access to the end of the last.
 */
function guestCounters(report: VmReport): Readonly<Record<string, bigint>> {
  const tscKhz = report.final?.clock?.tscKhz ?? null;
  const results = report.tasks.flatMap((task) => task.results.filter(({ ended }) => ended !== 0n));
  const began = results.map((result) => result.began).sort(byValue)[0] ?? 0n;
  const ended =
    results
      .map((result) => result.ended)
      .sort(byValue)
      .at(-1) ?? 0n;
  const span =
    tscKhz === null || ended <= began
      ? {}
      : { guest_access_span_us: ((ended - began) * 1000n) / BigInt(tscKhz) };
  return {
    guest_counted: report.tasks.reduce((sum, { count }) => sum + count, 0n),
    ...span,
    guest_heartbeat: BigInt(report.heartbeat),
    guest_heartbeat_in_trouble: BigInt(report.heartbeatSinceTrouble),
  };
}

type Ran = {
  readonly setup: HostSetup;
  readonly vm: { readonly windowBytes: number; saw(actor: string, stepIndex: number): Access | null };
  attestation(report: VmReport): Attestation;
  readonly report: VmReport;
  readonly bystanders: Extract<Bystanders, { kind: "known" }>;
};

function watchedCounters(scenario: Scenario, report: VmReport): Readonly<Record<string, bigint>> {
  const watched = Object.entries(bystandersWatched(scenario, report));
  return Object.assign({}, ...watched.map(([name, one]) => bystanderCounters(name, one)));
}

function toEvidence(
  scenario: Scenario,
  proposal: Proposal,
  { setup, vm, attestation, report, bystanders }: Ran,
): Evidence {
  const startMs = monotonicMs() - setup.nowMs();
  const guestTrace: TraceEvent[] = report.events.map(({ kind, actor, atMonotonicMs, gpa, detail }) => ({
    kind,
    actor,
    atMs: atMonotonicMs - startMs,
    gpa,
    detail,
  }));
  const trace = [...setup.events(), ...guestTrace].sort((a, b) => a.atMs - b.atMs);
  const counts: Record<string, number> = { ...setup.counts() };
  for (const { kind } of guestTrace) counts[kind] = (counts[kind] ?? 0) + 1;
  // The guest keeps the first 256 events of each vCPU; these it counts to the end.
  const counted = {
    "apf-not-present": report.apfNotPresentCount,
    "apf-ready": report.apfReadyCount,
    nmi: report.nmiCount,
  };
  const { final } = report;
  return {
    attestation: {
      ...attestation(report),
      lapic: proposal.lapic,
      apfEnabled:
        final?.asyncPageFaultMsr == null ? null : (final.asyncPageFaultMsr & KVM_ASYNC_PF_ENABLED) !== 0n,
      transport: setup.transport,
      windowBytes: scenario.layout === "dax-window" ? vm.windowBytes : null,
    },
    observations: {
      accesses: accessesSeen(scenario, report, (actor, index) => vm.saw(actor, index)),
      host: setup.hostSteps(),
      vmm: vmmSeen(report),
      guestKernel: guestKernelSeen(report),
      bystanders: bystanders.states,
    },
    ends: [],
    counts: { ...counts, ...Object.fromEntries(Object.entries(counted).filter(([, count]) => count > 0)) },
    counters: { ...final?.counters, ...guestCounters(report), ...watchedCounters(scenario, report) },
    accessMs: accessTimes(scenario, report),
    kvmTrace: null,
    ...(report.guest === undefined ? {} : { guestConsole: report.guest.console }),
    trace,
    exhaustiveness: { kind: "sampled", runs: 1, seed: null },
    durationMs: setup.nowMs(),
  };
}

/** Runs a case from its host setup to its end. */
export async function runVmCase<Plan extends CasePlan>(
  scenario: Scenario,
  proposal: Proposal,
  context: CaseContext,
  engine: VmEngine<Plan>,
): Promise<RunResult> {
  let setup: HostSetup;
  const leaseSocket = proposal.server === "fuse-lease" ? join(context.directory, "leases") : null;
  try {
    setup = await openHostSetup(scenario, context, leaseSocket === null ? {} : { leaseSocket });
  } catch (error) {
    return setupFailure(error);
  }
  const boundMs = context.timeoutMs - CLOSE_RESERVE_MS;
  const plan = engine.plan({
    filePath: setup.filePath,
    sourceDirectory: setup.sourceDirectory,
    leaseSocket,
    lifeMs: engine.lifeMs * context.slowness,
    slowness: context.slowness,
    ioPatienceMs: ioPatienceMs(scenario, context.slowness),
    latestEndMs: monotonicMs() + boundMs - setup.nowMs() - REPORT_RESERVE_MS,
  });
  const vm = new VmProcess(scenario, {
    setup,
    plan,
    pool: engine.poolFor(plan),
    directory: context.directory,
  });
  const stopListening = onAbort(context.signal, () => void vm.kill());
  let result: RunResult | null = null;
  try {
    result = await perform(
      scenario,
      proposal,
      { setup, vm, attestation: (report) => engine.attestation(report) },
      { boundMs, slowness: context.slowness },
    );
    return result;
  } finally {
    stopListening();
    await vm.leave(result?.kind === "evidence" ? "report" : "failure", engine.idleMs * context.slowness);
    await setup.close();
  }
}
