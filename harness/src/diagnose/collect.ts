/**
 * Looks at VMs from outside for half a second: twice at KVM's counters, some times at each thread, all the while at the
 * tracepoints of the vCPUs' threads. Reads only, each read with a limit; judges nothing (`verdict.ts`).
 */
import type { TraceSession, TraceText } from "../tracing/tracefs.ts";
import type { Counters, GuestFile, HostFacts, Look, PageWorker, VcpuFacts, VmFacts } from "./facts.ts";
import { placeOf } from "./facts.ts";
import {
  descriptorsOf,
  type Found,
  findVms,
  isOutermost,
  KVM_DEBUGFS,
  numbersIn,
  type VmProcess,
  type Wanted,
} from "./find.ts";
import { FuseServers } from "./fuse-servers.ts";
import { guestFilesOf } from "./guest-files.ts";
import { type Host, valueIn } from "./host.ts";
import { hostAddresses, pageSelection, threadEvents, vcpuSelection } from "./page-events.ts";
import { guestNameOf, parseMember, parseStat } from "./proc.ts";
import { lookAt, sleptMsOf, stackOf, type Thread, threadsOf } from "./threads.ts";

export const WATCH_MS = 500;
const LOOKS = 5;
const VMS_MAX = 64;
const COUNTERS_MAX = 128;
const TEXT_BYTES = 64 * 1024;
const WORKERS_MAX = 64;
const WORKERS_SCAN_MS = 100;

type Looked = {
  readonly process: VmProcess;
  readonly links: ReadonlyMap<number, string>;
  readonly startTicks: number | null;
  readonly threads: readonly Thread[];
  readonly files: readonly GuestFile[];
  readonly countersBefore: Readonly<Record<string, number>> | null;
  readonly unseen: readonly string[];
};

/** The sums over all vCPUs of the process's VMs. */
function countersOf(
  host: Host,
  { pid }: VmProcess,
  links: ReadonlyMap<number, string>,
): Record<string, number> | null {
  const sums: Record<string, number> = {};
  const isOf = (name: string): boolean => {
    const [, tid, fd] = /^([0-9]+)-([0-9]+)$/.exec(name) ?? [];
    if (tid === undefined || links.get(Number(fd)) !== "anon_inode:kvm-vm") return false;
    if (Number(tid) === pid) return true;
    const status = valueIn(host.read(`/proc/${tid}/status`, TEXT_BYTES));
    return status !== null && parseMember(status, "Tgid") === String(pid);
  };
  const folders = (valueIn(host.list(KVM_DEBUGFS)) ?? []).filter(isOf);
  for (const folder of folders) {
    const names = valueIn(host.list(`${KVM_DEBUGFS}/${folder}`)) ?? [];
    for (const name of names.filter((one) => /^[a-z_0-9]+$/.test(one)).slice(0, COUNTERS_MAX)) {
      if (name.startsWith("vcpu") || name.startsWith("mmu_") || name.endsWith("hist")) continue;
      const text = valueIn(host.read(`${KVM_DEBUGFS}/${folder}/${name}`, TEXT_BYTES));
      if (text !== null && /^[0-9]+\s*$/.test(text)) sums[name] = (sums[name] ?? 0) + Number(text);
    }
  }
  return folders.length === 0 ? null : sums;
}

function startOf(host: Host, pid: number): number | null {
  const text = valueIn(host.read(`/proc/${pid}/stat`, TEXT_BYTES));
  return text === null ? null : (parseStat(text)?.startTicks ?? null);
}

async function firstLook(host: Host, process: VmProcess, servers: FuseServers): Promise<Looked> {
  const { pid } = process;
  const links = valueIn(descriptorsOf(host, pid)) ?? new Map<number, string>();
  const startTicks = startOf(host, pid);
  const threads = threadsOf(host, pid, links, isOutermost(host));
  const countersBefore = countersOf(host, process, links);
  const { files, unseen } = await guestFilesOf(host, pid, links, (connection) => servers.server(connection));
  return { process, links, startTicks, threads, files, countersBefore, unseen };
}

