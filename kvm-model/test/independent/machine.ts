/**
 * A second, small account of KVM, of the host's page cache and of a Linux guest's async page faults, as rules from state
 * to state. Written from the source of Linux 6.12 alone and sharing nothing with kvm-model/src: where the two disagree,
 * one of them has misread the kernel. Not here: the search (search.ts), any policy of a VMM but to stop.
 *
 * A vCPU thread is deterministic, one rule a turn, no finer than the source's own atomic regions. What is not
 * deterministic is who comes next: a vCPU, a work item of async_pf_execute(), a process of the host, the VMM, a timer.
 */

export type GuestOp =
  /** `by`: the task itself, or the guest kernel at CPL 0 in a system call, where it does not schedule. */
  | { readonly do: "load" | "store"; readonly page: number; readonly by?: "task" | "kernel" }
  | { readonly do: "signal"; readonly name: string }
  | { readonly do: "await"; readonly name: string }
  | { readonly do: "count" };

type Access = Extract<GuestOp, { readonly page: number }>;

export type HostOp =
  | { readonly do: "truncate"; readonly pages: number }
  | { readonly do: "punch"; readonly page: number }
  | { readonly do: "signal"; readonly name: string }
  | { readonly do: "await"; readonly name: string };

export type Task = {
  readonly name: string;
  readonly cpu: number;
  readonly cpl: 0 | 3;
  readonly interrupts: boolean;
  readonly ops: readonly GuestOp[];
};

/** `disk`: comes by I/O whenever it is not in the page cache, a hole, too (a FUSE server's file). `full`: a hole, no block left. */
type Backing = "cached" | "disk" | "full";

export type Program = {
  readonly pages: readonly Backing[];
  readonly tasks: readonly Task[];
  readonly host: readonly HostOp[];
  /** Of the task that may get SIGKILL once, at any time or never. */
  readonly mayKill?: number;
};

export type Machine = {
  readonly lapic: "user" | "kernel";
  /** The guest has set MSR_KVM_ASYNC_PF_EN, bits 0 and 3, as Linux does; `always`: bit 1 (SEND_ALWAYS) besides. */
  readonly apf: "off" | "user-mode" | "always";
  readonly hltInGuest: boolean;
  /** An interrupt of the guest's timer, which takes the CPU from a task at CPL 3. */
  readonly timer: boolean;
  /** `final-efault`: -EFAULT of the attempt with FOLL_NOWAIT is an answer, not a reason to try again. */
  readonly kvm: "today" | "final-efault";
};

/** What a mutation takes out. */
export const checks = [
  "lapic_in_kernel",
  "kvm_arch_interrupt_allowed",
  "kvm_hlt_in_guest",
  "send_user_only",
  "is_page_fault_stale",
  "kvm_mmu_unmap_gfn_range",
  "filemap_fault i_size",
  "async_pf.done in kvm_vcpu_has_events",
  "kvm_arch_can_dequeue_async_page_present",
  "kvm_async_pf_task_wake",
] as const;
export type Check = (typeof checks)[number];

export type World = {
  readonly program: Program;
  readonly machine: Machine;
  readonly without: Check | null;
};

/** A page frame: how often the file had dropped this page before. 0 holds the file's first content, the others zeros. */
type Frame = number;

type Page = {
  readonly at: Backing;
  readonly frame: Frame;
  /** In the VMM's page table. */
  readonly pte: Frame | null;
  /** In the second-stage page table, of all vCPUs. */
  readonly spte: Frame | null;
};

type Work = { readonly token: number; readonly page: number; readonly injected: boolean };

/** struct kvm_page_fault. */
type Fault = {
  readonly page: number;
  readonly stage: "begin" | "nowait" | "wait" | "map";
  /** mmu_invalidate_seq as of the beginning. */
  readonly seq: number;
  readonly frame: Frame;
  /** For kvm_arch_async_page_ready(): `prefetch`. */
  readonly work: Work | null;
};

