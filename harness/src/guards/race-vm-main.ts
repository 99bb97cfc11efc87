/**
 * A race: a guest that touches the file all the time, a host that truncates it, a guard between them, one VM for all
 * rounds. No APIC in the kernel: each touch of a lost page is an exit, and none can be missed in a loop.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { checkedRange, type GuardEvent, monotonicMs } from "../../../fs-server/src/index.ts";
import { disableCoreDumps, PAGE_SIZE } from "../../../sys/src/index.ts";
import {
  buildMachine,
  Kvm,
  loadImage,
  type Machine,
  MmapWindow,
  PageStates,
  pageState,
  plainMachine,
  startVm,
  type TaskProgram,
  WINDOW_BASE,
  WindowHolder,
} from "../../../vmm/src/index.ts";
import { startChild, within } from "../engines/child.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import { type Guarding, guardFile } from "../engines/kvm/guard.ts";
import { openMount } from "../engines/mount.ts";
import { errorStack } from "../error-text.ts";
import {
  type CutDone,
  type FromRaceHost,
  LOAD_OFFSET,
  RACE_FILE_BYTES,
  type RaceOptions,
  type RaceResult,
  STORE_OFFSET,
  type ToRaceHost,
  type WholeAgain,
} from "./race.ts";

/** Content of round n: it grows, so that what is older is less. */
const contentOf = (round: number): bigint => BigInt(round + 1) << 16n;
const NEVER_RAISED = 15;
/** The guest touches again within microseconds; a busy machine needs some of these. */
const PROGRESS_BOUND_MS = 5000;
const RECALL_BOUND_MS = 2000;
/** Where nobody tells anybody: as long as a notification takes. */
const UNTOLD_MS = 1;

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

class Race {
  readonly #options: RaceOptions;
  /** Is there a guard that is armed, and tells? */
  readonly #isTold: boolean;
  readonly #fd: number;
  readonly #machine: Machine;
  readonly #states: PageStates;
  readonly #windowUs: number[] = [];
  readonly #hostUs: number[] = [];
  /** When the last recall was over, and the stored word then. */
  #recalledUs: number | null = null;
  #storedAtRecall: bigint | null = null;
  #givenBackUs: number | null = null;
  #lost = 0;
  #denied = 0;
  #changed = 0;
  #dirty = 0;
  #done = 0;
  #stuck = false;
  #onRecalled: () => void = () => {};
  #onAnswer: (answer: FromRaceHost) => void = () => {};

  constructor(
    options: RaceOptions & { readonly isTold: boolean },
    fd: number,
    machine: Machine,
    states: PageStates,
  ) {
    const { isTold, ...rest } = options;
    this.#isTold = isTold;
    this.#options = rest;
    this.#fd = fd;
    this.#machine = machine;
    this.#states = states;
  }

  answer(message: FromRaceHost): void {
    this.#onAnswer(message);
  }

  /** The file is whole, and about to be given back. */
  settled(sizeBytes: bigint): void {
    if (sizeBytes === BigInt(RACE_FILE_BYTES)) this.#givenBackUs ??= monotonicMs() * 1000;
  }

