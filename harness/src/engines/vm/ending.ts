/**
 * When a case ends, as one pure function. A case ends when the guest finishes, when the VM has stopped, or a vCPU loops or
 * waits for ever, and no actor can recover it, or at the time limit.
 *
 * `step` takes one event and returns its effects. It reads no clock, no guest memory and starts no timer:
 * case-runner.ts performs the effects and delivers the time as an event. The states of the VM (`history`) are kept
 * here, because the last state decides.
 *
 *     last state   an actor awaits `stuck`           no actor does
 *     stopped      when the VMM's actors are done     at once
 *     looping,     REPAIR_GRACE_MS after the host     when every other task stands, falls or waits,
 *     waiting      and the VMM's actors are done      or after `othersMs`
 *
 * On a busy machine no time proves anything: a vCPU whose thread waits for a processor neither leaves its loop nor lets
 * its tasks get on. So whatever a vCPU would do is waited for in its own time, `attendedMs` (../attendance.ts): on a
 * processor, or asleep. Only the limit is by the clock, and what it ends is inconclusive.
 *
 * A task that sleeps in the guest for a page that does not come ends the case as a vCPU does that waits, and is no
 * trouble of the VM.
 */
import type { EndReason, VcpuMessage } from "../../../../vmm/src/index.ts";
import type { VmState } from "./messages.ts";

/** A loop ends by itself once the host has repaired the file: this long is allowed for it, from the last repair. */
export const REPAIR_GRACE_MS = 1000;
/**
 * After the proof of a loop that no actor ends: the other tasks get to where they stand or fall. They do within
 * milliseconds on an idle machine; a task that has not by then is starved. Of the time in which each vCPU was attended to,
 * and multiplied by the machine's slowness.
 */
export const OTHERS_MS = 3000;
export const OTHERS_POLL_MS = 5;
/**
 * After a grace: a loop or a wait is judged once each vCPU was attended to for so long, more than one tick of its thread,
 * which reports a loop that is over. Multiplied by the machine's slowness.
 */
export const SETTLE_MS = 50;

/** Constants of the case. */
export type EndingRules = {
  /** An actor waits for the signal `stuck`, so trouble alone does not end the case. */
  readonly stuckIsAwaited: boolean;
  /**
   * The window's owner learns of a truncation after the fact (fence, notify) and then ends the loop, on a busy machine
   * later than the proof takes. A loop counts only if it still goes on after REPAIR_GRACE_MS.
   */
  readonly endsLoops: boolean;
  /** OTHERS_MS and SETTLE_MS on this machine. */
  readonly othersMs: number;
  readonly settleMs: number;
};

type TasksNews = Extract<News, { type: "tasks" }>;
type Looping = Extract<VmState, { kind: "looping" }>;

/** A timer, and the rule that it triggers. */
type Alarm = { readonly atMs: number } & (
  | { readonly rule: "limit" }
  | ({ readonly rule: "grace" } & Settling)
  | { readonly rule: "others" }
  | ({ readonly rule: "still-looping"; readonly cpu: number; readonly state: Looping } & Settling)
);

/** `settledFromMs`: the grace is over since the vCPUs were attended to for so long; null: it goes on. */
type Settling = { readonly settledFromMs: number | null };

export type Ending = {
  readonly rules: EndingRules;
  /** The states that the VM went through; empty while it has only run. */
  readonly history: readonly VmState[];
  /** KVM_RUN gave up, and no actor has resumed it. */
  readonly isPaused: boolean;
  readonly vmmActorsAreDone: boolean;
  readonly hostIsSettled: boolean;
  readonly outOfTime: boolean;
  /** vCPUs in an endless loop, or that wait for ever. */
  readonly looping: ReadonlySet<number>;
  /** A task of the guest sleeps for ever. */
  readonly hasSleeper: boolean;
  /** Why the VM ended; null while it runs. */
  readonly end: EndReason | null;
  /** Since then the other tasks are waited for; null: they are not. `sinceMs`: null until it is first known. */
  readonly others: { readonly sinceMs: number | null } | null;
  readonly alarms: readonly Alarm[];
  /** `stop` was decided. What a vCPU comes out of from then on it does for that: what waits for a page is given one, or an error. */
  readonly isOver: boolean;
};

export type News =
  /** The vCPUs have started. `limitMs`: the moment at which the case's time is over. */
  | { readonly type: "started"; readonly limitMs: number }
  /** As the vCPUs' threads report it. */
  | Extract<VcpuMessage, { type: "stopped" | "looping" | "waiting" | "unstuck" | "ended" }>
  /** A VMM actor runs the VM again. */
  | { readonly type: "resume"; readonly actor: string }
  | { readonly type: "vmm-actors-done" }
  /** Every host actor has done its last step. */
  | { readonly type: "host-settled" }
  /** The answer to `look-at-tasks`: is a task still on its way (`isOnItsWay`)? */
  | { readonly type: "tasks"; readonly anyOnItsWay: boolean; readonly attendedMs: number }
  /** Time has passed: `wakeAtMs` has come. `attendedMs`: for how long each vCPU was attended to so far, the least of them. */
  | { readonly type: "time"; readonly attendedMs: number };

