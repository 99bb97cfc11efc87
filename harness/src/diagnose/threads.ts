/** The threads of a VM's process: which of them run vCPUs, and what each does, look by look. */

import type { Look } from "./facts.ts";
import { KVM_DEBUGFS, numbersIn } from "./find.ts";
import { type Host, valueIn } from "./host.ts";
import { parseExecStart, parseStack, parseStat, parseSyscall } from "./proc.ts";

const TEXT_BYTES = 16 * 1024;
const THREADS_MAX = 2048;

/** A thread that is looked at, and as what. */
export type Thread = {
  readonly tid: number;
  readonly isVcpu: boolean;
  readonly id: number | null;
  readonly looks: Look[];
};

const folder = (pid: number, tid: number): string => `/proc/${pid}/task/${tid}`;

export function lookAt(host: Host, pid: number, tid: number): Look {
  const at = folder(pid, tid);
  const stat = valueIn(host.read(`${at}/stat`, TEXT_BYTES));
  const waitsIn = valueIn(host.read(`${at}/wchan`, TEXT_BYTES));
  const call = valueIn(host.read(`${at}/syscall`, TEXT_BYTES));
  return {
    atMs: host.nowMs(),
    stat: stat === null ? null : parseStat(stat),
    waitsIn: waitsIn === null || waitsIn === "0" || waitsIn === "" ? null : waitsIn,
    call: call === null ? null : parseSyscall(call),
  };
}

/** vCPUs by TID, as debugfs has them (`vcpuN/pid`, Linux 6.0). */
function vcpusOfDebugfs(host: Host): ReadonlyMap<number, number> {
  const ids = new Map<number, number>();
  for (const vm of valueIn(host.list(KVM_DEBUGFS)) ?? []) {
    if (!/^[0-9]+-[0-9]+$/.test(vm)) continue;
    for (const name of valueIn(host.list(`${KVM_DEBUGFS}/${vm}`)) ?? []) {
      const id = /^vcpu([0-9]+)$/.exec(name)?.[1];
      if (id === undefined) continue;
      const tid = valueIn(host.read(`${KVM_DEBUGFS}/${vm}/${name}/pid`, TEXT_BYTES));
      if (tid !== null) ids.set(Number(tid.trim()), Number(id));
    }
  }
  return ids;
}

/** `CPU 0/KVM` (QEMU with debug-threads=on, as libvirt has it), `vcpu0` (cloud-hypervisor), `fc_vcpu 0`, `crosvm_vcpu0`. */
function vcpuOfName(name: string): number | null {
  const id = /^(?:CPU ([0-9]+)\/KVM|(?:crosvm_|fc_)?vcpu ?([0-9]+))$/.exec(name);
  return id === null ? null : Number(id[1] ?? id[2]);
}

/** Of a thread in KVM_RUN: the vCPU whose descriptor it has there, `anon_inode:kvm-vcpu:0`. */
function vcpuOfCall(links: ReadonlyMap<number, string>, { call }: Look): number | null {
  if (call?.kind !== "kvm-run") return null;
  const id = /^anon_inode:kvm-vcpu:([0-9]+)$/.exec(links.get(call.fd) ?? "")?.[1];
  return id === undefined ? null : Number(id);
}

/** All threads of the process with their first look. */
export function threadsOf(
  host: Host,
  pid: number,
  links: ReadonlyMap<number, string>,
  isOutermost: boolean,
): readonly Thread[] {
  const known = isOutermost ? vcpusOfDebugfs(host) : new Map<number, number>();
  const tids = numbersIn(valueIn(host.list(`/proc/${pid}/task`)) ?? []).slice(0, THREADS_MAX);
  return tids.map((tid) => {
    const look = lookAt(host, pid, tid);
    // Its registers are a copy of those of the thread that it was made in, which was in KVM_RUN.
    if (look.stat?.isKernels === true) return { tid, isVcpu: false, id: null, looks: [look] };
    const id = known.get(tid) ?? vcpuOfCall(links, look) ?? vcpuOfName(look.stat?.name ?? "");
    const isVcpu = id !== null || look.call?.kind === "kvm-run";
    return { tid, isVcpu, id, looks: [look] };
  });
}

/** Innermost first; null: not readable, or the thread ran. */
export function stackOf(host: Host, pid: number, tid: number): readonly string[] | null {
  const text = valueIn(host.read(`${folder(pid, tid)}/stack`, TEXT_BYTES));
  if (text === null) return null;
  const functions = parseStack(text);
  return functions.length === 0 ? null : functions;
}

/**
 * How long the thread has not run: against our own thread, which runs now. Clocks of CPUs may differ by some milliseconds,
 * and the time that a CPU spends on interrupts is not in them.
 */
export function sleptMsOf(host: Host, pid: number, tid: number): number | null {
  const [theirs, ours] = [`${folder(pid, tid)}/sched`, "/proc/self/sched"].map((path) => {
    const text = valueIn(host.read(path, TEXT_BYTES));
    return text === null ? null : parseExecStart(text);
  });
  return theirs == null || ours == null ? null : Math.max(0, ours - theirs);
}