/** One vCPU: struct kvm_vcpu, its async page fault area in guest memory, the guest kernel's per-CPU state. */
type Cpu = {
  /** `run`: in vcpu_run(). `ready`: in kvm_check_async_pf_completion(). `left`: KVM_RUN has returned -EFAULT. */
  readonly in: "run" | "guest" | "fault" | "ready" | "left";
  readonly fault: Fault | null;
  readonly reqHalt: boolean;
  readonly reqReady: boolean;
  readonly apfHalted: boolean;
  readonly mpHalted: boolean;
  readonly queue: readonly Work[];
  readonly done: readonly Work[];
  readonly gfns: readonly number[];
  /** CR2 of the page-not-present exception that is queued. */
  readonly exception: number | null;
  readonly irqReady: boolean;
  readonly irqTimer: boolean;
  /** The task has executed an instruction since it was scheduled: before that no timer fires. */
  readonly ran: boolean;
  /** kvm_vcpu_pv_apf_data.token. */
  readonly token: number | null;
  /** In sysvec_kvm_asyncpf_interrupt(), before the write to MSR_KVM_ASYNC_PF_ACK. */
  readonly acking: boolean;
  /** Index of a task; where the CPU idles, the one that was last. */
  readonly current: number;
  readonly idle: boolean;
};

type TaskState = {
  readonly pc: number;
  readonly state: "ready" | "asleep" | "ended" | "killed";
  readonly token: number | null;
  readonly killPending: boolean;
  /** It has lost the CPU to a task that was woken, without having executed anything: not twice. */
  readonly passedOver: boolean;
  /** The access at `pc` has begun. */
  readonly began: boolean;
  readonly seen: Readonly<Record<number, "value" | "zero" | "stale">>;
};

export type State = {
  readonly size: number;
  readonly pages: readonly Page[];
  /** kvm->mmu_invalidate_seq, and mmu_invalidate_in_progress with its range. */
  readonly seq: number;
  readonly invalidating: { readonly from: number; readonly to: number } | null;
  readonly cpus: readonly Cpu[];
  readonly tasks: readonly TaskState[];
  /** Its next step, and how far that has come. */
  readonly host: { readonly pc: number; readonly phase: number };
  readonly signals: readonly string[];
  readonly vm: "on" | "stopped";
  readonly guest: "alive" | "panic";
};

/** Nothing makes it act. */
export const UNFAIR = "kill";
/** Whom it can choose again and again it does choose some day: the actors that begin with it are strongly fair. */
export const SCHEDULER = "scheduler";

/** `mark` is what a cycle is judged by: `async` (kvm_setup_async_pf()), `count N`. */
type Move = { readonly mark: string | null; readonly to: State };
/** Each actor is fair by itself. */
export type Turn = Move & { readonly actor: string };

const move = (to: State): Move => ({ mark: null, to });

export function begin({ program }: World): State {
  const cpus = Math.max(...program.tasks.map(({ cpu }) => cpu)) + 1;
  return {
    size: program.pages.length,
    pages: program.pages.map((at) => ({ at, frame: 0, pte: null, spte: null })),
    seq: 0,
    invalidating: null,
    cpus: Array.from({ length: cpus }, (_, number) => ({
      in: "run",
      fault: null,
      reqHalt: false,
      reqReady: false,
      apfHalted: false,
      mpHalted: false,
      queue: [],
      done: [],
      gfns: [],
      exception: null,
      irqReady: false,
      irqTimer: false,
      ran: false,
      token: null,
      acking: false,
      current: program.tasks.findIndex(({ cpu }) => cpu === number),
      idle: true,
    })),
    tasks: program.tasks.map(() => ({
      pc: 0,
      state: "ready",
      token: null,
      killPending: false,
      passedOver: false,
      began: false,
      seen: {},
    })),
    host: { pc: 0, phase: 0 },
    signals: [],
    vm: "on",
    guest: "alive",
  };
}