export type Effect =
  | { readonly kind: "raise-stuck" }
  | { readonly kind: "look-at-tasks" }
  | { readonly kind: "resume"; readonly actor: string }
  | { readonly kind: "stop" };

export type Step = { readonly state: Ending; readonly effects: readonly Effect[] };

export function beginning(rules: EndingRules): Ending {
  return {
    rules,
    history: [],
    isPaused: false,
    vmmActorsAreDone: false,
    hostIsSettled: false,
    outOfTime: false,
    looping: new Set(),
    hasSleeper: false,
    end: null,
    others: null,
    alarms: [],
    isOver: false,
  };
}

/** When `time` is to be brought; null: never. */
export function wakeAtMs({ alarms }: Ending): number | null {
  return alarms.length === 0 ? null : Math.min(...alarms.map(({ atMs }) => atMs));
}

/** Is a loop about to be judged? What ends loops has to know by then what has happened to the file. */
export function judgesLoop({ alarms }: Ending, nowMs: number): boolean {
  return alarms.some(
    (alarm) => alarm.rule === "still-looping" && alarm.settledFromMs === null && alarm.atMs <= nowMs,
  );
}

const still = (state: Ending): Step => ({ state, effects: [] });
const stop = (state: Ending): Step => ({ state: { ...state, isOver: true }, effects: [{ kind: "stop" }] });

/** Handles one event (`News`). The effects are to be performed in their order. */
export function step(state: Ending, news: News, nowMs: number): Step {
  switch (news.type) {
    case "started":
      return still(withAlarm(state, { atMs: news.limitMs, rule: "limit" }));
    case "stopped": {
      const { exit, place } = news;
      return trouble({ ...state, isPaused: true }, { kind: "stopped", exit, place }, nowMs);
    }
    case "looping":
      return loops(state, news, nowMs);
    case "waiting":
      return waits(state, news, nowMs);
    case "unstuck": {
      if (state.isOver) return still(state);
      const looping = new Set([...state.looping].filter((cpu) => cpu !== news.cpu));
      const now = { ...state, looping, hasSleeper: false };
      return still(looping.size === 0 ? recovered(now) : now);
    }
    case "ended":
      return still(ended(state, news.why));
    case "resume":
      if (!state.isPaused) return still(state);
      return { state: { ...state, isPaused: false }, effects: [{ kind: "resume", actor: news.actor }] };
    case "vmm-actors-done":
      return considered({ ...state, vmmActorsAreDone: true }, nowMs);
    case "host-settled":
      return considered({ ...state, hostIsSettled: true }, nowMs);
    case "tasks":
      return lookedAt(state, news, nowMs);
    case "time":
      return due(state, news.attendedMs, nowMs);
  }
}

function loops(state: Ending, news: Extract<News, { type: "looping" }>, nowMs: number): Step {
  const { cpu, proof, faultsPerSecond, place } = news;
  const now = { ...state, looping: new Set([...state.looping, cpu]) };
  const loop: Looping = { kind: "looping", proof, faultsPerSecond, place };
  if (!state.rules.endsLoops) return trouble(now, loop, nowMs);
  const atMs = nowMs + REPAIR_GRACE_MS;
  return still(withAlarm(now, { atMs, rule: "still-looping", cpu, state: loop, settledFromMs: null }));
}

function waits(
  state: Ending,
  { cpu, in: where, place }: Extract<News, { type: "waiting" }>,
  nowMs: number,
): Step {
  if (where === "guest") return considered({ ...state, hasSleeper: true }, nowMs);
  const now = { ...state, looping: new Set([...state.looping, cpu]) };
  return trouble(now, { kind: "waiting", place }, nowMs);
}

/** The first vCPU that ends by itself gives the reason for the VM's end; the others are then stopped. */
function ended(state: Ending, why: EndReason): Ending {
  const isOurs = state.end === null || state.end.kind === "stopped-from-outside";
  const now = isOurs ? { ...state, end: why } : state;
  if (why.kind === "vmm-killed" && isOurs) {
    return { ...now, history: [...now.history, { kind: "killed", signal: why.signal }] };
  }
  return why.kind === "finished" ? recovered(now) : now;
}

function lastKind(state: Ending): VmState["kind"] {
  return state.history.at(-1)?.kind ?? "running";
}