  /** The mapping is gone: nothing that the guest does reaches the file from here on. */
  recalled(): void {
    this.#recalledUs ??= monotonicMs() * 1000;
    this.#onRecalled();
    const bytes = Buffer.alloc(8);
    readSync(this.#fd, bytes, 0, 8, STORE_OFFSET);
    this.#storedAtRecall ??= bytes.readBigUInt64LE();
  }

  async run(host: (message: ToRaceHost) => void): Promise<void> {
    for (let round = 0; round < this.#options.rounds && !this.#stuck; round += 1) {
      this.#recalledUs = null;
      this.#givenBackUs = null;
      this.#storedAtRecall = null;
      const before = this.#states.unannounced;
      const recalled = new Promise<void>((resolve) => {
        this.#onRecalled = resolve;
      });
      const ask = (message: ToRaceHost): Promise<FromRaceHost> =>
        new Promise((resolve) => {
          this.#onAnswer = resolve;
          host(message);
        });
      const cut = await ask({ type: "cut" });
      // The guest has its time to touch what is gone: until it is told, where somebody tells.
      await (this.#isTold ? within(recalled, RECALL_BOUND_MS) : sleep(UNTOLD_MS));
      const whole = await ask({ type: "regrow", content: contentOf(round + 1) });
      for (const task of this.#tasks()) this.#machine.channel.setValue(task, 0, contentOf(round + 1));
      await this.#progress();
      if (cut.type === "cut" && whole.type === "whole") this.#take(cut, whole, before);
      this.#done = round + 1;
    }
  }

  #tasks(): number[] {
    return this.#options.guest === "two-vcpus" ? [0, 1] : [0];
  }

  #take(cut: CutDone, whole: WholeAgain, unannouncedBefore: number): void {
    if (this.#recalledUs !== null) this.#windowUs.push(this.#recalledUs - cut.callUs);
    this.#hostUs.push(cut.returnUs - cut.openUs);
    if (this.#states.unannounced !== unannouncedBefore) this.#lost += 1;
    if (cut.isDenied) this.#denied += 1;
    const recalledUs = this.#recalledUs ?? Number.POSITIVE_INFINITY;
    // Read before the call: it says something where the recall was over by then, as where opening is what waits.
    if (recalledUs < cut.callUs && this.#storedAtRecall !== cut.storedBefore) this.#changed += 1;
    // Once it is given back the guest may store into it.
    const isOurs =
      recalledUs < cut.returnUs && whole.readUs < (this.#givenBackUs ?? Number.POSITIVE_INFINITY);
    if (isOurs && whole.isDirty) this.#dirty += 1;
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
    return {
      ...this.#options,
      refusal,
      done: this.#done,
      lost: this.#lost,
      denied: this.#denied,
      stuck: this.#stuck,
      loads: Number(loads?.accesses ?? 0n),
      stores: Number(stores?.accesses ?? 0n),
      staleLoads: Number(loads?.stale ?? 0n),
      zeroLoads: Number(loads?.zeros ?? 0n),
      sigbus: Number((loads?.sigbusCount ?? 0n) + (stores?.sigbusCount ?? 0n)),
      changedAfterAcknowledgement: this.#changed,
      dirtyAfterRegrow: this.#dirty,
      windowUs: this.#windowUs,
      hostUs: this.#hostUs,
      seconds,
    };
  }
}

type Place = {
  readonly path: string;
  readonly via: string;
  readonly leaseSocket: string | null;
  close(): Promise<void>;
};

/** The file in a folder of its own; for the server's leases also in its mount. */
async function openPlace({ guard }: RaceOptions, directory: string, source: string): Promise<Place> {
  const path = join(source, "file");
  if (guard !== "fuse-lease") return { path, via: path, leaseSocket: null, close: async () => {} };
  const leaseSocket = join(directory, "leases");
  const mount = await openMount({ sourceDirectory: source, directory, transport: "devfuse", leaseSocket });
  return { path, via: join(mount.mountpoint, "file"), leaseSocket, close: () => mount.close() };
}

async function race(options: RaceOptions, directory: string, source: string): Promise<RaceResult> {
  const place = await openPlace(options, directory, source);
  const fd = openSync(place.path, "r+");
  let running: Race | null = null;
  const onEvent = (event: GuardEvent): void => {
    if (event.kind === "recalled") running?.recalled();
    if (event.kind === "settle") running?.settled(event.sizeBytes);
  };
  const guarding: Guarding | null =
    options.guard === "none"
      ? null
      : await guardFile({ name: options.guard, leaseSocket: place.leaseSocket }, fd, onEvent);
  const window = new MmapWindow(BigInt(RACE_FILE_BYTES));
  const mapped = guarding?.fd ?? fd;
  const range = checkedRange(0n, window.sizeBytes, window.sizeBytes, BigInt(PAGE_SIZE));
  window.map(range, mapped, 0n, { writable: true });
  const states = new PageStates(window.hva, RACE_FILE_BYTES);
  guarding?.holder.become(
    new WindowHolder({ hva: window.hva, lengthBytes: RACE_FILE_BYTES, fileOffset: 0n, fd: mapped }, states),
  );
  const kvm = Kvm.open();
  const tasks = programs(options);
  const machine = buildMachine(kvm, loadImage(), {
    ...plainMachine,
    pageFaultIsError: true,
    policy: "inject-pf",
    maxRepeats: Number.MAX_SAFE_INTEGER,
    windowHva: window.hva,
    windowBytes: RACE_FILE_BYTES,
    programs: tasks,
    pageStates: states.buffer,
  });
  const isTold = guarding !== null && guarding.refusal === null && options.guard !== "sealed";
  running = new Race({ ...options, isTold }, mapped, machine, states);
  const run = running;
  const runner = startVm(machine, tasks, () => {});
  const host = startChild<ToRaceHost, FromRaceHost>({
    entry: "harness/src/guards/race-host-main.ts",
    directory,
    onMessage: (message) => run.answer(message),
  });
  // A sealed copy has no name: it is attacked where root finds it.
  const copy = `/proc/${process.pid}/fd/${mapped}`;
  const [path, via] = options.guard === "sealed" ? [copy, copy] : [place.path, place.via];
  host.send({ type: "start", path, via });
  const startMs = performance.now();
  await run.run((message) => host.send(message));
  const result = run.result(guarding?.refusal ?? null, (performance.now() - startMs) / 1000);
  runner.stop();
  await runner.exited;
  await host.kill();
  await guarding?.close();
  await place.close();
  machine.close();
  kvm.close();
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
  void race(message.options, process.cwd(), message.source).then(
    async (result) => {
      await send({ type: "result", result });
      process.disconnect?.();
    },
    (error: unknown) => {
      console.error(errorStack(error));
      process.exit(1);
    },
  );
});
