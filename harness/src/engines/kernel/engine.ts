/**
 * The engines `kernel:SPEC`: boots a kernel in a VM and has the cases run there by the machine's own engines, one VM for
 * all cases of a run. What comes back is their evidence, with what is known of the VM; the judge is the same as ever.
 *
 * A kernel that cannot be had or does not come up is said at each of its cases; other kernels are not concerned.
 */
import { onAbort } from "../../abort.ts";
import type { CaseContext, Engine, OpenContext, Support } from "../../engine.ts";
import { executingEngine } from "../../engine.ts";
import type { Attestation, KernelEngineName, KernelVmFacts, RunResult } from "../../evidence.ts";
import { type Kernel, obtainKernel } from "../../kernel/cache.ts";
import { KernelError } from "../../kernel/error.ts";
import { findQemu, QEMU_FIX, type Qemu, requireQemu, slownessOf } from "../../kernel/qemu.ts";
import type { KernelSpec } from "../../kernel/spec.ts";
import { type KernelVm, startKernelVm } from "../../kernel/vm.ts";
import { thisMachine } from "../../machine.ts";
import { builtPath } from "../../paths.ts";
import type { Proposal } from "../../proposal.ts";
import type { Scenario } from "../../scenario/scenario.ts";
import { within } from "../../within.ts";
import { supportsPair, supportsProposal } from "../kvm/plan.ts";
import type { FromInside, InsideFacts, ToInside } from "./messages.ts";

/** From the start of QEMU to the agent's first word, on a real machine. */
const BOOT_BOUND_MS = 15_000;
/** Beyond a case's own limit: for the way there and back. */
const TRANSFER_MS = 1000;

/** What the program inside may know of the world outside. */
const guestEnvironment: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LANG: "C.UTF-8",
};

export type KernelEngineOptions = {
  readonly spec: KernelSpec;
  /** Where the modules of an image in a file are; null if it needs none. */
  readonly modulesDirectory: string | null;
};

/** The kernel did not come up. */
class BootError extends KernelError {
  readonly console: readonly string[];

  constructor(message: string, console: readonly string[]) {
    super(message);
    this.console = console;
  }
}

/** A VM that is up. */
class Session {
  readonly #vm: KernelVm;
  readonly #waiting: Map<number, (result: RunResult) => void>;
  readonly vmFacts: KernelVmFacts;
  readonly inside: InsideFacts;
  #next = 0;
  #end: string | null = null;

  constructor(
    vm: KernelVm,
    vmFacts: KernelVmFacts,
    inside: InsideFacts,
    waiting: Map<number, (result: RunResult) => void>,
  ) {
    this.#vm = vm;
    this.vmFacts = vmFacts;
    this.inside = inside;
    this.#waiting = waiting;
    void vm.ended.then(({ message, crash }) => {
      this.#end = message;
      const kind = crash === null ? "engine-error" : "kernel-crash";
      for (const done of waiting.values()) done({ kind, message });
      waiting.clear();
    });
  }

  /** The attestation of a case, or of none yet. */
  attestation(): Attestation {
    const { kernel, kvmBackend, kvmParameters, capabilities } = this.inside;
    return {
      engine: "kvm",
      kernel,
      kvmBackend,
      kvmParameters,
      capabilities,
      lapic: null,
      apfEnabled: null,
      pageSize: thisMachine().pageSize,
      transport: null,
      windowBytes: null,
      vm: this.vmFacts,
    };
  }

