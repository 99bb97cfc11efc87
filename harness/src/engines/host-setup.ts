/**
 * Everything of a case except the guest, shared by the engines that run for real: the backing file, the FUSE mount,
 * the host actors (a process each), and the signals between all participants. An engine adds its own participant
 * (a VM, a process that maps the file) with `raise` and `onSignal`.
 *
 * Order of use: `openHostSetup`; map the file; `begin()`, from when the host acts; `settled()`; read the results; `close()`.
 * Signals stay raised, so that none can be missed; raising one again does nothing.
 */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Access,
  accessesOf,
  actionsOf,
  actOf,
  cacheTimeoutMs,
  changesServer,
  type EventKind,
  guestActors,
  type HostAction,
  type HostActor,
  type HostResult,
  hostActors,
  isIoAnswered,
  opensEarly,
  type RunResult,
  type Scenario,
  type ServerChange,
  type TraceEvent,
  type Transport,
  usesMount,
} from "../../../language/src/index.ts";
import {
  copyFrom,
  fileSystemOf,
  lookAtThread,
  MAP_SHARED,
  mmap,
  munmap,
  PAGE_SIZE,
  PROT_READ,
  residentPages,
} from "../../../sys/src/index.ts";
import type { CaseContext } from "../engine.ts";
import { errorText } from "../error-text.ts";
import { unmountBelow } from "../run/sweep.ts";
import { type Backing, createBacking } from "./backing.ts";
import { exitText } from "./child.ts";
import { ChildPool, type PooledChild } from "./child-pool.ts";
import type { HostActorInbound, HostActorOutbound } from "./host-actor.ts";
import { heldUpText, hostResultOf } from "./host-step.ts";
import { BusyError, type FuseMount, openMount, READY_BOUND_MS } from "./mount.ts";

/**
 * A host step that took longer was held up by something. Far above what a busy machine needs, far below any lease; where
 * the machine is emulated, times its slowness.
 */
export const HOST_DELAY_BOUND_MS = 1000;

const SETTLE_POLL_MS = 5;
const PREPARE_BOUND_MS = 5000;

export type SignalListener = (name: string, from: string) => void;

export interface HostSetup {
  /** The file to map. */
  readonly filePath: string;
  /** The folder that it lies in. */
  readonly sourceDirectory: string;
  /** `ext4`, `tmpfs`, `fuse.daxfault` .. of the file. */
  readonly fileSystem: string;
  /** The mount that is mapped, or that host actors use; null if there is none. */
  readonly mountpoint: string | null;
  /** For the attestation. */
  readonly transport: Transport | null;
  /** Milliseconds since the case began. */
  nowMs(): number;
  /**
   * Lets the host actors start. Call once, when the file is mapped.
   * @param filePath what the actors that reach the file itself act on, if not on the file: a sealed copy
   */
  begin(filePath?: string): void;
  /** The host setup's own descriptor of the file, open for reading and writing: for a caller that must not open it again. */
  readonly fileDescriptor: number;
  /** Raises a signal: every host actor and every listener gets it. */
  raise(name: string, from: string): void;
  isRaised(name: string): boolean;
  /** Called for each signal, those raised before included. Returns how to stop. */
  onSignal(listener: SignalListener): () => void;
  /**
   * The file's content now at `fileOffset`, zero-filled behind its end: for `classifyAccess`. Follows the inode that was
   * mapped, not its name. `written`: the guest has changed it, which the server of a mount need not know yet.
   */
  readFile(fileOffset: bigint, lengthBytes: number, options?: { readonly written: boolean }): Uint8Array;
  /** The size now of the inode that was mapped, on the host. */
  fileSize(): bigint;
  /** True once every host actor has done its last step; false if that takes longer than `boundMs` or the run is aborted. */
  settled(boundMs: number): Promise<boolean>;
  /** One sentence if a host actor or the file server died or failed in a way that is no observation; null if all is well. */
  failure(): Promise<string | null>;
  /**
   * One sentence if the machine was too busy to tell whether a host step was held up, or still is; null if that is known.
   * At the end of the case.
   */
  heldUp(): Promise<string | null>;
  /** How long the server of the mount has waited for a processor since `begin`; 0 without one, or while a scenario has it stopped. */
  serverHeldUpMs(): number;
  /** By actor and label, complete: steps that never began are `not-reached`. */
  hostSteps(): Record<string, Record<string, HostResult>>;
  /** Ends the server of the mount at once: what waits for an answer of it gets an error. */
  endServer(): void;
  /** Adds to the trace; `atMs` is now. */
  trace(event: {
    readonly kind: EventKind;
    readonly actor: string;
    readonly detail: string;
    readonly gpa?: bigint;
    readonly tookMs?: number;
  }): void;
  events(): readonly TraceEvent[];
  /** Events by kind. */
  counts(): Partial<Record<EventKind, number>>;
  /** Ends the host actors and the server, takes the mounts away. Files go with the case's folder. */
  close(): Promise<void>;
}