/** Workers in state D whose stack leads out of async_pf_execute(): a guest's page is on its way, or is not. */
function pageWorkersOf(host: Host): readonly PageWorker[] {
  const until = host.nowMs() + WORKERS_SCAN_MS;
  const workers: PageWorker[] = [];
  for (const tid of numbersIn(valueIn(host.list("/proc")) ?? [])) {
    if (host.nowMs() > until || workers.length >= WORKERS_MAX) break;
    const stat = parseStat(valueIn(host.read(`/proc/${tid}/stat`, TEXT_BYTES)) ?? "");
    if (stat === null || !stat.name.startsWith("kworker/") || stat.state !== "D") continue;
    const stack = stackOf(host, tid, tid) ?? [];
    if (!stack.includes("async_pf_execute")) continue;
    workers.push({ tid, stack, sleptMs: sleptMsOf(host, tid, tid) });
  }
  return workers;
}

type Traces = { readonly vcpus: TraceText; readonly pages: TraceText };

function startTracing(host: Host, looked: readonly Looked[]): () => Traces {
  const none: TraceText = { kind: "none", reason: "no thread of a vCPU is known" };
  const tids = looked.flatMap(({ threads }) => threads.filter(({ isVcpu }) => isVcpu).map(({ tid }) => tid));
  if (tids.length === 0) return () => ({ vcpus: none, pages: none });
  if (!isOutermost(host)) {
    const reason = "tracefs counts in the outermost namespace of PIDs, and this is another one";
    return () => ({ vcpus: { kind: "none", reason }, pages: { kind: "none", reason } });
  }
  const pages: TraceSession = host.trace(pageSelection);
  const vcpus: TraceSession = host.trace(vcpuSelection(tids));
  return () => ({ vcpus: vcpus.finish(), pages: pages.finish() });
}

function vcpuFacts(host: Host, { process, files }: Looked, thread: Thread, traces: Traces): VcpuFacts {
  const { tid, looks, id } = thread;
  const last = looks.at(-1) ?? null;
  const isOwn = (hva: bigint): boolean => files.length === 0 || placeOf(files, hva) !== null;
  const addresses = traces.pages.kind === "trace" ? hostAddresses(traces.pages.text) : new Map();
  const events =
    traces.vcpus.kind === "trace"
      ? threadEvents(traces.vcpus.text).get(tid)?.events(addresses, isOwn)
      : undefined;
  return {
    tid,
    name: last?.stat?.name ?? looks[0]?.stat?.name ?? "",
    id: id ?? events?.vcpu ?? null,
    looks,
    stack: stackOf(host, process.pid, tid),
    sleptMs: sleptMsOf(host, process.pid, tid),
    pages: events?.pages ?? [],
    failures: events?.failures ?? {},
  };
}

/** A connection's requests are counted again. */
function withWaiting(file: GuestFile, servers: FuseServers): GuestFile {
  const server = file.fileSystem?.server;
  if (file.fileSystem === null || server?.kind !== "fuse" || server.waiting === null) return file;
  const after = servers.waiting(server.connection) ?? server.waiting.before;
  return {
    ...file,
    fileSystem: { ...file.fileSystem, server: { ...server, waiting: { ...server.waiting, after } } },
  };
}

function countersBetween(
  before: Readonly<Record<string, number>> | null,
  after: Readonly<Record<string, number>> | null,
): Counters | null {
  if (before === null || after === null) return null;
  return Object.fromEntries(
    Object.entries(before).map(([name, count]) => [name, { before: count, after: after[name] ?? count }]),
  );
}

const isBlocked = (look: Look): boolean => look.stat?.state === "D";

function namespacesOf(host: Host, pid: number): VmFacts["namespaces"] {
  const differs = (kind: string): boolean | null => {
    const [theirs, ours] = [pid, "self"].map((one) => valueIn(host.link(`/proc/${one}/ns/${kind}`)));
    return theirs == null || ours == null ? null : theirs !== ours;
  };
  return { hasOwnMounts: differs("mnt"), hasOwnPids: differs("pid") };
}

/** Of every thread that did not end meanwhile. */
const seesCalls = (threads: readonly Thread[]): boolean =>
  threads.length > 0 &&
  threads.every(({ looks }) => looks.some(({ call, stat }) => call !== null || stat === null));

function vmUnseen(host: Host, looked: Looked, traces: Traces): readonly string[] {
  const { threads, countersBefore, process } = looked;
  const unseen = [...looked.unseen];
  if (threads.length === 0) unseen.push(`the threads of process ${process.pid}`);
  if (!threads.some(({ isVcpu }) => isVcpu) && !seesCalls(threads)) unseen.push("which threads run vCPUs");
  if (threads.length > 0 && !seesCalls(threads))
    unseen.push("what threads wait for (/proc/PID/task/TID/syscall, wchan, stack: root may look)");
  if (countersBefore === null) {
    unseen.push(
      host.list(KVM_DEBUGFS).kind === "failed"
        ? `KVM's counters (${KVM_DEBUGFS}: as root, with debugfs mounted: mount -t debugfs nodev /sys/kernel/debug)`
        : `KVM's counters: ${KVM_DEBUGFS} has none of this process`,
    );
  }
  if (traces.vcpus.kind === "none") unseen.push(`KVM's tracepoints: ${traces.vcpus.reason}`);
  return unseen;
}

