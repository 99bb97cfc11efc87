/**
 * A race: a guest that touches the file all the time, a host that truncates it, a guard between them, one VM for all
 * rounds. No APIC in the kernel: each touch of a lost page is an exit, and none can be missed in a loop.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { checkedRange, type GuardEvent, monotonicMs } from "../../../fs-server/src/index.ts";
import { disableCoreDumps, LostChildError, PAGE_SIZE } from "../../../sys/src/index.ts";
import {
  type Machine,
  MmapWindow,
  openMachine,
  PageStates,
  pageState,
  plainMachine,
  runMachine,
  type TaskProgram,
  WINDOW_BASE,
  WindowHolder,
} from "../../../vmm/src/index.ts";
import { type Child, startChild, within } from "../engines/child.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import { failHelper, watchEnd } from "../engines/helper.ts";
import { openMount } from "../engines/mount.ts";
import { type Guarding, guardFile } from "../engines/vm/guard.ts";
import {
  type FromRaceHost,
  LOAD_OFFSET,
  RACE_FILE_BYTES,
  type RaceOptions,
  type RaceResult,
  STORE_OFFSET,
  type ToRaceHost,
} from "./race.ts";
import { type RoundResult, resultOf, totalsOf } from "./race-round.ts";

/** Content of round n: it grows, so that what is older is less. */
const contentOf = (round: number): bigint => BigInt(round + 1) << 16n;
const NEVER_RAISED = 15;
/** The guest touches again within microseconds; a busy machine needs some of these. */
const PROGRESS_BOUND_MS = 5000;
const RECALL_BOUND_MS = 2000;
/** Without a guard that notifies: as long as a notification takes. */
const NOTIFICATION_MS = 1;

function programs({ guest }: RaceOptions): TaskProgram[] {
  const step = { size: 8, until: NEVER_RAISED, tallies: true };
  const loads: TaskProgram = {
    cpl: 3,
    cpu: 0,
    onSigbus: "same-step",
    steps: [{ ...step, verb: "load", address: WINDOW_BASE + BigInt(LOAD_OFFSET), value: 0n }],
  };
  const stores: TaskProgram = {
    cpl: 3,
    cpu: 1,
    onSigbus: "same-step",
    steps: [{ ...step, verb: "store", address: WINDOW_BASE + BigInt(STORE_OFFSET), value: contentOf(0) }],
  };
  return guest === "two-vcpus" ? [loads, stores] : [loads];
}

/** The host's process, asked one thing at a time. */
class Host {
  readonly #child: Child<ToRaceHost, FromRaceHost>;
  readonly #expectEnd: () => void;
  #onAnswer: (answer: FromRaceHost) => void = () => {};
  #onLost: (error: Error) => void = () => {};
  #lost: Error | null = null;

  constructor(directory: string) {
    this.#child = startChild({
      entry: "harness/src/guards/race-host-main.ts",
      directory,
      onMessage: (message) => this.#onAnswer(message),
    });
    this.#expectEnd = watchEnd(this.#child.exited, "the truncater", (error) => {
      this.#lost = error;
      this.#onLost(error);
    });
  }

  start(path: string, via: string): void {
    this.#child.send({ type: "start", path, via });
  }

  ask(message: ToRaceHost): Promise<FromRaceHost> {
    return new Promise((resolve, reject) => {
      if (this.#lost !== null) reject(this.#lost);
      this.#onAnswer = resolve;
      this.#onLost = reject;
      this.#child.send(message);
    });
  }

  close(): Promise<void> {
    this.#expectEnd();
    return this.#child.kill();
  }
}

/** One round as the guard's events show it. Only the first of each kind counts. */
class Round {
  /** Settles with the first recall. */
  readonly recalled: Promise<void>;
  #onRecalled: () => void = () => {};
  recalledUs: number | null = null;
  storedAtRecall: bigint | null = null;
  givenBackUs: number | null = null;

  constructor() {
    this.recalled = new Promise((resolve) => {
      this.#onRecalled = resolve;
    });
  }

  /** @param fd of the file, whose stored word is read after the time is taken */
  wasRecalled(fd: number): void {
    this.recalledUs ??= monotonicMs() * 1000;
    this.#onRecalled();
    const bytes = Buffer.alloc(8);
    readSync(fd, bytes, 0, 8, STORE_OFFSET);
    this.storedAtRecall ??= bytes.readBigUInt64LE();
  }