/** The guest runs again, or has finished. Said also where there was no trouble. */
function recovered(state: Ending): Ending {
  if (state.history.at(-1)?.kind === "running") return state;
  return { ...state, history: [...state.history, { kind: "running" }] };
}

/** The VM has stopped, loops or waits: raises `stuck` for the actors, and ends the case if none of them can recover it. */
function trouble(state: Ending, to: VmState, nowMs: number): Step {
  // Two vCPUs in a loop are one VM in a loop. Where one loops and one waits, a core burns: that is the graver state.
  const isStuck = lastKind(state) === "looping" || lastKind(state) === "waiting";
  const isKnown =
    (to.kind === "waiting" && isStuck) || (to.kind === "looping" && lastKind(state) === "looping");
  const now = isKnown ? state : { ...state, history: [...state.history, to] };
  const after = considered(now, nowMs);
  return { state: after.state, effects: [{ kind: "raise-stuck" }, ...after.effects] };
}

/** Ends the case if the VM is in trouble and no actor is left that could help it. */
function considered(state: Ending, nowMs: number): Step {
  const { rules, vmmActorsAreDone, hostIsSettled } = state;
  const isLeftToItself = !rules.stuckIsAwaited || vmmActorsAreDone;
  switch (lastKind(state)) {
    case "running":
      return state.hasSleeper && !rules.stuckIsAwaited ? awaitOthers(state) : still(state);
    case "killed":
      return still(state);
    case "stopped":
      return isLeftToItself && state.isPaused ? stop(state) : still(state);
    case "looping":
    case "waiting":
      if (!rules.stuckIsAwaited) return awaitOthers(state);
      if (!hostIsSettled || !isLeftToItself) return still(state);
      return still(withAlarm(state, { atMs: nowMs + REPAIR_GRACE_MS, rule: "grace", settledFromMs: null }));
  }
}

function awaitOthers(state: Ending): Step {
  const others = state.others ?? { sinceMs: null };
  return { state: { ...state, others }, effects: [{ kind: "look-at-tasks" }] };
}

/** Once the vCPUs have ended, the guest's memory is about to go: no more looking at its tasks. */
function lookedAt(state: Ending, { anyOnItsWay, attendedMs }: TasksNews, nowMs: number): Step {
  if (state.others === null) return still(state);
  const sinceMs = state.others.sinceMs ?? attendedMs;
  if (state.end === null && anyOnItsWay && attendedMs - sinceMs < state.rules.othersMs) {
    const others = { sinceMs };
    return still(withAlarm({ ...state, others }, { atMs: nowMs + OTHERS_POLL_MS, rule: "others" }));
  }
  return stopUnlessWell({ ...state, others: null });
}

function stopUnlessWell(state: Ending): Step {
  return lastKind(state) === "running" && !state.hasSleeper ? still(state) : stop(state);
}

/** Every alarm whose moment has come. */
function due(state: Ending, attendedMs: number, nowMs: number): Step {
  let now: Ending = { ...state, alarms: state.alarms.filter(({ atMs }) => atMs > nowMs) };
  const effects: Effect[] = [];
  for (const alarm of state.alarms.filter(({ atMs }) => atMs <= nowMs)) {
    const after = rung(now, alarm, { attendedMs, nowMs });
    now = after.state;
    effects.push(...after.effects);
  }
  return { state: now, effects };
}

type Moment = { readonly attendedMs: number; readonly nowMs: number };

function rung(state: Ending, alarm: Alarm, moment: Moment): Step {
  switch (alarm.rule) {
    case "limit":
      return stop({ ...state, outOfTime: true });
    case "grace":
      if (stopUnlessWell(state).effects.length === 0) return still(state);
      return settling(state, alarm, moment) ?? stopUnlessWell(state);
    case "others":
      return state.others === null ? still(state) : { state, effects: [{ kind: "look-at-tasks" }] };
    case "still-looping":
      if (!state.looping.has(alarm.cpu)) return still(state);
      return settling(state, alarm, moment) ?? trouble(state, alarm.state, moment.nowMs);
  }
}

/** The grace is over: the vCPUs get as much time of their own as they need to come out of it. null: they had it. */
function settling(
  state: Ending,
  alarm: Extract<Alarm, Settling>,
  { attendedMs, nowMs }: Moment,
): Step | null {
  const settledFromMs = alarm.settledFromMs ?? attendedMs;
  if (attendedMs - settledFromMs >= state.rules.settleMs) return null;
  return still(withAlarm(state, { ...alarm, atMs: nowMs + OTHERS_POLL_MS, settledFromMs }));
}

function withAlarm(state: Ending, alarm: Alarm): Ending {
  return { ...state, alarms: [...state.alarms, alarm] };
}