function vmFacts(host: Host, looked: Looked, traces: Traces, servers: FuseServers): VmFacts {
  const { process, threads, startTicks } = looked;
  const { pid } = process;
  const stat = parseStat(valueIn(host.read(`/proc/${pid}/stat`, TEXT_BYTES)) ?? "");
  const isGone = stat === null || stat.startTicks !== startTicks || ["Z", "X"].includes(stat.state);
  const blocked = threads.filter(({ isVcpu, looks }) => !isVcpu && looks.every(isBlocked));
  const looks = threads[0]?.looks ?? [];
  return {
    pid,
    process: stat?.name ?? "",
    name: guestNameOf(process.commandLine),
    program: process.commandLine[0] ?? null,
    commandLine: process.commandLine,
    startTicks,
    vms: process.vmFds.length,
    isGone,
    seesCalls: seesCalls(threads),
    state: stat?.state ?? null,
    namespaces: namespacesOf(host, pid),
    vcpus: threads
      .filter(({ isVcpu }) => isVcpu)
      .map((thread) => vcpuFacts(host, looked, thread, traces))
      .sort((a, b) => (a.id ?? 0) - (b.id ?? 0)),
    blocked: blocked.map(({ tid, looks: seen }) => {
      const last = seen.at(-1);
      return { tid, name: last?.stat?.name ?? "", where: last?.waitsIn ?? "unknown" };
    }),
    files: looked.files.map((file) => withWaiting(file, servers)),
    counters: countersBetween(looked.countersBefore, countersOf(host, process, looked.links)),
    trace: traces.vcpus.kind === "none" ? traces.vcpus : { kind: "seen", lost: traces.vcpus.lost },
    watchedMs: (looks.at(-1)?.atMs ?? 0) - (looks[0]?.atMs ?? 0),
    unseen: isGone ? [] : vmUnseen(host, looked, traces),
  };
}

export type Collected = { readonly facts: HostFacts; readonly found: Found };

/** Looks again and again while the kernel traces; the instances of tracefs are gone afterwards, whatever happens. */
async function watch(
  host: Host,
  looked: readonly Looked[],
  signal: AbortSignal | undefined,
): Promise<{ readonly traces: Traces; readonly pageWorkers: readonly PageWorker[] }> {
  const stopTracing = startTracing(host, looked);
  let pageWorkers: readonly PageWorker[] = [];
  let traces: Traces;
  try {
    const fromMs = host.nowMs();
    for (let look = 1; looked.length > 0 && look <= LOOKS && signal?.aborted !== true; look += 1) {
      await host.sleep(Math.max(0, fromMs + (WATCH_MS * look) / LOOKS - host.nowMs()));
      for (const { process, threads } of looked)
        for (const thread of threads) thread.looks.push(lookAt(host, process.pid, thread.tid));
    }
    pageWorkers = looked.length === 0 ? [] : pageWorkersOf(host);
  } finally {
    traces = stopTracing();
  }
  return { traces, pageWorkers };
}

/**
 * @param setup who looks, and on which kernel
 * @param signal ends the looking early, and in order
 */
export async function collect(
  host: Host,
  wanted: Wanted,
  setup: Pick<HostFacts, "kernel" | "isRoot">,
  signal?: AbortSignal,
): Promise<Collected> {
  const startMs = host.nowMs();
  const found = await findVms(host, wanted);
  const servers = new FuseServers(host);
  const looked: Looked[] = [];
  for (const process of found.processes.slice(0, VMS_MAX))
    looked.push(await firstLook(host, process, servers));
  const { traces, pageWorkers } = await watch(host, looked, signal);
  const vms = looked.map((one) => vmFacts(host, one, traces, servers));
  const left = found.processes.length - VMS_MAX;
  const unseen = [
    ...found.unseen,
    ...(left > 0 ? [`${left} more processes with VMs: name one with --pid`] : []),
  ];
  return { facts: { ...setup, vms, unseen, pageWorkers, tookMs: host.nowMs() - startMs }, found };
}