  wasGivenBack(): void {
    this.givenBackUs ??= monotonicMs() * 1000;
  }
}

class Race {
  readonly #options: RaceOptions;
  /** A guard is armed, and recalls. */
  readonly #isRecalled: boolean;
  readonly #machine: Machine;
  readonly #states: PageStates;
  readonly #host: Host;
  readonly #rounds: RoundResult[] = [];
  #round = new Round();
  #done = 0;
  #stuck = false;

  constructor(
    options: RaceOptions,
    parts: { readonly machine: Machine; readonly states: PageStates; readonly host: Host },
    { isRecalled }: { readonly isRecalled: boolean },
  ) {
    this.#options = options;
    this.#machine = parts.machine;
    this.#states = parts.states;
    this.#host = parts.host;
    this.#isRecalled = isRecalled;
  }

  /** The round under way, for the guard's events. */
  get round(): Round {
    return this.#round;
  }

  async run(): Promise<void> {
    for (let number = 0; number < this.#options.rounds && !this.#stuck; number += 1) {
      this.#round = new Round();
      await this.#runRound(contentOf(number + 1));
      this.#done = number + 1;
    }
  }

  async #runRound(content: bigint): Promise<void> {
    const before = this.#states.unannounced;
    const cut = await this.#host.ask({ type: "cut" });
    // The guest has its time to touch what is gone: until the recall, where there is one.
    await (this.#isRecalled ? within(this.#round.recalled, RECALL_BOUND_MS) : sleep(NOTIFICATION_MS));
    const whole = await this.#host.ask({ type: "regrow", content });
    for (const task of this.#tasks()) this.#machine.channel.setValue(task, 0, content);
    await this.#progress();
    if (cut.type !== "cut" || whole.type !== "whole") return;
    const { recalledUs, storedAtRecall, givenBackUs } = this.#round;
    const isLost = this.#states.unannounced !== before;
    this.#rounds.push(resultOf({ cut, whole, recalledUs, storedAtRecall, givenBackUs, isLost }));
  }

  #tasks(): number[] {
    return this.#options.guest === "two-vcpus" ? [0, 1] : [0];
  }

  /** Every vCPU has touched its page since the file was whole again. */
  async #progress(): Promise<void> {
    const deadlineMs = performance.now() + PROGRESS_BOUND_MS;
    const count = (task: number): bigint => this.#machine.channel.tally(task, 0).accesses;
    const isOpen = (): boolean =>
      this.#states.of(this.#machine.window.hva + BigInt(LOAD_OFFSET)) === pageState.open;
    while (!isOpen() && performance.now() < deadlineMs) await nextTurn();
    const before = this.#tasks().map(count);
    while (!this.#tasks().every((task) => count(task) > (before[task] ?? 0n))) {
      if (performance.now() > deadlineMs) {
        this.#stuck = true;
        return;
      }
      await nextTurn();
    }
  }

  result(refusal: string | null, seconds: number): RaceResult {
    const [loads, stores] = this.#tasks().map((task) => this.#machine.channel.tally(task, 0));
    const totals = totalsOf(this.#rounds);
    return {
      ...this.#options,
      refusal,
      done: this.#done,
      lost: totals.lost,
      denied: totals.denied,
      stuck: this.#stuck,
      loads: Number(loads?.accesses ?? 0n),
      stores: Number(stores?.accesses ?? 0n),
      staleLoads: Number(loads?.stale ?? 0n),
      zeroLoads: Number(loads?.zeros ?? 0n),
      sigbus: Number((loads?.sigbusCount ?? 0n) + (stores?.sigbusCount ?? 0n)),
      changedAfterAcknowledgement: totals.changedAfterAcknowledgement,
      dirtyAfterRegrow: totals.dirtyAfterRegrow,
      windowUs: totals.windowUs,
      hostUs: totals.hostUs,
      seconds,
    };
  }
}

type Place = {
  readonly path: string;
  readonly via: string;
  readonly leaseSocket: string | null;
  /** Why its server does not answer any more, or null. */
  lost(): Promise<string | null>;
  close(): Promise<void>;
};

