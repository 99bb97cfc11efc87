/**
 * The engine `kvm`: a case on /dev/kvm. Real are KVM, the host's memory management and file systems, the DAX window and
 * the FUSE server; the guest is our micro-guest.
 *
 * Each case has a VM process to itself beside the host actors. This side starts it, passes signals between the
 * two, classifies what the guest saw while the file is still what it was, and turns the report into evidence. A process
 * that has nothing of its case left serves the next one.
 */
import { release } from "node:os";
import { join } from "node:path";
import {
  type Access,
  type Attestation,
  cpuOf,
  type Evidence,
  enablesApf,
  type Proposal,
  type RunResult,
  type Scenario,
  type TraceEvent,
} from "../../../../language/src/index.ts";
import { PAGE_SIZE, poisonRefusal } from "../../../../sys/src/index.ts";
import {
  type CpuFeatures,
  cpuFeatures,
  KVM_ASYNC_PF_ENABLED,
  Kvm,
  monotonicMs,
  supportedCpuid,
} from "../../../../vmm/src/index.ts";
import { onAbort } from "../../abort.ts";
import type { CaseContext, Engine, Support } from "../../engine.ts";
import { errorText } from "../../error-text.ts";
import { hostSetupSupport, supportOf, thisMachine } from "../../machine.ts";
import {
  type Bystanders,
  bystanderCounters,
  bystandersOf,
  progressOf,
  STARVED_AFTER_MS,
} from "../bystander.ts";
import { exitText, within } from "../child.ts";
import { ChildPool, type PooledChild } from "../child-pool.ts";
import { supportsAccesses } from "../guest-program.ts";
import { type HostSetup, openHostSetup } from "../host-setup.ts";
import { busyReason, ioPatienceMs } from "../patience.ts";
import { SeenAccesses } from "../seen.ts";
import { guardSupport } from "./guard-support.ts";
import type { FromVm, ToVm, VmReport } from "./messages.ts";
import {
  accessesSeen,
  accessTimes,
  bystandersWatched,
  guestKernelSeen,
  unexpectedError,
  vmmSeen,
} from "./observe.ts";
import { planCase, supportsAnywhere, type VmPlan } from "./plan.ts";

/** Part of a case's time that is kept for ending it. */
const CLOSE_RESERVE_MS = 1500;
/** Part that is kept for the VM process's report. */
const REPORT_RESERVE_MS = 700;
/** After the VM's end: how long a host actor's word may be under way on a busy machine. Only who is held up takes it. */
const HOST_WORD_MS = 1000;
/** How long a guest may run: a proof of a loop takes a quarter of a second, a repair one more. */
const LIFE_MS = 8000;

/** After its report: how long a VM process may take to give everything back before it is killed. */
const IDLE_MS = 1000;

const vmPool = new ChildPool<ToVm, FromVm>("harness/src/engines/kvm/vm-main.ts");

/** The VM process of one case. */
class VmProcess {
  readonly #setup: HostSetup;
  readonly #child: PooledChild<ToVm, FromVm>;
  readonly #seen: SeenAccesses;
  readonly windowBytes: number;
  readonly ready: Promise<void>;
  /** Resolves with the report, or null if the process ended without one. */
  readonly reported: Promise<VmReport | null>;
  /** Resolves with `idle` once nothing of the case is left in the process, with `ended` if it ended first. */
  readonly #idle: Promise<"idle" | "ended">;
  #ending = "";
  #filePath: string | null = null;

