/**
 * One boot of a Linux guest on our VMM, and the cases that its program runs, one after the other: the device that has the
 * case's file, the doorbell, the console. It judges nothing, and decides nothing about when a case ends.
 *
 * The program (vmm/guest/linux/init.c) rings IDLE when it waits for a case, and READY when it has mapped the file: each
 * time its vCPU waits for the answer, which is the next case, or leave to begin.
 */
import { readFileSync } from "node:fs";
import { GuestMemory, VirtioMmio } from "../../../../fs-server/src/index.ts";
import {
  buildLinuxMachine,
  caseLayout,
  decodeDoorbell,
  type EndReason,
  type FinalState,
  Kvm,
  LinuxCase,
  type LinuxMachine,
  type LinuxRun,
  type MmioDevice,
  monotonicMs,
  runLinux,
  Stats,
  WINDOW_BASE,
} from "../../../../vmm/src/index.ts";
import { complaintIn, crashIn } from "../../kernel/console.ts";
import { within } from "../../within.ts";
import type { CaseGuest, CaseHandlers, CaseRun } from "../vm/case-runner.ts";
import { BringUp, endText, keepLine, MOUNT_POINT, Moment, oops } from "./bring-up.ts";
import { LINUX_COMMAND_LINE } from "./command-line.ts";
import { Nvdimm } from "./nvdimm.ts";
import type { BootPlan, LinuxPlan } from "./plan.ts";
import { SharedFolder } from "./shared-folder.ts";

const RAM_BYTES: number = 256 * 2 ** 20;
const PAGE_BYTES = 4096;
const SHARED_BYTES: number = Math.ceil(caseLayout.sizeofLinuxCase / PAGE_BYTES) * PAGE_BYTES;

/** A page that memory failure handling has marked stays so: a later case would meet it. */
const poisoned = /Memory failure: 0x/;

/** A case under way. */
type Current = {
  readonly mapped: Moment;
  /** From when the tasks run. */
  readonly begun: Moment;
  readonly over: Moment;
  handlers: CaseHandlers;
  isInTrouble: boolean;
  hasOopsed: boolean;
};

/** Of a case's plan, what the guest's program and its vCPUs have to know. */
export type PreparedCase = Pick<LinuxPlan, "tasks" | "mappings" | "windowBytes" | "mount" | "policy">;

export class LinuxGuest {
  /** By which the guest has the file. */
  readonly storage: SharedFolder | Nvdimm;
  readonly commandLine: string;
  readonly release: string;
  readonly #boot: BootPlan;
  readonly #bringUp: BringUp;
  readonly #kvm = Kvm.open();
  readonly #machine: LinuxMachine;
  readonly #case: LinuxCase;
  readonly #stats: readonly Stats[];
  readonly #run: LinuxRun;
  #console: string[] = [];
  #current: Current | null = null;
  /** The program waits for a case. */
  #idle = new Moment();
  /** The first process says that something it needs is not there. */
  readonly #givenUp = new Moment();
  /** The next case is there. */
  #next = new Moment();
  #end: EndReason | null = null;
  #cases = 0;
  #clock: FinalState["clock"] = null;
  #asyncPageFaultMsr: bigint | null = null;
  #base: readonly Readonly<Record<string, bigint>>[] = [];