/** The part of the case's context that a host setup needs. */
export type HostSetupContext = Pick<
  CaseContext,
  "directory" | "signal" | "onEvent" | "slowness" | "timeoutMs"
>;

export type HostSetupOptions = {
  /** The transport of a mount that only host actors use; devfuse by default. */
  readonly transport?: Transport;
  /** The FUSE server's program; another one in tests. */
  readonly serverPath?: string;
  /** The server grants leases there: it is started whether an actor uses its mount or not. */
  readonly leaseSocket?: string;
};

/** All accesses of all guest actors as not reached: what an engine starts from. */
export function notReached(scenario: Scenario): Record<string, Record<string, Access>> {
  const result: Record<string, Record<string, Access>> = {};
  for (const [name, actor] of guestActors(scenario)) {
    const labels: Record<string, Access> = {};
    for (const { label } of accessesOf(actor)) labels[label] = { kind: "not-reached" };
    result[name] = labels;
  }
  return result;
}

/**
 * Errors of close(2) of a file whose server has gone, which are ignored: there is no answer to FLUSH, or pages could not
 * be written back, which the worker of an async page fault makes dirty even for a load (FOLL_WRITE in
 * async_pf_execute(), then fuse_flush()). The descriptor is closed all the same.
 */
const serverGone: readonly (string | undefined)[] = ["ENOTCONN", "EIO"];

function closeClient(fd: number): void {
  try {
    closeSync(fd);
  } catch (error) {
    if (!serverGone.includes((error as NodeJS.ErrnoException).code)) throw error;
  }
}

/**
 * What the client of a mount holds of its file: what the guest has written, which the server need not know yet. null: a page
 * of it is not there, so that what was written went to the server, or was not.
 *
 * By a mapping, and of pages that are in memory: no request is made. read(2) asks for the attributes first, and where the
 * server has other ones all pages of the file are dropped, which waits for a page whose READ is not answered
 * (fuse_change_attributes(), fs/fuse/inode.c).
 */
function heldBytes(fd: number, fileOffset: bigint, lengthBytes: number): Uint8Array | null {
  const into = Number(fileOffset % BigInt(PAGE_SIZE));
  const mappedBytes = Math.ceil((into + lengthBytes) / PAGE_SIZE) * PAGE_SIZE;
  const address = mmap({
    lengthBytes: mappedBytes,
    prot: PROT_READ,
    flags: MAP_SHARED,
    fd,
    fileOffset: fileOffset - BigInt(into),
  });
  try {
    if (residentPages(address, mappedBytes).length * PAGE_SIZE < mappedBytes) return null;
    const bytes = new Uint8Array(lengthBytes);
    return copyFrom(address + BigInt(into), bytes) === 0 ? bytes : null;
  } finally {
    munmap(address, mappedBytes);
  }
}

/** What the kernel sends for an access to memory that is not there. */
export const signalsOfLostMemory: readonly string[] = ["SIGBUS", "SIGSEGV"];

const actorPool = new ChildPool<HostActorInbound, HostActorOutbound>(
  "harness/src/engines/host-actor-main.ts",
);

