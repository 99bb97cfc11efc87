/**
 * The small protocol: one vCPU, a few guest tasks, asynchronous page faults, truncation and growth by the host.
 * The twin of fixtures/spin/apf.pml, step by step and variable by variable, so that SPIN and the explorer must agree
 * on the number of distinct states and on every verdict. It is also the benchmark; the model for use is `model/`.
 *
 * Written by hand instead of as a table of closures, because here speed is what is measured.
 */
import type { EventSink, Model } from "../explore/model.ts";
import { Layout } from "../state/layout.ts";

export type SmallProtocol = {
  readonly pages: number;
  readonly tasks: number;
  /** Accesses that each task makes, to pages of its choice. */
  readonly steps: number;
  /** Changes of the file's size. */
  readonly hops: number;
  /** 0: the worker's failure is dropped. 1: it is recorded, and the next fault on the page is synchronous. */
  readonly fix: 0 | 1;
  /** Leave is_page_fault_stale() out. */
  readonly withoutStaleCheck?: boolean;
};

const AT = { guest: 0, exit: 1, lookup: 2, async: 3, map: 4, sync: 5 } as const;

export type SmallModel = {
  readonly model: Model;
  /** A page is mapped that the file does not have, with no truncation under way. */
  readonly unsafe: (state: Uint8Array) => boolean;
  readonly finished: (state: Uint8Array) => boolean;
};

type Offsets = Readonly<Record<string, number>> & {
  readonly size: number;
  readonly hops: number;
  readonly sub: number;
  readonly invalidating: number;
  readonly seq: number;
  readonly ept: number;
  readonly cache: number;
  readonly bad: number;
  readonly at: number;
  readonly cur: number;
  readonly ran: number;
  readonly page: number;
  readonly snap: number;
  readonly token: number;
  readonly stopped: number;
  readonly sleeping: number;
  readonly left: number;
  readonly work: number;
  readonly wpage: number;
};

function offsetsOf(layout: Layout, p: SmallProtocol): Offsets {
  const one = (name: string): number => layout.field(name);
  return {
    size: one("size"),
    hops: one("hops"),
    sub: one("sub"),
    invalidating: one("invalidating"),
    seq: one("seq"),
    at: one("at"),
    cur: one("cur"),
    ran: one("ran"),
    page: one("page"),
    snap: one("snap"),
    token: one("token"),
    stopped: one("stopped"),
    ept: layout.field("ept", p.pages),
    cache: layout.field("cache", p.pages),
    bad: layout.field("bad", p.pages),
    sleeping: layout.field("sleeping", p.tasks),
    left: layout.field("left", p.tasks),
    work: layout.field("work", p.tasks),
    wpage: layout.field("wpage", p.tasks),
  };
}

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** In the order of the options in apf.pml. */
function actionNames(p: SmallProtocol): string[] {
  const tasks = range(p.tasks);
  const pages = range(p.pages);
  return [
    ...pages.map((k) => `host: truncates to ${k} pages`),
    "host: extends the file",
    "host: notifier start, zaps the guest's mappings",
    "host: notifier end",
    "host: drops the page cache",
    ...pages.map((k) => `vcpu: the current task touches page ${k}`),
    ...tasks.map((t) => `vcpu: the guest schedules task ${t}`),
    "vcpu: snapshot",
    "vcpu: lookup, NOWAIT",
    "vcpu: async set-up, the task sleeps",
    "vcpu: maps",
    "vcpu: synchronous lookup",
    ...tasks.map((t) => `vcpu: page ready for task ${t}`),
    "vcpu: page-ready interrupt wakes the task",
    ...tasks.map((t) => `worker: fetches the page of task ${t}`),
  ];
}

