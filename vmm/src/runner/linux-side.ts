/**
 * A Linux guest's side of a vCPU thread: ports here, registers of devices by the machine's owner, and at an exit the access
 * that the instruction at rip was about to make, as any VMM can find it out: registers, guest page tables, guest memory.
 */
import { isPageThere, PAGE_SIZE, viewOf } from "../../../sys/src/index.ts";
import {
  type DecodedAccess,
  FAULT_COUNTER,
  INJECTED_FAULT_COUNTER,
  KVM_ASYNC_PF_ENABLED,
  MAX_INSTRUCTION_BYTES,
  machineLayout,
  memoryOperands,
  Ports,
  SERIAL_GSI,
  setInterruptLine,
} from "../arch/index.ts";
import { Channel, WINDOW_BASE } from "../guest/channel.ts";
import { caseLayout } from "../guest/linux-case.ts";
import type { LinuxGuestInput } from "../guest-input.ts";
import type { VcpuExit } from "../kvm/exit.ts";
import { gpaToHva } from "../kvm/vm.ts";
import {
  ConsoleRing,
  DOORBELL,
  Mailbox,
  type RegisterAccess,
  SharedPorts,
  WatchedAccess,
} from "../linux-devices.ts";
import type { FaultContext, LocatedAccess } from "../policy/policy.ts";
import { done, ended, type GuestSide, notMine, type Taken } from "./guest-side.ts";
import { NO_STEP, type Place, type VcpuThreadInput } from "./messages.ts";
import type { VcpuCore } from "./vcpu-core.ts";
import type { PendingAccess } from "./watchdog.ts";

const NEW_LINE = 10;
const PAGE = BigInt(PAGE_SIZE);
/** What is fetched at an address in the window; more is not known. */
const FETCH_BYTES = 1;

/** `isBack`: what the instruction touches in the window is there: given back since KVM_RUN returned. */
type Located = { readonly access: LocatedAccess | null; readonly isBack: boolean };

export class LinuxSide implements GuestSide {
  readonly #core: VcpuCore;
  readonly #input: VcpuThreadInput;
  readonly #guest: LinuxGuestInput;
  readonly #ram: Uint8Array;
  readonly #shared: SharedPorts;
  readonly #ports: Ports;
  readonly #console: ConsoleRing;
  readonly #mailbox: Mailbox;
  readonly #watched: WatchedAccess;
  /** Of the guest's program, if it shares memory with the host; null: the machine's owner watches an access. */
  readonly #channel: Channel | null;
  /** The access last reported to loop or to wait, `task/step/began`; null: none, or it has finished. */
  #reportedStuck: string | null = null;
  /** What has been found out about the last exit. */
  #located: ({ readonly exit: VcpuExit } & Located) | null = null;