type ParticipantClock = {
  readonly nowMs: () => number;
  /** How long the file server has waited for a processor. */
  readonly serverDelayedMs: () => number;
  readonly slowness: number;
};

type Begun = { readonly atMs: number; readonly serverDelayedMs: number };

class HostParticipant {
  readonly name: string;
  readonly #actions: ReadonlyMap<string, HostAction>;
  readonly #results = new Map<string, HostResult>();
  readonly #begun = new Map<string, Begun>();
  readonly #clock: ParticipantClock;
  /** Why a result is not known. */
  heldUp: string | null = null;
  finished = false;
  /** Has opened what has to be open before the file is mapped. */
  prepared = false;

  readonly #delayBoundMs: number;

  constructor(name: string, actions: ReadonlyMap<string, HostAction>, clock: ParticipantClock) {
    this.name = name;
    this.#actions = actions;
    this.#clock = clock;
    this.#delayBoundMs = HOST_DELAY_BOUND_MS * clock.slowness;
  }

  /** Handles a message; returns the event for the trace. */
  receive(
    message: Exclude<HostActorOutbound, { type: "signal" }>,
  ): { kind: EventKind; detail: string; tookMs: number } | null {
    switch (message.type) {
      case "prepared":
        this.prepared = true;
        return null;
      case "finished":
        this.finished = true;
        return null;
      case "begin":
        this.#begun.set(message.label, {
          atMs: this.#clock.nowMs(),
          serverDelayedMs: this.#clock.serverDelayedMs(),
        });
        return null;
      case "end": {
        this.#ended(message);
        const action = this.#actions.get(message.label);
        return message.errno === null && action !== undefined
          ? { ...actOf(action).event(action), tookMs: message.ms }
          : null;
      }
    }
  }

  #ended(message: Extract<HostActorOutbound, { type: "end" }>): void {
    const { label, ms } = message;
    const time = { ...message, heldUpMs: message.heldUpMs + this.#serverHeldUpMs(label) };
    const result = hostResultOf(time, this.#delayBoundMs);
    if (result === null) this.heldUp ??= heldUpText(`${this.name}.${label}`, time);
    this.#results.set(label, result ?? { kind: "delayed", ms });
  }

  /** Since the step began. */
  #serverHeldUpMs(label: string): number {
    const now = this.#clock.serverDelayedMs();
    return now - (this.#begun.get(label)?.serverDelayedMs ?? now);
  }

  /** Of the step that has begun and is not back: why it may yet be on its way. null: it is held up, or there is none. */
  pendingHeldUp(isAsleep: boolean): string | null {
    for (const [label, { atMs }] of this.#begun) {
      if (this.#results.has(label)) continue;
      const time = { ms: this.#clock.nowMs() - atMs, heldUpMs: this.#serverHeldUpMs(label), errno: null };
      if (isAsleep && time.heldUpMs * 2 < this.#delayBoundMs) continue;
      const text = heldUpText(`${this.name}.${label}, not back yet,`, time);
      return isAsleep ? text : `${text}, and its process is not asleep`;
    }
    return null;
  }

  /** Its process has ended by a signal. Returns the event if its step has brought that about, which has begun and is not back. */
  killed(signal: string): { kind: EventKind; detail: string } | null {
    for (const label of this.#begun.keys()) {
      const action = this.#actions.get(label);
      if (this.#results.has(label) || action === undefined || actOf(action).byMapping !== true) continue;
      if (!signalsOfLostMemory.includes(signal)) return null;
      this.#results.set(label, { kind: "killed", signal });
      this.finished = true;
      const { kind, detail } = actOf(action).event(action);
      return { kind, detail: `${detail}: ${signal}` };
    }
    return null;
  }

  /** What its steps that have begun do to the server of the mount. */
  serverChanges(): readonly ServerChange[] {
    return [...this.#begun.keys()].flatMap((label) => {
      const action = this.#actions.get(label);
      return action === undefined ? [] : (actOf(action).server ?? []);
    });
  }

  results(): Record<string, HostResult> {
    const steps: Record<string, HostResult> = {};
    for (const label of this.#actions.keys()) {
      const begunMs = this.#begun.get(label)?.atMs;
      const pending: HostResult =
        begunMs === undefined
          ? { kind: "not-reached" }
          : { kind: "delayed", ms: this.#clock.nowMs() - begunMs }; // Begun and not back: still held up.
      steps[label] = this.#results.get(label) ?? pending;
    }
    return steps;
  }
}

class RealHostSetup implements HostSetup {
  readonly #scenario: Scenario;
  readonly #directory: string;
  readonly #signal: AbortSignal;
  readonly #onEvent: CaseContext["onEvent"];
  readonly #startMs = performance.now();
  readonly #backing: Backing;
  readonly fileDescriptor: number;
  /** The file through the mount that is mapped, or null if it is the file itself. */
  #client: number | null = null;
  readonly #raised = new Map<string, string>();
  readonly #listeners = new Set<SignalListener>();
  readonly #participants: HostParticipant[] = [];
  readonly #children: PooledChild<HostActorInbound, HostActorOutbound>[] = [];
  readonly #events: TraceEvent[] = [];
  readonly #slowness: number;
  readonly #timeoutMs: number;
  #mount: FuseMount | null = null;
  /** At `begin`: starting it is not part of the case. */
  #serverDelayedMs = 0;
  #failure: string | null = null;
  #closing = false;

  constructor(scenario: Scenario, backing: Backing, context: HostSetupContext) {
    this.#scenario = scenario;
    this.#directory = context.directory;
    this.#signal = context.signal;
    this.#onEvent = context.onEvent;
    this.#slowness = context.slowness;
    this.#timeoutMs = context.timeoutMs;
    this.#backing = backing;
    this.fileDescriptor = openSync(backing.filePath, "r+");
  }

  /** The mount whose file is mapped. */
  get #mapped(): FuseMount | null {
    return this.#scenario.backing.mount === undefined ? null : this.#mount;
  }

  get filePath(): string {
    const mount = this.#mapped;
    return mount === null ? this.#backing.filePath : join(mount.mountpoint, basename(this.#backing.filePath));
  }

  get sourceDirectory(): string {
    return this.#mapped?.mountpoint ?? this.#backing.sourceDirectory;
  }

  get fileSystem(): string {
    return fileSystemOf(this.sourceDirectory);
  }

  get mountpoint(): string | null {
    return this.#mount?.mountpoint ?? null;
  }

  get transport(): Transport | null {
    return this.#mount?.transport ?? null;
  }

  nowMs(): number {
    return performance.now() - this.#startMs;
  }

  /** Starts what takes time to start. */
  async open(options: HostSetupOptions): Promise<void> {
    for (const [name, actor] of hostActors(this.#scenario)) this.#startActor(name, actionsOf(actor));
    const { mount } = this.#scenario.backing;
    const { leaseSocket } = options;
    if (usesMount(this.#scenario) || leaseSocket !== undefined) await this.#openMount(options);
    // Before the file is mapped: opening it drops the client's page cache (fuse_finish_open(), fs/fuse/file.c).
    // Not of a server that is stopped: every child of this process closes what it does not inherit when it is executed, and
    // the close would wait for the answer to its FLUSH, and this process for the child.
    if (mount !== undefined && !changesServer(this.#scenario, "stops"))
      this.#client = openSync(this.filePath, "r");
    await this.#prepareActors();
  }

  async #openMount(options: HostSetupOptions): Promise<void> {
    const { mount } = this.#scenario.backing;
    const { leaseSocket } = options;
    // Only our own transport follows rules and grants leases.
    const ours = mount !== undefined || leaseSocket !== undefined;
    this.#mount = await openMount({
      sourceDirectory: this.#backing.sourceDirectory,
      directory: this.#directory,
      transport: ours ? "devfuse" : (options.transport ?? "devfuse"),
      readyBoundMs: Math.max(READY_BOUND_MS * this.#slowness, this.#timeoutMs / 2),
      mayBeStopped: changesServer(this.#scenario, "stops"),
      cacheTimeoutMs: cacheTimeoutMs(this.#scenario.backing.cache),
      ...(leaseSocket === undefined ? {} : { leaseSocket }),
      ...(mount === undefined ? {} : { faults: mount.faults }),
      ...(options.serverPath === undefined ? {} : { serverPath: options.serverPath }),
    });
  }

  #startActor(name: string, actions: ReturnType<typeof actionsOf>): void {
    const byLabel = new Map(actions.map(({ label, step }) => [label, step]));
    const participant = new HostParticipant(name, byLabel, {
      nowMs: () => this.nowMs(),
      serverDelayedMs: () => this.#mount?.delayedMs() ?? 0,
      slowness: this.#slowness,
    });
    const child = actorPool.borrow(this.#directory);
    child.listen({
      onMessage: (message) => {
        if (message.type === "signal") {
          this.raise(message.name, name);
          return;
        }
        const event = participant.receive(message);
        if (event !== null) this.trace({ ...event, actor: name });
      },
      onExit: (exit) => {
        const event = exit.kind === "signal" ? participant.killed(exit.signal) : null;
        if (event !== null) this.trace({ ...event, actor: name });
        else if (!this.#closing) this.#failure ??= `host actor ${name}: ${exitText(exit)}`;
      },
    });
    this.#participants.push(participant);
    this.#children.push(child);
  }

  #pathOf(actor: HostActor, filePath: string): string {
    return actor.through === "mount" && this.#mount !== null
      ? join(this.#mount.mountpoint, basename(this.#backing.filePath))
      : filePath;
  }

  /** A descriptor that is to be older than the mapping is opened now. */
  async #prepareActors(): Promise<void> {
    const waiting: HostParticipant[] = [];
    for (const [index, [, actor]] of hostActors(this.#scenario).entries()) {
      const participant = this.#participants[index];
      if (!opensEarly(actor) || participant === undefined) continue;
      const path = this.#pathOf(actor, this.#backing.filePath);
      this.#children[index]?.send({ type: "prepare", path });
      waiting.push(participant);
    }
    const deadlineMs = this.nowMs() + PREPARE_BOUND_MS * this.#slowness;
    while (!waiting.every(({ prepared }) => prepared)) {
      if (this.nowMs() > deadlineMs || this.#signal.aborted) {
        throw new Error("a host actor did not open the file");
      }
      await sleep(SETTLE_POLL_MS);
    }
  }

  begin(filePath: string = this.#backing.filePath): void {
    this.#serverDelayedMs = this.#mount?.delayedMs() ?? 0;
    for (const [index, [, actor]] of hostActors(this.#scenario).entries()) {
      const path = this.#pathOf(actor, filePath);
      const serverPid = this.#mount?.pid ?? null;
      this.#children[index]?.send({
        type: "start",
        actor,
        path,
        serverPid,
        raised: [...this.#raised.keys()],
      });
    }
  }

  raise(name: string, from: string): void {
    if (this.#raised.has(name)) return;
    this.#raised.set(name, from);
    this.trace({ kind: "signal", actor: from, detail: name });
    for (const child of this.#children) child.send({ type: "signal", name });
    for (const listener of [...this.#listeners]) listener(name, from);
  }

  isRaised(name: string): boolean {
    return this.#raised.has(name);
  }

  onSignal(listener: SignalListener): () => void {
    this.#listeners.add(listener);
    for (const [name, from] of this.#raised) listener(name, from);
    return () => this.#listeners.delete(listener);
  }

  readFile(fileOffset: bigint, lengthBytes: number, options = { written: false }): Uint8Array {
    const held =
      options.written && this.#client !== null ? heldBytes(this.#client, fileOffset, lengthBytes) : null;
    if (held !== null) return held;
    const bytes = new Uint8Array(lengthBytes);
    readSync(this.fileDescriptor, bytes, 0, lengthBytes, Number(fileOffset));
    return bytes;
  }

  fileSize(): bigint {
    return fstatSync(this.fileDescriptor, { bigint: true }).size;
  }

  async settled(boundMs: number): Promise<boolean> {
    const deadlineMs = this.nowMs() + boundMs;
    // Of a case that is over nobody waits any more.
    const isOver = (): boolean => this.#failure !== null || this.#closing;
    const done = (): boolean => isOver() || this.#participants.every((one) => one.finished);
    while (!done() && !this.#signal.aborted && this.nowMs() < deadlineMs) {
      await sleep(Math.min(SETTLE_POLL_MS, deadlineMs - this.nowMs()));
    }
    return this.#participants.every((one) => one.finished);
  }

  #serverChanges(): readonly ServerChange[] {
    return this.#participants.flatMap((one) => one.serverChanges());
  }

  async failure(): Promise<string | null> {
    if (this.#failure !== null) return this.#failure;
    // The scenario's own doing.
    if (this.#serverChanges().includes("dies")) return null;
    return (await this.#mount?.lost()) ?? null;
  }

  async heldUp(): Promise<string | null> {
    // Whatever an actor has sent before it fell asleep comes in first.
    await sleep(SETTLE_POLL_MS);
    await new Promise((resolve) => setImmediate(resolve));
    const reasons = this.#participants.map((one, index) => {
      const pid = this.#children[index]?.pid;
      const look = pid === undefined ? null : lookAtThread(pid, () => this.nowMs());
      return one.heldUp ?? one.pendingHeldUp(look?.isAsleep ?? true);
    });
    return reasons.find((reason) => reason !== null) ?? null;
  }

  serverHeldUpMs(): number {
    // No processor would make one answer that the scenario has stopped.
    const changes = this.#serverChanges();
    if (changes.includes("stops") && !changes.includes("goes-on")) return 0;
    return (this.#mount?.delayedMs() ?? 0) - this.#serverDelayedMs;
  }

  hostSteps(): Record<string, Record<string, HostResult>> {
    return Object.fromEntries(this.#participants.map((one) => [one.name, one.results()]));
  }

  trace(event: {
    readonly kind: EventKind;
    readonly actor: string;
    readonly detail: string;
    readonly gpa?: bigint;
    readonly tookMs?: number;
  }): void {
    const { kind, actor, gpa = null, detail, tookMs } = event;
    const took = tookMs === undefined ? {} : { tookMs };
    const traced: TraceEvent = { kind, actor, atMs: this.nowMs(), gpa, detail, ...took };
    this.#events.push(traced);
    this.#onEvent?.(traced);
  }

  events(): readonly TraceEvent[] {
    return this.#events;
  }

  counts(): Partial<Record<EventKind, number>> {
    const counts: Partial<Record<EventKind, number>> = {};
    for (const { kind } of this.#events) counts[kind] = (counts[kind] ?? 0) + 1;
    return counts;
  }

  endServer(): void {
    this.#mount?.abort();
  }

  async close(): Promise<void> {
    this.#closing = true;
    // What waits for an answer that never comes can be in an uninterruptible sleep: the children first would hang here.
    if (!isIoAnswered(this.#scenario)) this.endServer();
    await Promise.all(
      this.#children.map((child, index) =>
        this.#participants[index]?.finished ? actorPool.giveBack(child) : child.kill(),
      ),
    );
    await this.#mount?.close();
    closeSync(this.fileDescriptor);
    if (this.#client !== null) closeClient(this.#client);
    unmountBelow(this.#directory);
  }
}

/** What a case has come to that could not be prepared. */
export function setupFailure(error: unknown): RunResult {
  const kind = error instanceof BusyError ? "busy" : "engine-error";
  return { kind, message: errorText(error) };
}

/**
 * Prepares a case. Rejects where that fails (no tmpfs without root, no FUSE): `hostSetupSupport` in ../machine.ts finds that out before.
 * @param context Its folder gets everything; the caller's time limit and abort signal are the caller's to watch.
 */
export async function openHostSetup(
  scenario: Scenario,
  context: HostSetupContext,
  options: HostSetupOptions = {},
): Promise<HostSetup> {
  const setup = new RealHostSetup(scenario, createBacking(scenario, context.directory), context);
  try {
    await setup.open(options);
  } catch (error) {
    await setup.close();
    throw error;
  }
  return setup;
}