function put<Item>(list: readonly Item[], at: number, patch: Partial<Item>): readonly Item[] {
  return list.map((item, index) => (index === at ? { ...item, ...patch } : item));
}

function take<Item>(list: readonly Item[], at: number): Item {
  const item = list[at];
  if (item === undefined) throw new RangeError(`nothing at ${at} of ${list.length}`);
  return item;
}

const cpuTo = (s: State, v: number, patch: Partial<Cpu>): State => ({ ...s, cpus: put(s.cpus, v, patch) });
const taskTo = (s: State, t: number, patch: Partial<TaskState>): State => ({
  ...s,
  tasks: put(s.tasks, t, patch),
});
const raise = (s: State, name: string): State => ({
  ...s,
  signals: [...new Set([...s.signals, name])].sort(),
});

type Context = { readonly cpl: 0 | 3; readonly interrupts: boolean };

/** Privilege and RFLAGS.IF of the task that this vCPU runs, or of its idle loop. */
function taskContext(w: World, s: State, v: number): Context {
  const cpu = take(s.cpus, v);
  if (cpu.idle) return { cpl: 0, interrupts: true };
  const { cpl, interrupts, ops } = take(w.program.tasks, cpu.current);
  const op = ops[take(s.tasks, cpu.current).pc];
  const inKernel = op !== undefined && "by" in op && op.by === "kernel";
  return { cpl: inKernel ? 0 : cpl, interrupts };
}

/** The same of this vCPU, whatever it runs. */
function context(w: World, s: State, v: number): Context {
  return take(s.cpus, v).acking ? { cpl: 0, interrupts: false } : taskContext(w, s, v);
}

/** kvm_pv_async_pf_enabled(): without an APIC in the kernel the write to the MSR is #GP (kvm_pv_enable_async_pf()). */
const apfEnabled = ({ machine }: World): boolean => machine.apf !== "off" && machine.lapic === "kernel";

/** kvm_can_deliver_async_pf(), without nesting and with paging. */
function canDeliver(w: World, s: State, v: number): boolean {
  const userOnly = w.machine.apf === "user-mode" && w.without !== "send_user_only";
  return apfEnabled(w) && !(userOnly && context(w, s, v).cpl === 0);
}

/** kvm_can_do_async_pf(): no exception or event is pending where an instruction of a task faults. */
function canDoAsync(w: World, s: State, v: number): boolean {
  if (w.machine.lapic === "user" && w.without !== "lapic_in_kernel") return false;
  if (w.machine.hltInGuest && w.without !== "kvm_hlt_in_guest" && !canDeliver(w, s, v)) return false;
  return context(w, s, v).interrupts || w.without === "kvm_arch_interrupt_allowed";
}

/**
 * get_user_pages() of one page: by the VMM's page table (get_user_page_fast_only()), else filemap_fault() or
 * shmem_fault(). `again`: VM_FAULT_RETRY, the page needs I/O, and FOLL_NOWAIT forbids to wait for it.
 */
function getPage(w: World, s: State, page: number, how: "FOLL_NOWAIT" | "waits"): State | "again" | "efault" {
  const { at, frame, pte } = take(s.pages, page);
  if (pte !== null) return s;
  if (page >= s.size && w.without !== "filemap_fault i_size") return "efault";
  if (at === "full") return "efault";
  if (at === "disk" && how === "FOLL_NOWAIT") return "again";
  return { ...s, pages: put(s.pages, page, { at: "cached", pte: frame }) };
}

/** The lowest that is not in use: KVM's are consecutive, what counts is that they differ. */
function freeToken(s: State): number {
  const used = [
    ...s.cpus.flatMap(({ queue, done, fault, token, exception }) => [
      ...[...queue, ...done, ...(fault?.work ? [fault.work] : [])].map((work) => work.token),
      token,
      exception,
    ]),
    ...s.tasks.map(({ token }) => token),
  ];
  let token = 1;
  while (used.includes(token)) token++;
  return token;
}