  constructor(core: VcpuCore, input: VcpuThreadInput, guest: LinuxGuestInput) {
    this.#core = core;
    this.#input = input;
    this.#guest = guest;
    // As the machine has it enabled (linux-machine.ts).
    core.vcpu.useExceptionPayload();
    this.#ram = viewOf(input.ramAddress, guest.ramBytes);
    this.#shared = new SharedPorts(guest.devices);
    this.#console = new ConsoleRing(guest.devices);
    this.#mailbox = new Mailbox(guest.devices, core.cpu);
    this.#watched = new WatchedAccess(guest.devices);
    this.#channel =
      guest.sharedBytes < caseLayout.sizeofLinuxCase
        ? null
        : new Channel(this.#ram.subarray(guest.ramBytes - guest.sharedBytes));
    this.#ports = new Ports(this.#shared.words, {
      transmit: (byte) => this.#transmit(byte),
      setLine: (level) => setInterruptLine(input.vmFd, SERIAL_GSI, level),
    });
  }

  take(exit: VcpuExit): Taken {
    switch (exit.kind) {
      case "io":
        return this.#portAccess(exit);
      case "mmio":
        return this.#mmioAccess(exit);
      case "shutdown":
        this.#flushConsole();
        return ended({ kind: "guest-off", how: "triple-fault" });
      default:
        return notMine;
    }
  }

  #transmit(byte: number): void {
    this.#console.write(byte);
    if (byte === NEW_LINE) this.#core.post({ type: "console" });
  }

  #flushConsole(): void {
    if (!this.#console.isEmpty) this.#core.post({ type: "console" });
  }

  #portAccess({ direction, port, size, count, value }: VcpuExit & { kind: "io" }): Taken {
    if (port === machineLayout.DOORBELL_PORT && direction === "out" && size === 4) {
      this.#core.progressed();
      const asked = { device: DOORBELL, offset: 0, size, value: BigInt(value) };
      return this.#ask(asked) === null ? ended({ kind: "stopped-from-outside" }) : done;
    }
    const data = this.#core.vcpu.portData();
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const event = this.#shared.locked(() => {
      for (let at = 0; at < size * count; at += size) {
        if (direction === "in") setNumber(view, at, size, this.#ports.read(port, size));
        else {
          const event = this.#ports.write(port, size, getNumber(view, at, size));
          if (event !== null) return event;
        }
      }
      return null;
    });
    if (event === null) return done;
    this.#flushConsole();
    return ended({ kind: "guest-off", how: event });
  }

  /** A register of a device of the owner's; where there is none, a bus without a device. */
  #mmioAccess({ gpa, isWrite, lengthBytes }: VcpuExit & { kind: "mmio" }): Taken {
    const data = this.#core.vcpu.mmioData();
    const device = this.#guest.mmio.indexOf(gpa & -PAGE);
    if (device < 0) {
      if (!isWrite) data.fill(0xff);
      return done;
    }
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const value = isWrite ? getBig(view, lengthBytes) : null;
    const answer = this.#ask({ device, offset: Number(gpa % PAGE), size: lengthBytes, value });
    if (answer === null) return ended({ kind: "stopped-from-outside" });
    if (!isWrite) setBig(view, lengthBytes, answer);
    return done;
  }

  /** The owner's answer; null if the machine stops first. */
  #ask(access: RegisterAccess): bigint | null {
    const core = this.#core;
    return this.#mailbox.ask(
      access,
      () => core.post({ type: "mmio" }),
      () => core.isWanted(),
    );
  }

  faultContext(exit: VcpuExit): FaultContext | null {
    if (this.#locate(exit).isBack) return null;
    const { vcpu, cpu } = this.#core;
    const { vmFd, lapicInKernel, window } = this.#input;
    return {
      vcpu,
      cpu,
      vmFd,
      lapicInKernel,
      exit,
      access: this.#locate(exit).access,
      interruptsOn: vcpu.interruptsOn(),
      ram: new DataView(this.#ram.buffer, this.#ram.byteOffset, this.#ram.byteLength),
      window,
      pageFaultForm: this.#guest.pageFaultForm,
      broadcastMachineCheck: () => this.#core.broadcasts.own(),
    };
  }

  #inWindow(gpa: bigint | null): gpa is bigint {
    return gpa !== null && gpa >= WINDOW_BASE && gpa < WINDOW_BASE + BigInt(this.#input.window.sizeBytes);
  }

  #locate(exit: VcpuExit): Located {
    if (this.#located?.exit === exit) return this.#located;
    this.#located = { exit, ...this.#access() };
    return this.#located;
  }

  /** Of the instruction's operands the one that lies in the window, or the instruction itself. */
  #access(): Located {
    const { vcpu } = this.#core;
    const registers = vcpu.getRegisters();
    const rip = vcpu.translate(registers.rip);
    if (this.#inWindow(rip)) {
      const access = { kind: "fetch", gva: registers.rip, lengthBytes: FETCH_BYTES, gpa: rip } as const;
      return { access, isBack: false };
    }
    let isThere = false;
    const bytes = this.#guestBytes(registers.rip, MAX_INSTRUCTION_BYTES);
    for (const operand of memoryOperands(bytes, registers, vcpu.segmentBases())) {
      for (const part of this.#parts(operand)) {
        const gpa = vcpu.translate(part.gva);
        if (!this.#inWindow(gpa)) continue;
        if (this.#isLost(gpa, part.kind)) return { access: { ...part, gpa }, isBack: false };
        isThere = true;
      }
    }
    return { access: null, isBack: isThere };
  }

  /** An access in its pages. */
  #parts(access: DecodedAccess): readonly DecodedAccess[] {
    const next = (access.gva / PAGE + 1n) * PAGE;
    const beyond = Number(access.gva + BigInt(access.lengthBytes) - next);
    if (beyond <= 0) return [access];
    const first = { ...access, lengthBytes: access.lengthBytes - beyond };
    return [first, { ...access, gva: next, lengthBytes: beyond }];
  }

  #isLost(gpa: bigint, kind: DecodedAccess["kind"]): boolean {
    const hva = gpaToHva(this.#input.memslots, gpa);
    return hva === null || !isPageThere(hva & -PAGE, kind === "write" ? "write" : "read");
  }

  /** Guest memory at a guest virtual address, as far as it is mapped and RAM. */
  #guestBytes(gva: bigint, count: number): Uint8Array {
    const bytes: number[] = [];
    for (let at = gva; at < gva + BigInt(count); ) {
      const gpa = this.#core.vcpu.translate(at);
      if (gpa === null || gpa >= BigInt(this.#ram.length)) break;
      const here = Math.min(Number(PAGE - (at % PAGE)), Number(gva + BigInt(count) - at));
      bytes.push(...this.#ram.subarray(Number(gpa), Number(gpa) + here));
      at += BigInt(here);
    }
    return Uint8Array.from(bytes);
  }

  place(exit: VcpuExit): Place | null {
    const { access } = this.#locate(exit);
    const gva = access?.gva ?? 0n;
    return this.#placeOf({ task: NO_STEP, step: NO_STEP, gva, gpa: access?.gpa ?? null });
  }

  #placeOf({ task, step, gva, gpa }: Pick<Place, "task" | "step" | "gva" | "gpa">): Place {
    const { vcpu } = this.#core;
    const hva = gpa === null ? null : gpaToHva(this.#input.memslots, gpa);
    return { rip: vcpu.getRegisters().rip, cpl: vcpu.currentPrivilegeLevel(), task, step, gva, gpa, hva };
  }

  /** Of an access that was proven to loop: the vCPU may be anywhere, and another process's page tables in force. */
  #placeOfStep(task: number, step: number): Place | null {
    const gva = this.#channel?.address(task, step) ?? null;
    if (gva === null) return this.place({ kind: "interrupted" });
    const gpa = this.#core.vcpu.translate(gva);
    return this.#placeOf({ task, step, gva, gpa: this.#inWindow(gpa) ? gpa : null });
  }

  /** Accesses that were started and have not finished, by task; and the steps begun so far. */
  #progress(): { readonly begun: number; readonly pending: ReadonlyMap<number, PendingAccess> } {
    if (this.#channel === null) {
      const { pending, begun } = this.#watched;
      const access = { step: pending, began: BigInt(begun) };
      return { begun, pending: pending === 0 ? new Map() : new Map([[0, access]]) };
    }
    const found = new Map<number, PendingAccess>();
    let begun = 0;
    for (let task = 0; task < this.#channel.taskCount; task++) {
      const step = this.#channel.currentStep(task);
      const { status, began } = this.#channel.result(task, step);
      begun += step + (status === "not-reached" ? 0 : 1);
      if (status === "started") found.set(task, { step, began });
    }
    return { begun, pending: found };
  }

  /** Is all that is pending an access of a process's own, of whose page the guest is told, at CPL 3, so that the process sleeps? */
  #isTold(pending: ReadonlyMap<number, PendingAccess>): boolean {
    const [access, another] = pending;
    if (access === undefined || another !== undefined || this.#channel === null) return false;
    const [task, { step }] = access;
    if (!this.#channel.isOwnAccess(task, step)) return false;
    return ((this.#core.vcpu.asyncPageFaultMsr() ?? 0n) & KVM_ASYNC_PF_ENABLED) !== 0n;
  }

  /** So far; 0 where KVM's counter is of other #PFs as well. */
  #notPresentEvents(): number {
    return this.#guest.hasNestedPaging ? Number(this.#core.stats.read(INJECTED_FAULT_COUNTER) ?? 0n) : 0;
  }

  tick(): void {
    this.#flushConsole();
    const { begun, pending } = this.#progress();
    const names = [...pending].map(([task, { step, began }]) => `${task}/${step}/${began}`);
    if (this.#reportedStuck !== null && !names.includes(this.#reportedStuck)) {
      this.#reportedStuck = null;
      this.#core.post({ type: "unstuck" });
    }
    const pageFaults = this.#core.stats.read(FAULT_COUNTER);
    if (pageFaults === null) return;
    const loop = this.#core.watchdog.sample({
      atMs: performance.now(),
      pageFaults,
      notPresentEvents: this.#notPresentEvents(),
      // Not known of a guest that is not ours.
      ticks: null,
      begun,
      pending,
    });
    // Where each page's I/O is answered, none waits for ever.
    const mayWait = !this.#input.isIoAnswered && this.#isTold(pending);
    const stuck = loop ?? (mayWait ? this.#core.watchdog.waits() : null);
    if (stuck === null) return;
    const name = `${stuck.task}/${stuck.step}/${pending.get(stuck.task)?.began ?? 0n}`;
    if (this.#reportedStuck === name) return;
    this.#reportedStuck = name;
    const place = this.#placeOfStep(stuck.task, stuck.step);
    if (loop !== null) {
      const { proof, faultsPerSecond, overMs } = loop;
      this.#core.post({ type: "looping", proof, faultsPerSecond, overMs, place });
    } else {
      const detail = "the guest has been told of the page, and its process sleeps";
      this.#core.post({ type: "waiting", in: "guest", overMs: stuck.overMs, place, detail });
    }
  }
}

function getNumber(view: DataView, at: number, size: number): number {
  return size === 1 ? view.getUint8(at) : size === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
}

function setNumber(view: DataView, at: number, size: number, value: number): void {
  if (size === 1) view.setUint8(at, value);
  else if (size === 2) view.setUint16(at, value, true);
  else view.setUint32(at, value, true);
}

function getBig(view: DataView, size: number): bigint {
  let value = 0n;
  for (let i = 0; i < size; i++) value |= BigInt(view.getUint8(i)) << BigInt(8 * i);
  return value;
}

function setBig(view: DataView, size: number, value: bigint): void {
  for (let i = 0; i < size; i++) view.setUint8(i, Number((value >> BigInt(8 * i)) & 0xffn));
}
