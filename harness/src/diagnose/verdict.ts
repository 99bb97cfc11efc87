/**
 * From what was seen of a VM to one verdict in words. Pure.
 *
 * The loop (docs/vm-hangs.md): KVM asks a worker for the page (kvm_try_async_get_page), the worker comes back with nothing
 * (kvm_async_pf_completed, kvm_async_pf_ready), the vCPU touches the page again. A page that only takes long is asked for
 * once; one that memory pressure takes away again comes back a few times, and is fixed each time (pf_fixed). So many turns for one
 * page in half a second, with nothing fixed, are neither.
 */
import {
  behindEndBytes,
  bytesText,
  type FilePlace,
  type GuestFile,
  type HostFacts,
  mappedBytes,
  type PageEvents,
  placeOf,
  type Server,
  type VcpuFacts,
  type VmFacts,
  waitsText,
  wantedBytes,
} from "./facts.ts";

/** Turns for one page, where nothing else says that it cannot come. */
const TURNS_MIN = 20;
/** Where it cannot come: it lies behind the end of its file, or its server is dead. */
const TURNS_OF_LOST_MIN = 3;
/** Faults of one instruction at one page, without a worker: KVM retries by itself. */
const RETRIES_MIN = 200;
/** No page's I/O takes so long. */
const PATIENCE_MS = 10_000;
/** Faults of one access at one page that is asked for each time. */
const HELD_UP_FAULTS_MIN = 5;
const EFAULT = 14;

export type Activity =
  | {
      readonly kind: "loops";
      readonly page: PageEvents;
      readonly turns: number;
      readonly place: FilePlace | null;
    }
  | { readonly kind: "fails"; readonly errno: number; readonly times: number }
  | { readonly kind: "waits"; readonly where: string; readonly sleptMs: number | null }
  /** Halted in KVM, not by its guest: a page was asked for and is not there yet. */
  | { readonly kind: "waits-for-page"; readonly page: PageEvents; readonly place: FilePlace | null }
  | { readonly kind: "runs"; readonly share: number; readonly guestShare: number; readonly faults: number }
  /** It waits at its looks, each time for another page: those before have come. */
  | { readonly kind: "pages-in"; readonly majorFaults: number; readonly isSwap: boolean }
  | { readonly kind: "halted"; readonly sleptMs: number | null }
  /** Not in KVM_RUN at any look, and asleep. */
  | { readonly kind: "outside"; readonly where: string; readonly sleptMs: number | null }
  | { readonly kind: "stopped" }
  /** Ready to run, and without a processor. */
  | { readonly kind: "starved" }
  | { readonly kind: "gone" }
  | { readonly kind: "unknown"; readonly reason: string };

export type VerdictKind =
  | "endless-loop"
  | "fails-with-efault"
  | "waits-for-io"
  | "process-stopped"
  | "stopped-by-vmm"
  | "runs"
  | "halted"
  | "gone"
  | "unknown";

/** What ends it, and at which price. */
export type Remedy = { readonly what: string; readonly command: string | null; readonly price: string };

export type Verdict = {
  readonly kind: VerdictKind;
  /** `hung`: it does not end by itself. `open`: it may. */
  readonly severity: "fine" | "open" | "hung";
  /** One sentence. */
  readonly text: string;
  readonly remedies: readonly Remedy[];
  /** What is fine now and will not stay so. */
  readonly warnings: readonly string[];
};

export type Diagnosis = {
  readonly vm: VmFacts;
  readonly activities: readonly { readonly vcpu: VcpuFacts; readonly activity: Activity }[];
  readonly verdict: Verdict;
};

export type ServerState = "lives" | "stopped" | "dead" | "unknown";

/** By its processes: those that may be it decide only where they agree. */
export function serverState(server: Server): ServerState {
  if (server.kind !== "fuse") return "unknown";
  const { processes, isExact, isComplete } = server;
  if (processes.length === 0) return isExact && isComplete ? "dead" : "unknown";
  const isStopped = ({ state }: { readonly state: string }): boolean => ["T", "t"].includes(state);
  if (processes.every(isStopped)) return isExact || processes.length === 1 ? "stopped" : "unknown";
  return isExact ? "lives" : "unknown";
}