  async run(
    scenario: Scenario,
    proposal: Proposal,
    context: CaseContext,
    engine: KernelEngineName,
  ): Promise<RunResult> {
    if (this.#end !== null) {
      return { kind: "engine-error", message: `the VM was gone before this case began: ${this.#end}` };
    }
    const id = this.#next++;
    const { timeoutMs, slowness, signal } = context;
    const result = new Promise<RunResult>((resolve) => this.#waiting.set(id, resolve));
    const request: ToInside = {
      type: "run",
      id,
      engine: executingEngine(engine, proposal),
      scenario,
      proposal,
      timeoutMs,
      slowness,
    };
    this.#vm.send(request);
    const stopListening = onAbort(signal, () => this.#vm.send({ type: "abort", id } satisfies ToInside));
    const inTime = await within(result, timeoutMs + TRANSFER_MS);
    stopListening();
    this.#waiting.delete(id);
    if (!inTime) return { kind: "timeout", message: this.#silence(timeoutMs) };
    return this.#complete(await result);
  }

  #silence(timeoutMs: number): string {
    const crash = this.#vm.crash();
    const said = crash === null ? "" : `; its console says: ${crash.text}`;
    return `the VM gave no result within ${timeoutMs + TRANSFER_MS} ms${said}`;
  }

  #complete(result: RunResult): RunResult {
    const crash = this.#vm.crash();
    if (crash !== null) return { kind: "kernel-crash", message: `the kernel complained: ${crash.text}` };
    if (result.kind !== "evidence") return result;
    const { evidence } = result;
    return {
      kind: "evidence",
      evidence: { ...evidence, attestation: { ...evidence.attestation, vm: this.vmFacts } },
    };
  }

  console(): readonly string[] {
    return this.#vm.console();
  }

  close(): Promise<void> {
    return this.#vm.kill();
  }
}

function vmFactsOf(kernel: Kernel, qemu: Qemu, vm: KernelVm, inside: InsideFacts): KernelVmFacts {
  return {
    kernel: kernel.name,
    origin: kernel.origin,
    imageSha256: kernel.sha256,
    imageRelease: kernel.release,
    bootId: vm.bootId,
    commandLine: inside.commandLine,
    qemu: qemu.version,
    accelerator: qemu.accelerator,
    cpus: vm.cpus,
    memoryMiB: vm.memoryMiB,
  };
}

/** Boots the kernel and waits for the agent's first word. Throws a KernelError. */
async function startSession(kernel: Kernel, qemu: Qemu, context: OpenContext): Promise<Session> {
  const waiting = new Map<number, (result: RunResult) => void>();
  let onHello = (_facts: InsideFacts): void => {};
  const hello = new Promise<InsideFacts>((resolve) => {
    onHello = resolve;
  });
  const vm = startKernelVm({
    kernel,
    qemu,
    directory: context.directory,
    program: {
      command: [process.execPath, builtPath("harness/src/engines/kernel/inside-main.ts")],
      environment: guestEnvironment,
    },
    onMessage: (message) => {
      const from = message as FromInside;
      if (from.type === "hello") onHello(from.facts);
      else waiting.get(from.id)?.(from.result);
    },
  });
  const stopListening = onAbort(context.signal, () => void vm.kill());
  const boundMs = BOOT_BOUND_MS * slownessOf(qemu.accelerator);
  const up: Promise<InsideFacts | null> = Promise.race([hello, vm.ended.then(() => null)]);
  const inTime = await within(up, boundMs);
  const inside = inTime ? await up : null;
  stopListening();
  if (inside === null) {
    const last = vm.console().at(-1) ?? "nothing";
    await vm.kill();
    const why = inTime
      ? (await vm.ended).message
      : `nothing was heard of it within ${boundMs / 1000} s; last on the console: ${last}`;
    const origin = kernel.origin === kernel.name ? "" : ` (${kernel.origin})`;
    throw new BootError(`${kernel.name}${origin} did not come up: ${why}`, vm.console());
  }
  return new Session(vm, vmFactsOf(kernel, qemu, vm, inside), inside, waiting);
}

class KernelEngine implements Engine {
  readonly name: KernelEngineName;
  readonly option: string;
  /** One story in the kernel's trace; emulated CPUs share one thread anyway. */
  readonly isAlone = true;
  readonly #options: KernelEngineOptions;
  #session: Session | null = null;
  #failure = "it was not booted";
  #bootConsole: readonly string[] = [];
  #slowness = 1;

  constructor(options: KernelEngineOptions) {
    this.#options = options;
    this.name = `kernel:${options.spec.text}`;
    const modules = options.modulesDirectory === null ? "" : ` --modules ${options.modulesDirectory}`;
    this.option = `--kernel ${options.spec.text}${modules}`;
  }

  describe(): string {
    return `The engines kvm and process inside a VM that has booted ${this.#options.spec.text}.`;
  }

  async available(): Promise<Support> {
    if (findQemu() !== null) return { kind: "yes" };
    return { kind: "no", reason: "there is no qemu-system-x86_64 to boot a kernel in", fix: QEMU_FIX };
  }

  supports(scenario: Scenario, proposal: Proposal): Support {
    if (executingEngine(this.name, proposal) === "process") return { kind: "yes" };
    const proposed = supportsProposal(proposal);
    return proposed.kind === "no" ? proposed : supportsPair(scenario, proposal);
  }

  async open(context: OpenContext): Promise<void> {
    try {
      const qemu = requireQemu();
      this.#slowness = slownessOf(qemu.accelerator);
      const kernel = await obtainKernel(this.#options.spec, this.#options.modulesDirectory);
      if (context.signal.aborted) return;
      this.#session = await startSession(kernel, qemu, context);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#failure = error.message;
      if (error instanceof BootError) this.#bootConsole = error.console;
    }
  }

  async attest(): Promise<Attestation | null> {
    return this.#session?.attestation() ?? null;
  }

  slowness(): number {
    return this.#slowness;
  }

  console(): readonly string[] {
    return this.#session?.console() ?? this.#bootConsole;
  }

  async run(scenario: Scenario, proposal: Proposal, context: CaseContext): Promise<RunResult> {
    if (this.#session === null) return { kind: "engine-error", message: this.#failure };
    return this.#session.run(scenario, proposal, context, this.name);
  }

  async close(): Promise<void> {
    await this.#session?.close();
    this.#session = null;
  }
}

export function kernelEngine(options: KernelEngineOptions): Engine {
  return new KernelEngine(options);
}
