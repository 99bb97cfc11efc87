/**
 * One boot of a kernel in a VM, from QEMU's start to its end, and the cases that run in it. Whether another boot follows
 * is not decided here (boots.ts).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { Attestation, KernelVmFacts, KvmPart, RunResult } from "../../../../language/src/index.ts";
import { onAbort } from "../../abort.ts";
import type { DaxQemu, NoDaxQemu } from "../../engine.ts";
import {
  type BootConsole,
  type BuiltIn,
  type Case,
  type CaseContext,
  type GuestKernel,
  type OpenContext,
  stockKernels,
} from "../../engine.ts";
import { KernelError } from "../../kernel/error.ts";
import type { GuestProgram } from "../../kernel/initramfs.ts";
import { type Qemu, slownessOf } from "../../kernel/qemu.ts";
import type { Kernel } from "../../kernel/store.ts";
import { insideEnvironment, type KernelVm, startKernelVm } from "../../kernel/vm.ts";
import { thisMachine } from "../../machine.ts";
import { builtPath } from "../../paths.ts";
import { within } from "../../within.ts";
import type { AgentTask, FromInside, InsideFacts, ToInside } from "./messages.ts";

/** From the start of QEMU to the agent's first word, on a real machine. */
const BOOT_BOUND_MS = 15_000;
/**
 * Of a case's limit, so much is kept for ending its processes inside and the way back, on a real machine, and at most
 * half of it: a case that only runs into its limit reports that itself, and is not taken for a VM that is stuck.
 */
const RETURN_RESERVE_MS = 1000;
/** Beyond the limit: who has not answered by then never will. Less than what the runner allows an engine. */
const TRANSFER_MS = 1000;

function agentWith({ guest = null, guestQemu = null, busy = 0 }: SessionOptions): GuestProgram {
  const task: AgentTask = { guest, qemu: guestQemu, busy };
  const entry = builtPath("harness/src/machines/kernel/inside-main.ts");
  return {
    command: [process.execPath, entry, JSON.stringify(task)],
    environment: insideEnvironment,
  };
}

/** The kernel did not come up. */
export class BootError extends KernelError {
  readonly console: BootConsole;

  constructor(message: string, console: BootConsole) {
    super(message);
    this.console = console;
  }
}

/** A boot that has come up. */
export interface Session {
  /** Of a case that runs in it, as far as it is the same for all. */
  attestation(): Attestation;
  console(): BootConsole;
  run(one: Case, context: CaseContext): Promise<RunResult>;
  /** Why nothing that runs in it from now on would mean anything; null: nothing is wrong. */
  flaw(): string | null;
  /** When the cases that run in it have ended; each has its limit. */
  settled(): Promise<void>;
  /** Ends it, and with it the cases that still run. */
  close(): Promise<void>;
}

type Waiting = Map<number, (result: RunResult) => void>;

/** The state of a VM that is up. */
type Up = {
  readonly vm: KernelVm;
  /** Its files; they go with it. */
  readonly directory: string;
  readonly vmFacts: KernelVmFacts;
  readonly inside: InsideFacts;
  /** Callers waiting for an answer, by id. */
  readonly waiting: Waiting;
  readonly builtIn: BuiltIn;
  /** Why cases for KVM cannot run; null: they can. */
  readonly lackOfKvm: string | null;
};

class VmSession implements Session {
  readonly #up: Up;
  readonly #running = new Set<Promise<RunResult>>();
  #next = 0;
  #end: string | null = null;
  /** The case that got no answer. */
  #unanswered: string | null = null;

  constructor(up: Up) {
    this.#up = up;
    const { vm, waiting } = up;
    void vm.ended.then(({ message, crash }) => {
      this.#end = message;
      const kind = crash === null ? "engine-error" : "kernel-crash";
      for (const done of waiting.values()) done({ kind, message });
      waiting.clear();
    });
  }

  attestation(): Attestation {
    const { engine, kernel, kvmBackend, kvmParameters, capabilities } = this.#up.inside;
    return {
      engine,
      kernel,
      kvmBackend,
      kvmParameters,
      capabilities,
      lapic: null,
      apfEnabled: null,
      pageSize: thisMachine().pageSize,
      transport: null,
      windowBytes: null,
      vm: this.#up.vmFacts,
      guest: null,
    };
  }