function enabledOf(p: SmallProtocol, o: Offsets): Model["enabled"] {
  const { pages, tasks } = p;
  const schedule = pages + 4 + pages;
  const path = schedule + tasks;
  const ready = path + 5;
  const worker = ready + tasks + 1;
  const vcpuIdle = (s: Uint8Array, out: Uint16Array, from: number): number => {
    let count = from;
    const cur = s[o.cur] as number;
    const token = s[o.token] as number;
    if (cur !== tasks && token === 0) for (let k = 0; k < pages; k++) out[count++] = pages + 4 + k;
    for (let t = 0; t < tasks; t++) {
      if (cur === t || (cur !== tasks && s[o.ran] === 0)) continue;
      if (s[o.sleeping + t] === 0 && (s[o.left + t] as number) > 0) out[count++] = schedule + t;
    }
    if (token > 0) out[count++] = ready + tasks;
    else for (let t = 0; t < tasks; t++) if ((s[o.work + t] as number) >= 2) out[count++] = ready + t;
    return count;
  };
  return (s, out) => {
    let count = 0;
    const sub = s[o.sub] as number;
    if (sub !== 0) {
      out[count++] = pages + sub;
    } else if ((s[o.hops] as number) > 0) {
      const size = s[o.size] as number;
      for (let k = 0; k < size; k++) out[count++] = k;
      if (size < pages) out[count++] = pages;
    }
    const at = s[o.at] as number;
    if (at !== AT.guest) out[count++] = path + at - 1;
    else if (s[o.stopped] === 0) count = vcpuIdle(s, out, count);
    for (let t = 0; t < tasks; t++) if (s[o.work + t] === 1) out[count++] = worker + t;
    return count;
  };
}

/** A vCPU's steps on KVM's side of the exit; mirrors the options `at == 1` to `at == 5`. */
function pathStep(p: SmallProtocol, o: Offsets, s: Uint8Array): void {
  const page = s[o.page] as number;
  const size = s[o.size] as number;
  switch (s[o.at]) {
    case AT.exit:
      s[o.snap] = s[o.seq] as number;
      s[o.at] = AT.lookup;
      return;
    case AT.lookup:
      s[o.at] = page < size && s[o.cache + page] === 1 ? AT.map : AT.async;
      return;
    case AT.async: {
      s[o.snap] = 0;
      if (s[o.bad + page] === 1) {
        s[o.at] = AT.sync;
        return;
      }
      const cur = s[o.cur] as number;
      s[o.work + cur] = 1;
      s[o.wpage + cur] = page;
      s[o.sleeping + cur] = 1;
      s[o.cur] = p.tasks;
      s[o.ran] = 0;
      break;
    }
    case AT.map:
      if (p.withoutStaleCheck === true || (s[o.invalidating] === 0 && s[o.seq] === s[o.snap]))
        s[o.ept + page] = 1;
      s[o.snap] = 0;
      break;
    default:
      s[o.bad + page] = 0;
      if (page < size) s[o.cache + page] = 1;
      else s[o.stopped] = 1;
  }
  s[o.page] = 0;
  s[o.at] = AT.guest;
}

function access(p: SmallProtocol, o: Offsets, s: Uint8Array, page: number): void {
  s[o.ran] = 1;
  if (s[o.ept + page] !== 1) {
    s[o.page] = page;
    s[o.at] = AT.exit;
    return;
  }
  const cur = s[o.cur] as number;
  const left = (s[o.left + cur] as number) - 1;
  s[o.left + cur] = left;
  if (left > 0) return;
  s[o.cur] = p.tasks;
  s[o.ran] = 0;
}

function pageReady(p: SmallProtocol, o: Offsets, s: Uint8Array, t: number): void {
  const page = s[o.wpage + t] as number;
  const failed = s[o.work + t] === 3;
  s[o.token] = t + 1;
  const there = page < (s[o.size] as number) && s[o.cache + page] === 1;
  if (!failed && s[o.invalidating] === 0 && there) s[o.ept + page] = 1;
  if (failed && p.fix === 1) s[o.bad + page] = 1;
  s[o.work + t] = 0;
  s[o.wpage + t] = 0;
}