const serverOf = (file: GuestFile): Server | null => file.fileSystem?.server ?? null;
const stateOf = (file: GuestFile): ServerState => {
  const server = serverOf(file);
  return server === null ? "lives" : serverState(server);
};

/** No page can come from there. */
const isLost = (place: FilePlace | null): boolean =>
  place !== null && (place.isBehindEnd || stateOf(place.file) === "dead");

/** The vCPU's own thread has mapped the page, as often as not: another one took it away again. */
const isMapped = (page: PageEvents, turns: number): boolean => page.fixed > 0 && 2 * page.fixed >= turns;

/**
 * The page came each time, and was taken away again, as memory pressure does: the vCPU's thread maps it. Where that is not traced,
 * KVM counts what its workers' pages fix (pf_fixed), of all vCPUs together: of several, one that does nothing but touch this page at
 * one instruction loops then, whatever others fix.
 */
function isFixed(vm: VmFacts, vcpu: VcpuFacts, page: PageEvents): boolean {
  if (isMapped(page, page.ready)) return true;
  const doesNothingElse = vm.vcpus.length > 1 && vcpu.pages.length === 1 && page.rip !== null;
  return !doesNothingElse && grown(vm, "pf_fixed") >= page.ready;
}

function loopOf(vm: VmFacts, vcpu: VcpuFacts): Activity | null {
  for (const page of vcpu.pages) {
    const place = page.hva === null ? null : placeOf(vm.files, page.hva);
    // Of a turn that has begun there is no end yet.
    const isLoop = isLost(place)
      ? page.ready >= TURNS_OF_LOST_MIN
      : page.ready >= TURNS_MIN && !isFixed(vm, vcpu, page);
    if (isLoop) return { kind: "loops", page, turns: page.ready, place };
  }
  return null;
}

/** KVM retries one access by itself: nothing but its faults is seen of the vCPU. */
function retryOf(vm: VmFacts, vcpu: VcpuFacts): Activity | null {
  const [page] = vcpu.pages;
  if (page === undefined || page.rip === null || page.deviceFaults > 0) return null;
  if (isMapped(page, page.faults)) return null;
  const others = vcpu.pages.slice(1).reduce((sum, { faults }) => sum + faults, 0);
  const emulated = ["mmio_exits", "insn_emulation", "pf_emulate"].some((name) => grown(vm, name) > 0);
  if (page.faults < RETRIES_MIN || others > 0 || emulated || page.asked > 0 || page.repeated > 0) return null;
  return { kind: "loops", page, turns: page.faults, place: null };
}

/**
 * Nothing but one access to one page is seen of the vCPU: it makes no progress, awake or halted. A guest's timer ends each
 * halt, and the access faults again (kvm_async_pf_repeated_fault).
 */
function heldUpOf(vm: VmFacts, vcpu: VcpuFacts): Activity | null {
  const [page, ...others] = vcpu.pages;
  if (page === undefined || others.length > 0 || page.rip === null) return null;
  if (page.faults < HELD_UP_FAULTS_MIN || page.asked < page.faults - 1) return null;
  if (page.ready > 0 && isFixed(vm, vcpu, page)) return null;
  return { kind: "waits-for-page", page, place: page.hva === null ? null : placeOf(vm.files, page.hva) };
}

const grown = ({ counters }: VmFacts, name: string): number => {
  const counter = counters?.[name];
  return counter === undefined ? 0 : counter.after - counter.before;
};

/** Functions in which KVM itself lets a vCPU's thread sleep: the guest has halted (kvm_vcpu_block(), virt/kvm/kvm_main.c). */
const HALT = /^(?:kvm_vcpu_block|kvm_vcpu_halt|kvm_arch_vcpu_ioctl_run|kvm_arch_vcpu_runnable)$/;

/** Clock ticks are 10 ms everywhere (USER_HZ). */
const TICK_MS = 10;