  console(): BootConsole {
    return { bootId: this.#up.vm.bootId, lines: this.#up.vm.console() };
  }

  flaw(): string | null {
    if (this.#end !== null) return this.#end;
    const crash = this.#up.vm.crash();
    if (crash !== null) return `the kernel complained: ${crash.text}`;
    return this.#unanswered === null ? null : `the VM gave no result for ${this.#unanswered}`;
  }

  async run(one: Case, context: CaseContext): Promise<RunResult> {
    if (this.#end !== null) {
      return { kind: "engine-error", message: `the VM was gone before this case began: ${this.#end}` };
    }
    const running = this.#ask(one, context);
    this.#running.add(running);
    const result = await running;
    this.#running.delete(running);
    // Console output from before the answer may lie unread beside it: one turn of the event loop reads both.
    await setImmediate();
    return this.#complete(result);
  }

  /** The agent's result, or the one in its place. */
  async #ask({ scenario, proposal, engine, nature }: Case, context: CaseContext): Promise<RunResult> {
    const { lackOfKvm } = this.#up;
    if (nature.runsKvm && lackOfKvm !== null) return { kind: "unsupported", message: lackOfKvm };
    const id = this.#next++;
    const { timeoutMs, slowness, signal } = context;
    const result = new Promise<RunResult>((resolve) => this.#up.waiting.set(id, resolve));
    const request: ToInside = {
      type: "run",
      id,
      engine,
      scenario,
      proposal,
      builtIn: this.#up.builtIn,
      timeoutMs: timeoutMs - Math.min(RETURN_RESERVE_MS * slowness, timeoutMs / 2),
      slowness,
    };
    this.#up.vm.send(request);
    // No message goes inside: the VM ends with the run.
    const stopListening = onAbort(signal, () =>
      this.#up.waiting.get(id)?.({ kind: "engine-error", message: "interrupted" }),
    );
    const boundMs = timeoutMs + TRANSFER_MS;
    const inTime = await within(result, boundMs);
    stopListening();
    this.#up.waiting.delete(id);
    if (inTime) return await result;
    this.#unanswered = `${scenario.id} x ${proposal.id}`;
    return { kind: "timeout", message: `the VM gave no result within ${boundMs} ms` };
  }

  #complete(result: RunResult): RunResult {
    const crash = this.#up.vm.crash();
    if (crash !== null && result.kind !== "kernel-crash") {
      const silence = result.kind === "timeout" ? `, and ${result.message}` : "";
      return { kind: "kernel-crash", message: `the kernel complained: ${crash.text}${silence}` };
    }
    if (result.kind !== "evidence") return result;
    const { evidence } = result;
    return {
      kind: "evidence",
      evidence: { ...evidence, attestation: { ...evidence.attestation, vm: this.#up.vmFacts } },
    };
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  async close(): Promise<void> {
    await this.#up.vm.kill();
    // Up to half a gigabyte, and another boot may follow.
    rmSync(this.#up.directory, { recursive: true, force: true });
  }
}

type VmParts = {
  readonly kernel: Kernel;
  readonly kvm: KvmPart;
  readonly qemu: Qemu;
  readonly vm: KernelVm;
  readonly inside: InsideFacts;
};

function vmFactsOf({ kernel, kvm, qemu, vm, inside }: VmParts): KernelVmFacts {
  return {
    kernel: kernel.name,
    origin: kernel.origin,
    imageSha256: kernel.sha256,
    patches: kernel.patches,
    kvm,
    imageRelease: kernel.release,
    bootId: vm.bootId,
    commandLine: inside.commandLine,
    qemu: qemu.version,
    accelerator: qemu.accelerator,
    cpus: vm.cpus,
    memoryMiB: vm.memoryMiB,
  };
}

function lackOfKvmText(kernel: Kernel, { kvmModule }: Qemu): string {
  return kernel.modules.some(({ name }) => name === kvmModule)
    ? `${kvmModule} of ${kernel.name} did not load`
    : `${kernel.name} has no KVM: ${kvmModule} is neither in the image nor among its modules (--modules DIR)`;
}

export type SessionOptions = {
  readonly kernel: Kernel;
  readonly qemu: Qemu;
  /** Left out: as many as help. */
  readonly cpus?: number;
  /** The program inside, where it is not the agent. */
  readonly program?: GuestProgram;
  /** The kernel of Linux guests inside; null, or left out: there are none. */
  readonly guest?: GuestKernel | null;
  /** Likewise for guests in QEMU. */
  readonly guestQemu?: DaxQemu | NoDaxQemu | null;
  /** Left out: stock kernels. */
  readonly builtIn?: BuiltIn;
} & OpenContext;

/** Boots the kernel and waits for the agent's first word. Throws a KernelError. */
export async function startSession(options: SessionOptions): Promise<Session> {
  const { kernel, qemu, signal, builtIn = stockKernels } = options;
  if (signal.aborted) throw new KernelError(`${kernel.name} was not booted: interrupted`);
  const directory = mkdtempSync(join(options.directory, "boot-"));
  const waiting: Waiting = new Map();
  let onHello = (_facts: InsideFacts): void => {};
  const hello = new Promise<InsideFacts>((resolve) => {
    onHello = resolve;
  });
  const vm = startKernelVm({
    kernel,
    qemu,
    directory,
    ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
    program: options.program ?? agentWith(options),
    onMessage: (message) => {
      const from = message as FromInside;
      if (from.type === "hello") onHello(from.facts);
      else waiting.get(from.id)?.(from.result);
    },
  });
  const stopListening = onAbort(signal, () => void vm.kill());
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
    throw new BootError(`${kernel.name}${origin} did not come up: ${why}`, {
      bootId: vm.bootId,
      lines: vm.console(),
    });
  }
  const vmFacts = vmFactsOf({ kernel, kvm: builtIn.kvm, qemu, vm, inside });
  const lackOfKvm = inside.kvmBackend === null ? lackOfKvmText(kernel, qemu) : null;
  return new VmSession({ vm, directory, vmFacts, inside, waiting, builtIn, lackOfKvm });
}