/** kvm_setup_async_pf(), kvm_arch_async_page_not_present(). */
function setUpAsync(w: World, s: State, v: number, page: number): State {
  const cpu = take(s.cpus, v);
  const injected = canDeliver(w, s, v);
  const token = freeToken(s);
  return cpuTo(s, v, {
    in: "run",
    fault: null,
    queue: [...cpu.queue, { token, page, injected }],
    gfns: [...cpu.gfns, page].sort(),
    ...(injected ? { exception: token } : { reqHalt: true }),
  });
}

/** kvm_arch_async_page_present(). */
function pagePresent(w: World, s: State, v: number, work: Work): State {
  return cpuTo(s, v, {
    in: "ready",
    fault: null,
    gfns: take(s.cpus, v).gfns.filter((page) => page !== work.page),
    ...(work.injected && apfEnabled(w) ? { token: work.token, irqReady: true } : {}),
    apfHalted: false,
    mpHalted: false,
  });
}

/** kvm_tdp_mmu_page_fault(), kvm_faultin_pfn(), is_page_fault_stale(). */
function faultTurn(w: World, s: State, v: number, fault: Fault): Move {
  const { page, stage, seq, frame, work } = fault;
  const goOn = (from: State, patch: Partial<Fault>): Move =>
    move(cpuTo(from, v, { fault: { ...fault, ...patch } }));
  // RET_PF_RETRY, RET_PF_FIXED.
  const end = (from: State): Move =>
    move(work === null ? cpuTo(from, v, { in: "run", fault: null }) : pagePresent(w, from, v, work));
  // -EFAULT of kvm_handle_error_pfn(); kvm_arch_async_page_ready() ignores it.
  const fail = (): Move => (work === null ? move(cpuTo(s, v, { in: "left", fault: null })) : end(s));
  const isInvalidating = s.invalidating !== null && page >= s.invalidating.from && page < s.invalidating.to;
  const found = (): number => take(s.pages, page).pte ?? take(s.pages, page).frame;
  switch (stage) {
    case "begin": // mmu_invalidate_retry_gfn_unsafe()
      return isInvalidating ? end(s) : goOn(s, { stage: "nowait", seq: s.seq });
    case "nowait": {
      const got = getPage(w, s, page, "FOLL_NOWAIT");
      if (got !== "again" && got !== "efault") return goOn(got, { stage: "map", frame: found() });
      if (got === "efault" && w.machine.kvm === "final-efault") return fail();
      if (work !== null || !canDoAsync(w, s, v)) return goOn(s, { stage: "wait" });
      // kvm_find_async_pf_gfn()
      if (take(s.cpus, v).gfns.includes(page)) return end(cpuTo(s, v, { reqHalt: true }));
      return { mark: "async", to: setUpAsync(w, s, v, page) };
    }
    case "wait": {
      const got = getPage(w, s, page, "waits");
      if (got === "again" || got === "efault") return fail();
      return goOn(got, { stage: "map", frame: found() });
    }
    case "map": {
      const isStale = isInvalidating || s.seq !== seq;
      if (isStale && w.without !== "is_page_fault_stale") return end(s);
      return end({ ...s, pages: put(s.pages, page, { spte: frame }) });
    }
  }
}

/** kvm_vcpu_has_events(). */
function hasEvents(w: World, s: State, v: number): boolean {
  const { done, exception, irqReady, irqTimer } = take(s.cpus, v);
  if (done.length > 0 && w.without !== "async_pf.done in kvm_vcpu_has_events") return true;
  return exception !== null || ((irqReady || irqTimer) && context(w, s, v).interrupts);
}