function shares(vcpu: VcpuFacts): { readonly all: number; readonly guest: number } {
  const [first, last] = [vcpu.looks[0], vcpu.looks.at(-1)];
  const ms = (last?.atMs ?? 0) - (first?.atMs ?? 0);
  if (first?.stat == null || last?.stat == null || ms <= 0) return { all: 0, guest: 0 };
  const ticks = last.stat.userTicks + last.stat.systemTicks - first.stat.userTicks - first.stat.systemTicks;
  const guest = last.stat.guestTicks - first.stat.guestTicks;
  const share = (count: number): number => Math.min(1, Math.max(0, (count * TICK_MS) / ms));
  return { all: share(ticks), guest: share(guest) };
}

function sleepOf(vm: VmFacts, vcpu: VcpuFacts): Activity {
  const last = vcpu.looks.at(-1);
  const where = vcpu.stack?.[0] ?? last?.waitsIn ?? "an unknown place";
  const { sleptMs } = vcpu;
  const isInKvm = vcpu.looks.some(({ call }) => call?.kind === "kvm-run");
  const knowsCall = vcpu.looks.some(({ call }) => call !== null);
  const functions = [...(vcpu.stack ?? []), ...(last?.waitsIn == null ? [] : [last.waitsIn])];
  if (!knowsCall && functions.length === 0)
    return { kind: "unknown", reason: "it sleeps; where, root may see" };
  // A VMM that has paused its VM, or is idle, can be woken: this one waits for a page of its own.
  if (!isInKvm && last?.stat?.state === "D")
    return pagesIn(vm, vcpu) ?? { kind: "waits", where: last.waitsIn ?? where, sleptMs };
  if (!isInKvm && knowsCall) return { kind: "outside", where, sleptMs };
  if (functions.some((name) => HALT.test(name))) {
    const page = vcpu.pages.find(({ repeated, asked, ready }) => repeated > 0 || asked > ready);
    if (page === undefined) return { kind: "halted", sleptMs };
    return {
      kind: "waits-for-page",
      page,
      place: page.hva === null ? null : placeOf(vm.files, page.hva),
    };
  }
  return { kind: "waits", where, sleptMs };
}

/**
 * It waits, and not for the page that it waited for at the first look, as under heavy swapping: one wait would be as long as
 * all the looks together, and would have brought nothing. The pages may be the guest's, of KVM_RUN, or the VMM's own. Where a file
 * server is known not to answer, the next page may be one that does not come.
 */
function pagesIn(vm: VmFacts, { looks, sleptMs, stack }: VcpuFacts): Activity | null {
  const [first, last] = [looks[0], looks.at(-1)];
  if (first?.stat == null || last?.stat == null || last.stat.state !== "D" || sleptMs === null) return null;
  const majorFaults = last.stat.majorFaults - first.stat.majorFaults;
  if (sleptMs >= last.atMs - first.atMs || (majorFaults <= 0 && grown(vm, "pf_fixed") <= 0)) return null;
  if (vm.files.some((file) => ["stopped", "dead"].includes(stateOf(file)))) return null;
  return { kind: "pages-in", majorFaults, isSwap: stack?.includes("do_swap_page") === true };
}

export function activityOf(vm: VmFacts, vcpu: VcpuFacts): Activity {
  const stats = vcpu.looks.map(({ stat }) => stat);
  const last = stats.at(-1);
  if (last == null || ["Z", "X"].includes(last.state)) return { kind: "gone" };
  const states = stats.map((stat) => stat?.state ?? "?");
  if (states.every((state) => state === "T" || state === "t")) return { kind: "stopped" };
  const failures = vcpu.failures[EFAULT] ?? 0;
  if (failures > 0) return { kind: "fails", errno: EFAULT, times: failures };
  const loop = loopOf(vm, vcpu) ?? retryOf(vm, vcpu);
  if (loop !== null) return loop;
  const { all, guest } = shares(vcpu);
  const faults = vcpu.pages.reduce((sum, page) => sum + page.faults, 0);
  if (states.every((state) => state === "D")) {
    const comesOn = pagesIn(vm, vcpu);
    if (comesOn !== null) return comesOn;
    // The stack is read afterwards, when it may wait for something else.
    const where = vcpu.looks.at(-1)?.waitsIn ?? vcpu.stack?.[0] ?? "an unknown place";
    return { kind: "waits", where, sleptMs: vcpu.sleptMs };
  }
  const heldUp = heldUpOf(vm, vcpu);
  if (heldUp !== null) return heldUp;
  if (states.every((state) => state === "R") && all === 0) return { kind: "starved" };
  const isAsleep = ["S", "D"].includes(last.state);
  const hasMoved = vcpu.looks.some(({ call, stat }) => call?.kind === "running" || stat?.state === "R");
  if (!isAsleep || all > 0.05 || (hasMoved && all > 0))
    return { kind: "runs", share: all, guestShare: guest, faults };
  return sleepOf(vm, vcpu);
}