function hostStep(p: SmallProtocol, o: Offsets, s: Uint8Array, action: number): void {
  if (action <= p.pages) {
    s[o.size] = action;
    s[o.hops] = (s[o.hops] as number) - 1;
    if (action < p.pages) s[o.sub] = 1;
    return;
  }
  const size = s[o.size] as number;
  switch (action - p.pages) {
    case 1:
      s[o.invalidating] = 1;
      for (let k = size; k < p.pages; k++) s[o.ept + k] = 0;
      s[o.sub] = 2;
      return;
    case 2:
      s[o.seq] = ((s[o.seq] as number) + 1) & 7;
      s[o.invalidating] = 0;
      s[o.sub] = 3;
      return;
    default:
      for (let k = size; k < p.pages; k++) s[o.cache + k] = 0;
      s[o.sub] = 0;
  }
}

function nextOf(p: SmallProtocol, o: Offsets, names: readonly string[]): Model["next"] {
  const { pages, tasks } = p;
  const touch = pages + 4;
  const schedule = touch + pages;
  const path = schedule + tasks;
  const ready = path + 5;
  const worker = ready + tasks + 1;
  const take = (s: Uint8Array, action: number): void => {
    if (action < touch) hostStep(p, o, s, action);
    else if (action < schedule) access(p, o, s, action - touch);
    else if (action < path) {
      s[o.cur] = action - schedule;
      s[o.ran] = 0;
    } else if (action < ready) pathStep(p, o, s);
    else if (action < ready + tasks) pageReady(p, o, s, action - ready);
    else if (action < worker) {
      s[o.sleeping + (s[o.token] as number) - 1] = 0;
      s[o.token] = 0;
    } else {
      const page = s[o.wpage + action - worker] as number;
      const there = page < (s[o.size] as number);
      if (there) s[o.cache + page] = 1;
      s[o.work + action - worker] = there ? 2 : 3;
    }
  };
  return (s: Uint8Array, action: number, events: EventSink | null): void => {
    take(s, action);
    if (events === null) return;
    const [actor = "?", words = "?"] = (names[action] ?? "").split(": ");
    events({ kind: "step", from: actor, to: actor, detail: words });
  };
}

export function smallProtocol(p: SmallProtocol): SmallModel {
  if (p.pages < 1 || p.tasks < 1 || p.steps < 1)
    throw new RangeError("pages, tasks and steps are at least 1");
  const layout = new Layout();
  const o = offsetsOf(layout, p);
  const names = actionNames(p);
  const actors = ["host", "vcpu", "worker"];
  const model: Model = {
    name: `small protocol, ${p.pages} pages, ${p.tasks} tasks, ${p.steps} steps, ${p.hops} hops, fix ${p.fix}`,
    layout,
    stateBytes: layout.stateBytes,
    actionNames: names,
    actionKinds: names.map(() => null),
    actorOf: Uint8Array.from(names, (name) => actors.indexOf(name.split(":")[0] ?? "")),
    actors,
    fairActors: Int32Array.of(0b111),
    stronglyFairActors: Int32Array.of(0),
    localActions: new Uint8Array(names.length),
    initial: (s) => {
      s.fill(0);
      s[o.size] = p.pages;
      s[o.hops] = p.hops;
      s[o.cur] = p.tasks;
      s.fill(p.steps, o.left, o.left + p.tasks);
    },
    enabled: enabledOf(p, o),
    next: nextOf(p, o, names),
  };
  const mappedBeyondEnd = (s: Uint8Array): boolean =>
    s.subarray(o.ept + (s[o.size] as number), o.ept + p.pages).some((mapped) => mapped === 1);
  return {
    model,
    unsafe: (s) => s[o.sub] === 0 && mappedBeyondEnd(s),
    finished: (s) => s[o.stopped] === 1 || s.subarray(o.left, o.left + p.tasks).every((left) => left === 0),
  };
}