/** vcpu_run(): vcpu_block(), or the requests that vcpu_enter_guest() looks at, in its order. */
function runTurn(w: World, s: State, v: number): Move | null {
  const { apfHalted, mpHalted, reqHalt, reqReady } = take(s.cpus, v);
  const isHalted = apfHalted || mpHalted;
  if (isHalted && !hasEvents(w, s, v)) return null;
  if (isHalted) return move(cpuTo(s, v, { apfHalted: false, mpHalted: false }));
  if (reqHalt) return move(cpuTo(s, v, { reqHalt: false, apfHalted: true }));
  return move(reqReady ? cpuTo(s, v, { reqReady: false, in: "ready" }) : cpuTo(s, v, { in: "guest" }));
}

/** kvm_check_async_pf_completion(), kvm_arch_can_dequeue_async_page_present(). */
function readyTurn(w: World, s: State, v: number): State {
  const { done, token } = take(s.cpus, v);
  const [work, ...rest] = done;
  const isTaken = apfEnabled(w) && token !== null && w.without !== "kvm_arch_can_dequeue_async_page_present";
  if (work === undefined || isTaken) return cpuTo(s, v, { in: "run" });
  const fault: Fault = { page: work.page, stage: "begin", seq: s.seq, frame: 0, work };
  return cpuTo(s, v, { in: "fault", done: rest, fault });
}

/** Into the guest's scheduler. No slice is shorter than an instruction: the timer is set anew. */
function yields(s: State, v: number): State {
  return cpuTo(s, v, { idle: true, irqTimer: false, ran: false });
}

/**
 * The guest's scheduler: any task that is ready, none left out for ever. The interrupt of page-ready goes back to user
 * mode by it (irqentry_exit_to_user_mode()), to the same task or not.
 */
function pickTurns(w: World, s: State, v: number): readonly Turn[] {
  const { in: where, idle, acking, current, ran } = take(s.cpus, v);
  if (where !== "guest") return [];
  if (acking) {
    const acked = cpuTo(s, v, { acking: false, in: "ready" });
    const kept: Turn = { actor: `cpu ${v}`, mark: null, to: acked };
    if (taskContext(w, s, v).cpl !== 3 || take(s.tasks, current).passedOver) return [kept];
    const to = yields(taskTo(acked, current, { passedOver: !ran }), v);
    return [kept, { actor: `cpu ${v}`, mark: null, to }];
  }
  if (!idle) return [];
  return s.tasks.flatMap(({ state }, t): readonly Turn[] => {
    if (state !== "ready" || take(w.program.tasks, t).cpu !== v) return [];
    return [{ actor: `${SCHEDULER} ${t}`, mark: null, to: cpuTo(s, v, { idle: false, current: t }) }];
  });
}

/** kvm_async_pf_task_wake(): one that is to be killed dies as soon as it no longer sleeps. */
function wake(w: World, s: State, v: number, token: number): State {
  const sleeper = s.tasks.findIndex((task, t) => take(w.program.tasks, t).cpu === v && task.token === token);
  if (sleeper < 0 || w.without === "kvm_async_pf_task_wake") return s;
  const { killPending } = take(s.tasks, sleeper);
  return taskTo(s, sleeper, { token: null, state: killPending ? "killed" : "ready" });
}