const killRemedy = (vm: VmFacts): Remedy => ({
  what: "end the VM",
  command: `kill -KILL ${vm.pid}`,
  price: "the guest is lost, with everything that it had not written",
});

function growRemedy(file: GuestFile): Remedy {
  const bytes = wantedBytes(file);
  return {
    what: `make the file as long again as it is mapped, ${bytes} bytes: the page can be had again`,
    // At least: somebody may have made it longer meanwhile.
    command: `truncate -s '>${bytes}' ${file.link}`,
    price:
      "the guest reads zeros where its data was, and does not learn of it; what it had written there is gone in any case. " +
      "Where the content is known, write it back instead",
  };
}

function serverRemedies(vm: VmFacts, server: Server | null, mountPoint: string): readonly Remedy[] {
  if (server?.kind !== "fuse") return [killRemedy(vm)];
  const [stopped] = server.processes.filter(({ state }) => ["T", "t"].includes(state));
  const abort: Remedy = {
    what: "give the connection up",
    command: `echo 1 > /sys/fs/fuse/connections/${server.connection}/abort`,
    price: `every request to ${mountPoint} fails from then on, of every process; the guest's page does not come: its vCPU then loops, or KVM_RUN fails with -EFAULT`,
  };
  return [
    ...(stopped === undefined
      ? []
      : [
          {
            what: `let the file server ${stopped.pid} (${stopped.name}) go on`,
            command: `kill -CONT ${stopped.pid}`,
            price: "none: it answers what it was asked",
          },
        ]),
    abort,
    killRemedy(vm),
  ];
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const sizeOf = (file: GuestFile): string => `${file.sizeBytes ?? "?"} bytes long`;
/** Of a file of which something is mapped behind its end. */
const behindText = (file: GuestFile): string =>
  `${bytesText(behindEndBytes(file) ?? 0n)} of ${file.path} are mapped behind its end (${sizeOf(file)})`;
const idOf = ({ id, tid }: VcpuFacts): string => (id === null ? `thread ${tid}` : `vCPU ${id}`);

/** Files of which something is mapped behind their end. */
const shortOf = (vm: VmFacts): readonly GuestFile[] =>
  vm.files.filter((file) => (behindEndBytes(file) ?? 0n) > 0n);
const deadOf = (vm: VmFacts): readonly GuestFile[] => vm.files.filter((file) => stateOf(file) === "dead");

function loopVerdict(
  vm: VmFacts,
  vcpu: VcpuFacts,
  loop: Extract<Activity, { kind: "loops" }>,
): Omit<Verdict, "warnings"> {
  const { page, place } = loop;
  const begin = `endless loop: ${idOf(vcpu)} faults at gpa ${hex(page.gpa)} again and again`;
  const base = { kind: "endless-loop", severity: "hung" } as const;
  if (place?.isBehindEnd === true) {
    const { file, offset } = place;
    return {
      ...base,
      text: `${begin}, because the file ${file.path} is too short: the page is at offset ${hex(offset)}, and the file is ${sizeOf(file)} (${bytesText(mappedBytes(file))} are mapped)`,
      remedies: [growRemedy(file), killRemedy(vm)],
    };
  }
  if (place !== null && stateOf(place.file) === "dead") {
    const { file, offset } = place;
    return {
      ...base,
      text: `${begin}, because the file server of ${file.fileSystem?.mountPoint ?? file.path} is dead: the page is at offset ${hex(offset)} of ${file.path}, and nobody reads it any more`,
      remedies: [killRemedy(vm)],
    };
  }
  if (place !== null) {
    const { file, offset } = place;
    return {
      ...base,
      text: `${begin}: the page is at offset ${hex(offset)} of ${file.path} (${file.fileSystem?.type ?? "unknown file system"}), within the file, and cannot be had: reading it fails (the kernel's log may say why)`,
      remedies: [killRemedy(vm)],
    };
  }
  const short = shortOf(vm);
  const [file] = short;
  if (file !== undefined && short.length === 1) {
    return {
      ...base,
      text: `${begin}; its hva is not known, but ${behindText(file)}: that is the cause, unless chance would have it`,
      remedies: [growRemedy(file), killRemedy(vm)],
    };
  }
  const names = [...short, ...deadOf(vm)].map(({ path }) => path);
  const text =
    names.length === 0
      ? "no file that is mapped explains it"
      : `files that may be the cause: ${names.join(", ")}`;
  return {
    ...base,
    text: `${begin}; its hva is not known, and ${text}`,
    remedies: [killRemedy(vm)],
  };
}

/** The mount that is waited for: one whose server has requests open, or is not alive. */
function awaitedFile(vm: VmFacts, place: FilePlace | null): GuestFile | null {
  if (place !== null) return place.file;
  const served = vm.files.filter((file) => serverOf(file) !== null);
  const hasOpen = served.filter((file) => {
    const server = serverOf(file);
    return (
      server?.kind === "fuse" &&
      server.waiting !== null &&
      Math.min(server.waiting.before, server.waiting.after) > 0
    );
  });
  const ill = served.filter((file) => ["stopped", "dead"].includes(stateOf(file)));
  const mounts = (files: readonly GuestFile[]): number =>
    new Set(files.map(({ device }) => device.minor)).size;
  for (const files of [ill, hasOpen, served]) if (mounts(files) === 1) return files[0] ?? null;
  return null;
}

function waitVerdict(
  vm: VmFacts,
  vcpu: VcpuFacts,
  wait: Extract<Activity, { kind: "waits" | "waits-for-page" }>,
  workers: HostFacts["pageWorkers"],
): Omit<Verdict, "warnings"> {
  const file = awaitedFile(vm, wait.kind === "waits-for-page" ? wait.place : null);
  const server = file === null ? null : serverOf(file);
  const state = server === null ? "unknown" : serverState(server);
  // Which VM a worker works for is not seen: of one alone it is clear.
  const [worker] = workers.length === 1 ? workers : [];
  const sleptMs = wait.kind === "waits" ? wait.sleptMs : (worker?.sleptMs ?? null);
  const isLong = sleptMs !== null && sleptMs >= PATIENCE_MS;
  const where =
    wait.kind === "waits"
      ? `in ${wait.where}`
      : `for the page at gpa ${hex(wait.page.gpa)}, which a worker of the kernel is to bring`;
  const mount = file?.fileSystem == null ? null : (file.fileSystem.mountPoint ?? file.path);
  const stack = wait.kind === "waits" ? (vcpu.stack ?? []) : (worker?.stack ?? []);
  const isHandler = stack.includes("handle_userfault");
  const what = isHandler
    ? "a page that a userfaultfd handler owes"
    : mount === null
      ? "I/O"
      : `I/O of ${mount} (${file?.fileSystem?.type ?? ""})`;
  const servers =
    server?.kind === "fuse" ? server.processes.map(({ pid, name }) => `${pid} (${name})`).join(", ") : "";
  const why: Readonly<Record<ServerState, string>> = {
    lives: `its file server lives: ${servers}`,
    stopped: `its file server is stopped: ${servers}`,
    dead: "its file server is dead",
    unknown: servers === "" ? "" : `its file server may be one of ${servers}`,
  };
  const isHung = !isHandler && ["stopped", "dead"].includes(state);
  const tail = isHandler || why[state] === "" ? "" : `; ${why[state]}`;
  const hint =
    isHung || isLong
      ? ""
      : "; whether it comes cannot be seen in half a second: look again, and see whether it still waits";
  return {
    kind: "waits-for-io",
    severity: isHung || isLong ? "hung" : "open",
    text: `waiting for ${what}: ${idOf(vcpu)} ${waitsText(sleptMs)} ${where}${tail}${hint}`,
    remedies: isHandler
      ? [
          {
            what: "let the handler answer (UFFDIO_COPY), or end it: its descriptor's end wakes the waiters",
            command: null,
            price: "without an answer the page is what the VMM's mapping says: zeros of anonymous memory",
          },
          killRemedy(vm),
        ]
      : serverRemedies(vm, server, mount ?? "it"),
  };
}

function pausedVerdict(vm: VmFacts, activities: readonly Activity[]): Omit<Verdict, "warnings"> {
  const outside = activities.find((one) => one.kind === "outside");
  const where = outside?.kind === "outside" ? ` (in ${outside.where})` : "";
  const isAsleep = activities.some(({ kind }) => kind !== "gone");
  const how = isAsleep ? `no vCPU is in KVM_RUN, all sleep outside of it${where}` : "no thread runs a vCPU";
  const idle = isAsleep
    ? "; or it is idle, and its VMM has the local APIC itself (QEMU: kernel-irqchip=off): a halted vCPU waits in such a VMM, too"
    : "";
  const [short] = shortOf(vm);
  const after =
    short === undefined
      ? idle
      : `; ${behindText(short)}: KVM_RUN may have failed with -EFAULT before. The VMM's log says it (daxfault diagnose --log FILE)`;
  return {
    kind: "stopped-by-vmm",
    severity: short === undefined ? "open" : "hung",
    text: `stopped by its VMM: ${how}${after}`,
    remedies: [
      {
        what: "let it go on by the VMM's own means (QEMU: cont at the monitor, virsh resume)",
        command: null,
        price:
          short === undefined
            ? "none, if a person or a tool has paused it"
            : "the same access fails again, unless the file is made long enough before",
      },
      ...(short === undefined ? [] : [growRemedy(short), killRemedy(vm)]),
    ],
  };
}

/** A VMM whose vCPUs halt in itself (without KVM's local APIC, each HLT is an exit), or that has much to do between two entries. */
function betweenEntries(exits: number): Omit<Verdict, "warnings"> {
  return {
    kind: "runs",
    severity: "fine",
    text: `healthy: no vCPU was in KVM_RUN when it was looked at, and between the looks they were: ${exits} exits, after which the VMM itself works, or waits for a halted vCPU`,
    remedies: [],
  };
}

function quietVerdict(activities: readonly Activity[]): Omit<Verdict, "warnings"> {
  const runs = activities.flatMap((one) => (one.kind === "runs" ? [one] : []));
  const paging = activities.flatMap((one) => (one.kind === "pages-in" ? [one] : []));
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  if (paging.length > 0) {
    const what = paging.every(({ isSwap }) => isSwap) ? "swap" : "files or swap";
    const pages = paging.reduce((sum, { majorFaults }) => sum + majorFaults, 0);
    const seen = pages === 0 ? "" : ` (${pages} major faults)`;
    return {
      kind: "runs",
      severity: "fine",
      text: `healthy, and slow: ${paging.length} of ${activities.length} vCPUs wait for pages of ${what}, one after the other${seen}; each came so far`,
      remedies: [],
    };
  }
  if (runs.length > 0) {
    const most = Math.max(...runs.map(({ share }) => share));
    const faults = runs.reduce((sum, one) => sum + one.faults, 0);
    const spins =
      most > 0.9 && faults === 0
        ? ": busy without a fault, with work or spinning, which from outside look the same"
        : "";
    return {
      kind: "runs",
      severity: "fine",
      text: `healthy: ${runs.length} of ${activities.length} vCPUs run, the busiest ${percent(most)} of the time${spins}`,
      remedies: [],
    };
  }
  return {
    kind: "halted",
    severity: "fine",
    text: "healthy: the guest has halted all its vCPUs, as an idle one does; KVM waits for an interrupt",
    remedies: [],
  };
}

type Seen = readonly { readonly vcpu: VcpuFacts; readonly activity: Activity }[];

function find<Kind extends Activity["kind"]>(
  seen: Seen,
  kinds: readonly Kind[],
): { readonly vcpu: VcpuFacts; readonly activity: Extract<Activity, { kind: Kind }> } | null {
  for (const { vcpu, activity } of seen) {
    if ((kinds as readonly string[]).includes(activity.kind))
      return { vcpu, activity: activity as Extract<Activity, { kind: Kind }> };
  }
  return null;
}

function verdictWithoutWarnings(
  vm: VmFacts,
  seen: Seen,
  workers: HostFacts["pageWorkers"],
): Omit<Verdict, "warnings"> {
  const activities = seen.map(({ activity }) => activity);
  const none = { remedies: [] };
  if (vm.isGone)
    return { ...none, kind: "gone", severity: "fine", text: "the process ended while it was looked at" };
  if (vm.state === "T" || vm.state === "t")
    return {
      kind: "process-stopped",
      severity: "hung",
      text: `the VMM's process is stopped${vm.state === "t" ? " by a debugger" : " by a signal (SIGSTOP, SIGTSTP)"}`,
      remedies: [
        { what: "let it go on", command: vm.state === "t" ? null : `kill -CONT ${vm.pid}`, price: "none" },
      ],
    };
  const fails = find(seen, ["fails"]);
  if (fails !== null) {
    const [short] = shortOf(vm);
    return {
      kind: "fails-with-efault",
      severity: "hung",
      text:
        `KVM_RUN of ${idOf(fails.vcpu)} fails with -EFAULT (Bad address), ${fails.activity.times} times in the look: ` +
        (short === undefined ? "a page of the guest's memory cannot be had" : behindText(short)),
      remedies: [...(short === undefined ? [] : [growRemedy(short)]), killRemedy(vm)],
    };
  }
  const loops = find(seen, ["loops"]);
  if (loops !== null) return loopVerdict(vm, loops.vcpu, loops.activity);
  const waits = find(seen, ["waits", "waits-for-page"]);
  if (waits !== null) return waitVerdict(vm, waits.vcpu, waits.activity, workers);
  const unknown = find(seen, ["unknown"]);
  if ((seen.length === 0 && !vm.seesCalls) || unknown !== null) {
    return {
      ...none,
      kind: "unknown",
      severity: "open",
      text: `not known: ${unknown === null ? "no thread of a vCPU can be seen" : unknown.activity.reason}`,
    };
  }
  const present = activities.filter(({ kind }) => kind !== "gone");
  if (present.every(({ kind }) => kind === "outside")) {
    const exits = grown(vm, "exits");
    return exits > 0 ? betweenEntries(exits) : pausedVerdict(vm, activities);
  }
  return quietVerdict(activities);
}

function warningsOf(vm: VmFacts, verdict: Omit<Verdict, "warnings">): readonly string[] {
  const isSaid = (file: GuestFile): boolean => verdict.text.includes(file.path);
  const short = shortOf(vm)
    .filter((file) => !isSaid(file))
    .map((file) => `${behindText(file)}: the guest's next access there hangs or ends it`);
  const ill = vm.files
    .filter((file) => !isSaid(file) && ["dead", "stopped"].includes(stateOf(file)))
    .map(
      (file) =>
        `the file server of ${file.path} is ${stateOf(file)}: pages that are not in memory cannot be had`,
    );
  const blocked = vm.blocked.map(
    ({ name, tid, where }) =>
      `thread ${tid} (${name}) of the VMM waits in ${where}, uninterruptibly, at every look`,
  );
  return [...short, ...ill, ...blocked];
}

export function diagnose(vm: VmFacts, workers: HostFacts["pageWorkers"]): Diagnosis {
  const activities = vm.vcpus.map((vcpu) => ({ vcpu, activity: activityOf(vm, vcpu) }));
  const verdict = verdictWithoutWarnings(vm, activities, workers);
  return { vm, activities, verdict: { ...verdict, warnings: warningsOf(vm, verdict) } };
}