  /** @param maxRepeats how often a policy may be asked about the same instruction in a row; the usual bound if left out */
  constructor(boot: BootPlan, { maxRepeats }: { readonly maxRepeats?: number } = {}) {
    this.#boot = boot;
    this.#bringUp = new BringUp(boot.kernel.name, null, boot.boundMs);
    this.storage = boot.device === "virtio-pmem" ? new Nvdimm() : new SharedFolder();
    const { hva, sizeBytes, states } = this.storage.memory;
    this.#machine = buildLinuxMachine(this.#kvm, {
      kernel: readFileSync(boot.kernel.imagePath),
      initrd: readFileSync(
        boot.virtualization === "offered" ? boot.kernel.nestedInitrdPath : boot.kernel.initrdPath,
      ),
      commandLine: LINUX_COMMAND_LINE,
      ramBytes: RAM_BYTES,
      sharedBytes: SHARED_BYTES,
      cpu: {
        cpus: boot.cpus,
        asyncPageFaults: boot.asyncPageFaults,
        machineCheckRecovery: boot.machineCheckRecovery,
        virtualization: boot.virtualization,
      },
      hltInGuest: boot.hltInGuest,
      window: { hva, sizeBytes: Number(sizeBytes), as: "device" },
      devices: (ram) => [this.#device(ram)],
      policy: "remap-zero",
      pageFaultForm: "present-read",
      pageStates: states.buffer,
      ...(maxRepeats === undefined ? {} : { maxRepeats }),
    });
    this.release = this.#machine.release;
    this.commandLine = LINUX_COMMAND_LINE;
    this.#case = new LinuxCase(this.#machine.shared);
    this.#stats = this.#machine.vcpus.map(({ fd }) => new Stats(fd));
    const { ioPatienceMs, isIoAnswered } = boot;
    this.#run = runLinux(this.#machine, this.#handlers(), { ioPatienceMs, isIoAnswered });
    void this.#run.exited.catch((error: unknown) => this.#ended({ kind: "defect", message: String(error) }));
  }

  #device(ram: Uint8Array): MmioDevice {
    const { device, memory } = this.storage;
    const guestMemory = new GuestMemory([
      { kind: "ram", gpa: 0n, bytes: ram },
      { kind: "window", address: memory.hva, gpa: WINDOW_BASE, lengthBytes: memory.sizeBytes },
    ]);
    return new VirtioMmio(device, guestMemory, (reason) => this.#line(`${this.#boot.device}: ${reason}`));
  }

  #line(text: string): void {
    keepLine(this.#console, text);
    if (complaintIn([text]) !== null) this.#givenUp.reach();
    this.#noteOops(text);
  }

  /** From an oops on each line counts as one: as long as the kernel still prints it, the task has not had its end. */
  #noteOops(text: string): void {
    const current = this.#current;
    if (current === null) return;
    current.hasOopsed ||= oops.test(text);
    if (current.hasOopsed) current.handlers.oopsed?.();
  }

  #handlers(): Parameters<typeof runLinux>[1] {
    return {
      line: (text) => this.#line(text),
      doorbell: (value) => this.#rang(value),
      handled: (message) => this.#current?.handlers.handled?.(message),
      served: () => this.#current?.handlers.served?.(),
      stopped: (message) => {
        // Outside a case nothing of the guest's can be an observation.
        if (this.#current === null) this.#run.resume();
        else {
          this.#current.isInTrouble = true;
          this.#current.handlers.stopped?.(message);
        }
      },
      looping: (message) => {
        if (this.#current !== null) this.#current.isInTrouble = true;
        this.#current?.handlers.looping?.(message);
      },
      waiting: (message) => {
        if (this.#current !== null) this.#current.isInTrouble = true;
        this.#current?.handlers.waiting?.(message);
      },
      unstuck: (message) => this.#current?.handlers.unstuck?.(message),
      ended: ({ why }) => this.#ended(this.#reasonOf(why)),
    };
  }

  /** A machine that resets itself has panicked: the console says of what. */
  #reasonOf(why: EndReason): EndReason {
    if (why.kind !== "guest-off") return why;
    const crash = crashIn(this.#console);
    return { kind: "guest-panic", reason: crash?.text ?? `the guest's machine ended by ${why.how}` };
  }

  #ended(why: EndReason): void {
    this.#end ??= why;
    this.#overWith(this.#end);
    this.#idle.reach();
  }

  /** The case ends for this reason, if one is under way. */
  #overWith(why: EndReason): void {
    const current = this.#current;
    if (current === null || current.over.isOver) return;
    current.handlers.ended?.({ type: "ended", cpu: 0, why, final: this.#final() });
    current.mapped.reach();
    current.over.reach();
  }

  async #rang(value: number): Promise<void> {
    const doorbell = decodeDoorbell(value);
    const current = this.#current;
    switch (doorbell.kind) {
      case "ready":
        this.#readVcpu();
        current?.mapped.reach();
        await current?.begun.reached;
        this.#machine.vcpus.at(0)?.noteStopped();
        return;
      case "signal": {
        const { number, task } = doorbell;
        const asyncPageFaultMsr = this.#asyncPageFaultMsr;
        current?.handlers.signal?.({ type: "signal", cpu: 0, number, task: task ?? 0, asyncPageFaultMsr });
        return;
      }
      case "results":
        await current?.handlers.results?.();
        return;
      case "finished":
        this.#overWith({ kind: "finished" });
        return;
      case "panic":
        // The first one is no case's: there was none yet.
        this.#overWith({
          kind: "defect",
          message: this.#bringUp.refusalText(this.#case.refusal),
        });
        return;
      case "idle":
        this.#next = new Moment();
        this.#idle.reach();
        await this.#next.reached;
        this.#machine.vcpus.at(0)?.noteStopped();
        return;
      case "nmi":
      case "unknown":
        this.#overWith({ kind: "defect", message: `the guest rings ${JSON.stringify(doorbell)}` });
    }
  }

  /** While vCPU 0 is out of KVM_RUN: its other ioctls wait for that. */
  #readVcpu(): void {
    const vcpu = this.#machine.vcpus.at(0);
    const tscKhz = vcpu?.tscKhz() ?? null;
    const tsc = vcpu?.timeStampCounter() ?? null;
    this.#clock = tscKhz === null || tsc === null ? null : { tsc, tscKhz, atMs: monotonicMs() };
    this.#asyncPageFaultMsr = vcpu?.asyncPageFaultMsr() ?? null;
  }

  /** KVM's counters since the case began. */
  #final(): FinalState {
    const counters: Record<string, bigint> = {};
    for (const [cpu, stats] of this.#stats.entries()) {
      for (const [name, value] of Object.entries(stats.readAll())) {
        counters[name] = (counters[name] ?? 0n) + value - (this.#base[cpu]?.[name] ?? 0n);
      }
    }
    return { counters, asyncPageFaultMsr: this.#asyncPageFaultMsr, clock: this.#clock };
  }

  /** Waits for the program. Throws a GuestError that says what came instead. */
  async up(): Promise<void> {
    await within(Promise.race([this.#idle.reached, this.#givenUp.reached]), this.#boot.boundMs);
    this.#bringUp.checkUp({ lines: this.#console, end: this.#end, isIdle: this.#idle.isOver });
    this.#console = [];
  }

  /** Has the program mount what the storage has by now, and map the file in it. Throws a GuestError. */
  async prepare(plan: PreparedCase, name: string): Promise<CaseGuest> {
    this.#case.configure({
      programs: plan.tasks.map(({ program }) => program),
      path: `${MOUNT_POINT}/${name}`,
      mappings: plan.mappings,
      windowBytes: plan.windowBytes,
      mount: plan.mount,
      pinsTasks: true,
    });
    this.#console = [];
    this.#cases += 1;
    let refusal: EndReason | null = null;
    const current: Current = {
      mapped: new Moment(),
      begun: new Moment(),
      over: new Moment(),
      handlers: {
        ended: ({ why }) => {
          refusal = why;
        },
      },
      isInTrouble: false,
      hasOopsed: false,
    };
    this.#current = current;
    this.#idle = new Moment();
    this.#next.reach();
    await within(current.mapped.reached, this.#boot.boundMs);
    this.#bringUp.checkMapped({ lines: this.#console, refusal, isMapped: current.mapped.isOver });
    this.#run.setPolicy(plan.policy);
    return {
      channel: this.#case.channel,
      cpus: this.#machine.vcpus.length,
      capabilities: () => this.#kvm.capabilities(),
      start: (handlers) => this.#start(current, handlers),
    };
  }

  #start(current: Current, handlers: CaseHandlers): CaseRun {
    current.handlers = handlers;
    this.#base = this.#stats.map((stats) => stats.readAll());
    if (this.#end !== null) this.#overWith(this.#end);
    current.begun.reach();
    return {
      resume: () => {
        current.isInTrouble = false;
        this.#run.resume();
      },
      stop: () => this.#overWith({ kind: "stopped-from-outside" }),
      lookAtThreads: () => this.#run.lookAtThreads(),
      final: () => this.#final(),
      exited: current.over.reached,
    };
  }

  /** Of the case: the last lines. */
  get console(): readonly string[] {
    return [...this.#console];
  }

  /** Oopses of the guest's kernel in this case. */
  get oopses(): number {
    return this.#console.filter((line) => oops.test(line)).length;
  }

  /** How many cases this boot has had. */
  get cases(): number {
    return this.#cases;
  }

  /**
   * After a case: makes every access succeed if the guest is in trouble, ends its tasks, and waits for the program to be
   * idle. Returns why the guest cannot serve another case; null: it can.
   */
  async settle(boundMs: number): Promise<string | null> {
    const wasInTrouble = this.#current?.isInTrouble ?? false;
    this.#current = null;
    this.#case.stop();
    this.#run.setPolicy("remap-zero");
    // Its program may wait for a task that never ends; and no other case is for a kernel that is not whole.
    if (this.oopses > 0) return "its kernel has oopsed";
    if (wasInTrouble || !(await within(this.#idle.reached, boundMs / 4))) {
      this.storage.loseFile();
      this.#run.resume();
    }
    await within(this.#idle.reached, boundMs);
    if (this.#end !== null) return endText(this.#end);
    if (!this.#idle.isOver) return `not idle ${boundMs} ms after its case`;
    const mark = this.#console.find((line) => poisoned.test(line));
    return mark === undefined ? null : `its kernel has marked memory: ${mark}`;
  }

  /** Ends the guest, whatever it is doing. */
  async close(): Promise<void> {
    this.#current = null;
    this.storage.loseFile();
    await this.#run.end();
    for (const stats of this.#stats) stats.close();
    this.#machine.close();
    this.#kvm.close();
    this.storage.memory.close();
  }
}