/** exc_page_fault() and __kvm_handle_async_pf(), then sysvec_kvm_asyncpf_interrupt(), a timer's handler, the idle loop. */
function guestTurn(w: World, s: State, v: number): Move | null {
  const cpu = take(s.cpus, v);
  const { cpl, interrupts } = context(w, s, v);
  if (cpu.exception !== null) {
    if (cpl === 0) return move({ ...s, guest: "panic" });
    const asleep = taskTo(s, cpu.current, { state: "asleep", token: cpu.exception });
    return move(yields(cpuTo(asleep, v, { exception: null }), v));
  }
  if (cpu.acking) return null;
  // KVM kicks the vCPU, or (if pageready_pending) waits for its next exit.
  if (cpu.reqReady) return move(cpuTo(s, v, { in: "run" }));
  if (cpu.irqReady && interrupts) {
    const woken = cpu.token === null ? s : wake(w, s, v, cpu.token);
    return move(cpuTo(woken, v, { irqReady: false, token: null, acking: true }));
  }
  if (cpu.irqTimer && interrupts) {
    const taken = cpuTo(s, v, { irqTimer: false });
    return move(cpl === 3 ? yields(taken, v) : taken);
  }
  if (!cpu.idle) return taskTurn(w, s, v, cpu.current);
  if (pickTurns(w, s, v).length > 0) return null;
  // HLT: kvm_emulate_halt(), or no exit at all.
  return w.machine.hltInGuest ? null : move(cpuTo(s, v, { mpHalted: true, in: "run" }));
}

/**
 * What the bytes of a frame are to the file. An access while truncate(2) is under way may count as before it. Loads and
 * stores of one page touch different bytes of it.
 */
function wordOf(s: State, { do: verb, page }: Access, frame: Frame): "value" | "zero" | "stale" {
  const isHeld = page < s.size && take(s.pages, page).frame === frame;
  if (!isHeld && s.host.phase === 0) return "stale";
  return verb === "store" || frame === 0 ? "value" : "zero";
}

/** A load or a store: by the second-stage page table, else the exit to KVM. */
function accessTurn(s: State, v: number, t: number, op: Access): State {
  const { pc, seen } = take(s.tasks, t);
  const { spte } = take(s.pages, op.page);
  if (spte === null) {
    const fault: Fault = { page: op.page, stage: "begin", seq: s.seq, frame: 0, work: null };
    return cpuTo(taskTo(s, t, { began: true }), v, { in: "fault", fault });
  }
  return taskTo(s, t, { pc: pc + 1, began: false, seen: { ...seen, [pc]: wordOf(s, op, spte) } });
}

function taskTurn(w: World, before: State, v: number, t: number): Move {
  const s = taskTo(cpuTo(before, v, { ran: true }), t, { passedOver: false });
  const { pc, killPending } = take(s.tasks, t);
  const op = take(w.program.tasks, t).ops[pc];
  if (killPending) return move(yields(taskTo(s, t, { state: "killed" }), v));
  const next = (from: State): Move => move(taskTo(from, t, { pc: pc + 1 }));
  if (op === undefined) return move(yields(taskTo(s, t, { state: "ended" }), v));
  switch (op.do) {
    case "load":
    case "store":
      return move(accessTurn(s, v, t, op));
    case "signal":
      return next(raise(s, op.name));
    case "await":
      return s.signals.includes(op.name) ? next(s) : move(yields(s, v));
    case "count":
      return { mark: `count ${t}`, to: yields(s, v) };
  }
}

function cpuTurn(w: World, s: State, v: number): Move | null {
  const cpu = take(s.cpus, v);
  switch (cpu.in) {
    case "left":
      return null;
    case "run":
      return runTurn(w, s, v);
    case "ready":
      return move(readyTurn(w, s, v));
    case "fault":
      return cpu.fault === null ? null : faultTurn(w, s, v, cpu.fault);
    case "guest":
      return guestTurn(w, s, v);
  }
}

/** async_pf_execute(): what get_user_pages_remote() returns is dropped. */
function workTurns(w: World, s: State, v: number): readonly Turn[] {
  const { queue, done } = take(s.cpus, v);
  return queue.map((work) => {
    const got = getPage(w, s, work.page, "waits");
    const to = cpuTo(got === "again" || got === "efault" ? s : got, v, {
      queue: queue.filter((other) => other !== work),
      done: [...done, work],
      // kvm_arch_async_page_present_queued(), for the first one.
      ...(done.length === 0 ? { reqReady: true } : {}),
    });
    return { actor: `work ${v}.${work.token}`, mark: null, to };
  });
}

