/**
 * Processes with VMs: those that hold a descriptor of a VM (`anon_inode:kvm-vm`, virt/kvm/kvm_main.c). debugfs names the
 * threads that created one; where it does not, every process's descriptors are looked at, within a limit of time.
 */
import { type Answer, boundOf, type Host, valueIn } from "./host.ts";
import { guestNameOf, parseCommandLine, parseMember } from "./proc.ts";

export const KVM_DEBUGFS = "/sys/kernel/debug/kvm";
const SCAN_MS = 250;
const TEXT_BYTES = 64 * 1024;
const FDS_MAX = 65_536;
/** PROC_PID_INIT_INO (include/linux/proc_ns.h): the outermost namespace, in which debugfs and tracefs count. */
const OUTERMOST_PIDS = "pid:[4026531836]";

export type VmProcess = {
  readonly pid: number;
  /** Descriptors of VMs. */
  readonly vmFds: readonly number[];
  readonly commandLine: readonly string[];
};

/** What the user asks for. */
export type Wanted =
  | { readonly kind: "all" }
  | { readonly kind: "pid"; readonly pid: number }
  | { readonly kind: "name"; readonly name: string };

export type Found = {
  readonly processes: readonly VmProcess[];
  /** Names of guests that there are besides, for a name that is none. */
  readonly others: readonly string[];
  readonly unseen: readonly string[];
};

export const numbersIn = (names: readonly string[]): readonly number[] =>
  names.filter((name) => /^[0-9]+$/.test(name)).map(Number);

export function isOutermost(host: Host): boolean {
  return valueIn(host.link("/proc/self/ns/pid")) === OUTERMOST_PIDS;
}

/** Descriptors and what they are of; a failure is that of the whole folder. */
export function descriptorsOf(host: Host, pid: number): Answer<ReadonlyMap<number, string>> {
  const names = host.list(`/proc/${pid}/fd`);
  if (names.kind === "failed") return names;
  const links = new Map<number, string>();
  for (const fd of numbersIn(names.value).slice(0, FDS_MAX)) {
    const link = host.link(`/proc/${pid}/fd/${fd}`);
    if (link.kind === "ok") links.set(fd, link.value);
  }
  return { kind: "ok", value: links };
}

const vmFdsIn = (links: ReadonlyMap<number, string>): readonly number[] =>
  [...links].filter(([, link]) => link === "anon_inode:kvm-vm").map(([fd]) => fd);

/** From debugfs's folders, `TID-FD`. null: they do not say it all. */
function createdBy(host: Host): readonly number[] | null {
  if (!isOutermost(host)) return null;
  const names = host.list(KVM_DEBUGFS);
  if (names.kind === "failed") return null;
  const pids = new Set<number>();
  for (const name of names.value) {
    const tid = /^([0-9]+)-[0-9]+$/.exec(name)?.[1];
    if (tid === undefined) continue;
    const status = valueIn(host.read(`/proc/${tid}/status`, TEXT_BYTES));
    const pid = status === null ? null : parseMember(status, "Tgid");
    // The thread has ended, the VM has not: its process is found by its descriptors.
    if (pid === null) return null;
    pids.add(Number(pid));
  }
  return [...pids];
}

type Scan = { readonly pids: readonly number[]; readonly unseen: readonly string[] };

function scan(host: Host): Scan {
  const hasTime = boundOf(host, SCAN_MS);
  const all = numbersIn(valueIn(host.list("/proc")) ?? []);
  const pids: number[] = [];
  let refused = 0;
  for (const [index, pid] of all.entries()) {
    if (!hasTime()) {
      const left = all.length - index;
      const text = `${left} of ${all.length} processes, for looking takes too long: name one with --pid`;
      return { pids, unseen: [text] };
    }
    const links = descriptorsOf(host, pid);
    if (links.kind === "ok" && vmFdsIn(links.value).length > 0) pids.push(pid);
    if (links.kind === "failed" && ["EACCES", "EPERM"].includes(links.code)) refused += 1;
  }
  const unseen = refused === 0 ? [] : [`${refused} processes of other users: run it as root`];
  return { pids, unseen };
}

async function lookAt(host: Host, pid: number): Promise<VmProcess | null> {
  const links = descriptorsOf(host, pid);
  if (links.kind === "failed") return null;
  const text = valueIn(await host.readOfMemory(`/proc/${pid}/cmdline`, TEXT_BYTES));
  return { pid, vmFds: vmFdsIn(links.value), commandLine: parseCommandLine(text ?? "") };
}

const nameOf = (one: VmProcess): string | null => guestNameOf(one.commandLine);

export async function findVms(host: Host, wanted: Wanted): Promise<Found> {
  if (wanted.kind === "pid") {
    const one = await lookAt(host, wanted.pid);
    return { processes: one === null ? [] : [one], others: [], unseen: [] };
  }
  const created = createdBy(host);
  const { pids, unseen } = created === null ? scan(host) : { pids: created, unseen: [] };
  const processes: VmProcess[] = [];
  for (const pid of pids) {
    const one = await lookAt(host, pid);
    if (one !== null && one.vmFds.length > 0) processes.push(one);
  }
  if (wanted.kind === "all") return { processes, others: [], unseen };
  const chosen = processes.filter((one) => nameOf(one) === wanted.name);
  const others = processes.flatMap((one) => nameOf(one) ?? []);
  return { processes: chosen, others, unseen };
}