/** The file in a folder of its own; for the server's leases also in its mount. */
async function openPlace({ guard }: RaceOptions, directory: string, source: string): Promise<Place> {
  const path = join(source, "file");
  if (guard !== "fuse-lease") {
    return { path, via: path, leaseSocket: null, lost: async () => null, close: async () => {} };
  }
  const leaseSocket = join(directory, "leases");
  const mount = await openMount({ sourceDirectory: source, directory, transport: "devfuse", leaseSocket });
  return {
    path,
    via: join(mount.mountpoint, "file"),
    leaseSocket,
    lost: () => mount.lost(),
    close: () => mount.close(),
  };
}

function openWindow(fd: number): { readonly window: MmapWindow; readonly states: PageStates } {
  const window = new MmapWindow(BigInt(RACE_FILE_BYTES));
  const range = checkedRange(0n, window.sizeBytes, window.sizeBytes, BigInt(PAGE_SIZE));
  window.map(range, fd, 0n, { writable: true });
  return { window, states: new PageStates(window.hva, RACE_FILE_BYTES) };
}

/** Runs the rounds. A LostChildError where one of the processes behind them has ended: that explains whatever else failed. */
async function runUnlessLost(
  running: Race,
  losses: readonly (() => Promise<string | null>)[],
): Promise<void> {
  let failure: unknown = null;
  try {
    await running.run();
  } catch (error) {
    failure = error;
  }
  for (const lost of losses) {
    const reason = await lost();
    if (reason !== null) throw new LostChildError(reason);
  }
  if (failure !== null) throw failure;
}

async function race(options: RaceOptions, directory: string, source: string): Promise<RaceResult> {
  const place = await openPlace(options, directory, source);
  const fd = openSync(place.path, "r+");
  let running: Race | null = null;
  const onEvent = (event: GuardEvent): void => {
    // The mapping is gone: nothing that the guest does reaches the file from here on.
    if (event.kind === "recalled") running?.round.wasRecalled(mapped);
    // The file is whole, and about to be given back.
    const isWhole = event.kind === "settle" && event.sizeBytes === BigInt(RACE_FILE_BYTES);
    if (isWhole) running?.round.wasGivenBack();
  };
  const guarding: Guarding | null =
    options.guard === "none"
      ? null
      : await guardFile({ name: options.guard, leaseSocket: place.leaseSocket }, fd, onEvent);
  const mapped = guarding?.fd ?? fd;
  const { window, states } = openWindow(mapped);
  guarding?.holder.become(
    new WindowHolder({ hva: window.hva, lengthBytes: RACE_FILE_BYTES, fileOffset: 0n, fd: mapped }, states),
  );
  const machine = openMachine({
    ...plainMachine,
    pageFaultIsError: true,
    policy: "inject-pf",
    maxRepeats: Number.MAX_SAFE_INTEGER,
    windowHva: window.hva,
    windowBytes: RACE_FILE_BYTES,
    programs: programs(options),
    pageStates: states.buffer,
  });
  const isRecalled = guarding !== null && guarding.refusal === null && options.guard !== "sealed";
  const host = new Host(directory);
  running = new Race(options, { machine, states, host }, { isRecalled });
  const guest = runMachine(machine, {});
  // A sealed copy has no name: it is attacked where root finds it.
  const copy = `/proc/${process.pid}/fd/${mapped}`;
  if (options.guard === "sealed") host.start(copy, copy);
  else host.start(place.path, place.via);
  const startMs = performance.now();
  await runUnlessLost(running, [() => place.lost(), async () => (await guarding?.lost()) ?? null]);
  const result = running.result(guarding?.refusal ?? null, (performance.now() - startMs) / 1000);
  await guest.end();
  await host.close();
  await guarding?.close();
  await place.close();
  machine.close();
  window.close();
  return result;
}

function prepare(source: string): void {
  const fd = openSync(join(source, "file"), "wx", 0o600);
  writeSync(fd, Buffer.alloc(RACE_FILE_BYTES, 1));
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(contentOf(0));
  writeSync(fd, bytes, 0, 8, LOAD_OFFSET);
  closeSync(fd);
}

tieToParent();
disableCoreDumps();
process.on("message", (message: { readonly options: RaceOptions; readonly source: string }) => {
  prepare(message.source);
  void race(message.options, process.cwd(), message.source).then(async (result) => {
    await send({ type: "result", result });
    process.disconnect?.();
  }, failHelper);
});