/** The pages from `from` to `to`, changed. */
function each(s: State, from: number, to: number, patch: (page: Page, i: number) => Partial<Page>): State {
  const pages = s.pages.map((page, i) => (i >= from && i < to ? { ...page, ...patch(page, i) } : page));
  return { ...s, pages };
}

/**
 * truncate_setsize(), truncate_pagecache(), truncate_pagecache_range(): unmap_mapping_range() between
 * kvm_mmu_notifier_invalidate_range_start() and _end(), then truncate_inode_pages_range(), which unmaps what has been
 * mapped again (truncate_cleanup_folio()) under the lock of the folio.
 */
function dropTurn(w: World, s: State, phase: number, from: number, to: number): State {
  const spte = w.without === "kvm_mmu_unmap_gfn_range" ? {} : { spte: null };
  switch (phase) {
    case 1:
      return { ...each(s, from, to, () => spte), invalidating: { from, to } };
    case 2:
      return each(s, from, to, () => ({ pte: null }));
    case 3:
      return { ...s, invalidating: null, seq: s.seq + 1 };
    default: {
      const dropped = each(s, from, to, ({ at, frame }, i) => ({
        pte: null,
        ...spte,
        frame: frame + 1,
        at: w.program.pages[i] ?? at,
      }));
      return { ...dropped, seq: s.seq + 1 };
    }
  }
}

const LAST_PHASE = 4;

function hostTurn(w: World, s: State): State | null {
  const { pc, phase } = s.host;
  const op = w.program.host[pc];
  const next = { pc: pc + 1, phase: 0 };
  if (op === undefined) return null;
  if (op.do === "signal") return { ...raise(s, op.name), host: next };
  if (op.do === "await") return s.signals.includes(op.name) ? { ...s, host: next } : null;
  if (op.do === "truncate" && phase === 0) {
    // i_size_write()
    return { ...s, size: op.pages, host: op.pages >= s.size ? next : { pc, phase: 1 } };
  }
  const [from, to] = op.do === "punch" ? [op.page, op.page + 1] : [op.pages, s.pages.length];
  const now = Math.max(phase, 1);
  return { ...dropTurn(w, s, now, from, to), host: now === LAST_PHASE ? next : { pc, phase: now + 1 } };
}

/** SIGKILL: one that sleeps in TASK_UNINTERRUPTIBLE takes it when it is woken; one that runs, at the next interrupt. */
function killTurn({ program }: World, s: State): readonly Turn[] {
  const t = program.mayKill;
  const task = t === undefined ? undefined : s.tasks[t];
  if (t === undefined || task === undefined || task.killPending) return [];
  if (task.state === "ended" || task.state === "killed") return [];
  return [{ actor: UNFAIR, mark: null, to: taskTo(s, t, { killPending: true }) }];
}

/** Everything that can come next. */
export function turns(w: World, s: State): readonly Turn[] {
  const found: Turn[] = [];
  const host = hostTurn(w, s);
  if (host !== null) found.push({ actor: "host", mark: null, to: host });
  if (s.vm === "stopped" || s.guest === "panic") return found;
  if (s.cpus.some((cpu) => cpu.in === "left"))
    found.push({ actor: "vmm", mark: null, to: { ...s, vm: "stopped" } });
  found.push(...killTurn(w, s));
  s.cpus.forEach((cpu, v) => {
    const turn = cpuTurn(w, s, v);
    if (turn !== null) found.push({ actor: `cpu ${v}`, ...turn });
    found.push(...pickTurns(w, s, v), ...workTurns(w, s, v));
    if (w.machine.timer && cpu.ran && !cpu.irqTimer && cpu.in !== "left") {
      found.push({ actor: `timer ${v}`, mark: null, to: cpuTo(s, v, { irqTimer: true, ran: false }) });
    }
  });
  return found;
}