  constructor(scenario: Scenario, setup: HostSetup, plan: VmPlan, directory: string) {
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
    this.#child = vmPool.borrow(directory, plan.guard === null ? [] : [setup.fileDescriptor]);
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
        onReady();
        onReport(null);
        onIdle("ended");
      },
    });
    setup.onSignal((name) => this.#child.send({ type: "signal", name }));
    this.#child.send({ type: "start", plan });
  }

  #receive(message: Extract<FromVm, { type: "signal" | "saw" }>): void {
    if (message.type === "signal") {
      this.#setup.raise(message.name, message.from);
      return;
    }
    this.#seen.take(message.task, message.step, message.bytes);
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

  kill(): Promise<void> {
    return this.#child.kill();
  }

  /** After the case: another one may have the process if it reports in time that it has released everything. */
  async leave(after: "report" | "failure", boundMs: number): Promise<void> {
    const isIdle = after === "report" && (await within(this.#idle, boundMs)) && (await this.#idle) === "idle";
    await (isIdle ? vmPool.giveBack(this.#child) : this.kill());
  }
}

async function perform(
  scenario: Scenario,
  proposal: Proposal,
  setup: HostSetup,
  vm: VmProcess,
  { boundMs, slowness }: { readonly boundMs: number; readonly slowness: number },
): Promise<RunResult> {
  const left = (): number => Math.max(0, boundMs - setup.nowMs());
  if (!(await within(vm.ready, left()))) return { kind: "timeout", message: "the VM was not set up in time" };
  setup.begin(vm.filePath);
  void setup.settled(left()).then((settled) => {
    if (settled) vm.hostSettled();
  });
  if (!(await within(vm.reported, left()))) {
    return { kind: "timeout", message: `the VM process gave no report within ${boundMs} ms` };
  }
  const report = await vm.reported;
  if (report === null) return { kind: "engine-error", message: `VM process: ${vm.ending}` };
  // The guest may have seen the effect of a step before its actor's word of it has arrived here.
  await setup.settled(Math.min(left(), HOST_WORD_MS));
  const failure = (await setup.failure()) ?? unexpectedError(report);
  if (failure !== null) return { kind: "engine-error", message: failure };
  if (report.outOfTime) {
    const states = report.tasks.map(
      ({ actor, state, currentStep }) => `${actor} ${state} at step ${currentStep}`,
    );
    return {
      kind: "timeout",
      message: `the guest had not finished when its time was over: ${states.join(", ")}`,
    };
  }
  const bystanders = bystandersSeen(scenario, report, slowness);
  if (bystanders.kind === "not-known") return { kind: "busy", message: bystanders.reason };
  const evidence = toEvidence(scenario, proposal, { setup, vm, report, bystanders });
  const busy = await busyReason(setup, evidence.observations.accesses, ioPatienceMs(scenario, slowness));
  return busy === null ? { kind: "evidence", evidence } : { kind: "busy", message: busy };
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
  readonly vm: VmProcess;
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
  { setup, vm, report, bystanders }: Ran,
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
      ...machineAttestation(report.capabilities),
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
    trace,
    exhaustiveness: { kind: "sampled", runs: 1, seed: null },
    durationMs: setup.nowMs(),
  };
}

function machineAttestation(capabilities: Readonly<Record<string, number>>): Attestation {
  return {
    engine: "kvm",
    kernel: release(),
    kvmBackend: thisMachine().kvmBackend,
    kvmParameters: thisMachine().kvmParameters,
    capabilities,
    lapic: null,
    apfEnabled: null,
    pageSize: PAGE_SIZE,
    transport: null,
    windowBytes: null,
    vm: null,
  };
}

async function runCase(scenario: Scenario, proposal: Proposal, context: CaseContext): Promise<RunResult> {
  let setup: HostSetup;
  const leaseSocket = proposal.server === "fuse-lease" ? join(context.directory, "leases") : null;
  try {
    setup = await openHostSetup(scenario, context, leaseSocket === null ? {} : { leaseSocket });
  } catch (error) {
    return { kind: "engine-error", message: errorText(error) };
  }
  const boundMs = context.timeoutMs - CLOSE_RESERVE_MS;
  const plan = planCase(scenario, proposal, {
    filePath: setup.filePath,
    sourceDirectory: setup.sourceDirectory,
    leaseSocket,
    lifeMs: LIFE_MS * context.slowness,
    slowness: context.slowness,
    ioPatienceMs: ioPatienceMs(scenario, context.slowness),
    latestEndMs: monotonicMs() + boundMs - setup.nowMs() - REPORT_RESERVE_MS,
  });
  const vm = new VmProcess(scenario, setup, plan, context.directory);
  const stopListening = onAbort(context.signal, () => void vm.kill());
  let result: RunResult | null = null;
  try {
    result = await perform(scenario, proposal, setup, vm, { boundMs, slowness: context.slowness });
    return result;
  } finally {
    stopListening();
    await vm.leave(result?.kind === "evidence" ? "report" : "failure", IDLE_MS * context.slowness);
    await setup.close();
  }
}

type KvmFacts = { readonly features: CpuFeatures; readonly capabilities: Readonly<Record<string, number>> };
let facts: KvmFacts | null = null;

/** The capabilities of /dev/kvm, read once. Only where it is available. */
function kvmFacts(): KvmFacts {
  if (facts === null) {
    const kvm = Kvm.open();
    facts = { features: cpuFeatures(supportedCpuid(kvm)), capabilities: kvm.capabilities() };
    kvm.close();
  }
  return facts;
}

const no = (reason: string): Support => ({ kind: "no", reason, fix: null });

function supportsMachine(scenario: Scenario, proposal: Proposal): Support {
  const { features, capabilities } = kvmFacts();
  if ((capabilities.KVM_CAP_BINARY_STATS_FD ?? 0) === 0) {
    return no(
      "this KVM has no counters to read (KVM_CAP_BINARY_STATS_FD): an endless loop could not be proven",
    );
  }
  if (enablesApf(proposal) && !features.asyncPageFaultInterrupt) {
    return no("this KVM offers no async page faults by interrupt (KVM_FEATURE_ASYNC_PF_INT)");
  }
  if (proposal.exits === "hlt-in-guest" && ((capabilities.KVM_CAP_X86_DISABLE_EXITS ?? 0) & 2) === 0) {
    return no("this KVM cannot give HLT to the guest (KVM_CAP_X86_DISABLE_EXITS)");
  }
  if (proposal.vmm === "poison") {
    const refusal = poisonRefusal();
    if (refusal !== null) return no(`pages cannot be poisoned here: ${refusal}`);
  }
  for (const name of scenario.needs) {
    if ((capabilities[name] ?? 0) === 0) return no(`this KVM has no ${name}`);
  }
  return supportsAccesses(scenario, features, "this KVM");
}

export const kvmEngine: Engine = {
  name: "kvm",
  describe: () =>
    "The micro-guest on /dev/kvm over a real file, a real DAX window and, where asked for, a FUSE mount.",
  async available() {
    return supportOf(thisMachine(), ["kvm", "micro-guest"]);
  },
  supports(scenario, proposal) {
    for (const answer of [
      supportsAnywhere(scenario, proposal),
      hostSetupSupport(scenario),
      guardSupport(proposal.server, scenario),
    ]) {
      if (answer.kind === "no") return answer;
    }
    return supportsMachine(scenario, proposal);
  },
  async attest() {
    return machineAttestation(kvmFacts().capabilities);
  },
  async open() {},
  run: runCase,
  async close() {},
};
