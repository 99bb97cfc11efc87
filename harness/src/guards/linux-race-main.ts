/**
 * Races with a Linux guest: entry point of the process that has the guest. Two processes of the guest touch the file all
 * the time, on a vCPU each, through virtio-fs's DAX window; a host truncates it, a guard between them. One boot serves all
 * races; a guest that does not come back is booted anew, and its race goes on.
 *
 * The guest is as any: with async page faults, HLT an exit. The touch of a lost page that nobody has taken away is KVM's
 * endless loop then, and is known by the faults that KVM counts; it ends when the file grows again.
 */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { cpus, release } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  ArmedFileSystem,
  type FileSystem,
  type GuardEvent,
  PassthroughFileSystem,
} from "../../../fs-server/src/index.ts";
import { disableCoreDumps } from "../../../sys/src/index.ts";
import {
  BootImageError,
  type Channel,
  FAULT_COUNTER,
  type Tally,
  type TaskProgram,
  WINDOW_BASE,
} from "../../../vmm/src/index.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import { failHelper } from "../engines/helper.ts";
import { GuestError } from "../engines/linux/bring-up.ts";
import type { LinuxGuest, PreparedCase } from "../engines/linux/guest.ts";
import { ATTRIBUTE_MS, mounts } from "../engines/linux/plan.ts";
import { GuardWatch } from "../engines/linux/window.ts";
import { type Guarding, guardFile } from "../engines/vm/guard.ts";
import type { FromLinuxRaces, LinuxRaceSetup, ToLinuxRaces } from "./linux-race.ts";
import { LOAD_OFFSET, RACE_FILE_BYTES, type RaceOptions, type RaceResult, STORE_OFFSET } from "./race.ts";
import { openRacePlace, type RacePlace, writeRaceFile } from "./race-place.ts";
import { type RoundResult, totalsOf } from "./race-round.ts";
import { contentOf, HostTruncater, NEVER_RAISED, Rounds, type Truncater, unlessLost } from "./race-rounds.ts";
import { BOOT_BOUND_MS, folderOf, racedGuest, SETTLE_MS } from "./raced-guest.ts";
import { SecondGuest, sharedBetween } from "./second-guest.ts";

const CPUS = 2;
/** A guest that is stuck again and again says what there is to say. */
const STUCK_MAX = 3;
const LOOK_MS = 1;
/** Enough for both vCPUs to have a turn where they share one emulated CPU. */
const UNGUARDED_MS = 5;

const touching = { size: 8, until: NEVER_RAISED, tallies: true } as const;
const task = { cpl: 3, onSigbus: "same-step", sigsegvIsSigbus: true } as const;

function programs(): readonly TaskProgram[] {
  const at = (offset: number): bigint => WINDOW_BASE + BigInt(offset);
  return [
    { ...task, cpu: 0, steps: [{ ...touching, verb: "load", address: at(LOAD_OFFSET), value: 0n }] },
    {
      ...task,
      cpu: 1,
      steps: [{ ...touching, verb: "store", address: at(STORE_OFFSET), value: contentOf(0) }],
    },
  ];
}

const raced: PreparedCase = {
  tasks: programs().map((program, index) => ({ actor: index === 0 ? "loads" : "stores", program })),
  mappings: [{ at: 0n, fileOffset: 0n, length: BigInt(RACE_FILE_BYTES) }],
  windowBytes: RACE_FILE_BYTES,
  mount: mounts["dax-window"],
  policy: "inject-pf",
};

/** The guest that is up; null: the next case boots one. */
let guest: LinuxGuest | null = null;
let boots = 0;

async function guestUp({ kernel, slowness }: LinuxRaceSetup): Promise<LinuxGuest> {
  if (guest !== null) return guest;
  boots += 1;
  const booted = racedGuest({ kernel, slowness }, { cpus: CPUS });
  await booted.up();
  guest = booted;
  return booted;
}

const noTally: Tally = { accesses: 0n, zeros: 0n, stale: 0n, sigbusCount: 0n, lastStale: 0n, lastValue: 0n };

/** The sums of several cases, each of which begins to count anew. */
class Counts {
  readonly #tallies: Tally[] = [noTally, noTally];
  oopses = 0;

  add(channel: Channel, oopses: number): void {
    this.oopses += oopses;
    for (const [index, sum] of this.#tallies.entries()) {
      const more = channel.tally(index, 0);
      this.#tallies[index] = {
        ...more,
        accesses: sum.accesses + more.accesses,
        zeros: sum.zeros + more.zeros,
        stale: sum.stale + more.stale,
        sigbusCount: sum.sigbusCount + more.sigbusCount,
      };
    }
  }

  get figures(): Pick<RaceResult, "loads" | "stores" | "staleLoads" | "zeroLoads" | "sigbus"> {
    const [loads, stores] = [this.#tallies[0] ?? noTally, this.#tallies[1] ?? noTally];
    return {
      loads: Number(loads.accesses),
      stores: Number(stores.accesses),
      staleLoads: Number(loads.stale),
      zeroLoads: Number(loads.zeros),
      sigbus: Number(loads.sigbusCount + stores.sigbusCount),
    };
  }
}

/** A race under way. */
class LinuxRace {
  readonly #setup: LinuxRaceSetup;
  readonly #options: RaceOptions;
  readonly #place: RacePlace;
  readonly #truncater: Truncater;
  readonly #guarding: Guarding | null;
  readonly #counts = new Counts();
  readonly #results: RoundResult[] = [];
  #rounds: Rounds | null = null;
  #stuckCount = 0;
  readonly #troubles: string[] = [];

  constructor(
    { setup, options }: ToLinuxRaces,
    parts: { readonly place: RacePlace; readonly truncater: Truncater; readonly guarding: Guarding | null },
  ) {
    this.#setup = setup;
    this.#options = options;
    this.#place = parts.place;
    this.#truncater = parts.truncater;
    this.#guarding = parts.guarding;
  }

  guarded(event: GuardEvent): void {
    if (this.#guarding !== null) this.#rounds?.guarded(event, this.#guarding.fd);
  }

  /** All rounds, in as many cases as the guest takes. */
  async run(): Promise<void> {
    while (this.#results.length < this.#options.rounds && this.#stuckCount < STUCK_MAX) {
      await this.#runCase(await guestUp(this.#setup));
    }
  }

  async #runCase(linux: LinuxGuest): Promise<void> {
    const guarding = this.#guarding;
    const source = new PassthroughFileSystem(join(this.#place.path, ".."));
    const fs: FileSystem = guarding === null ? source : new ArmedFileSystem(source, guarding.fd);
    const folder = folderOf(linux);
    folder.serve(fs, { validity: { entryMs: ATTRIBUTE_MS, attributesMs: ATTRIBUTE_MS } });
    const { channel, start } = await linux.prepare(raced, "file");
    let isOver = false;
    let faultsSoFar = (): number | null => null;
    const over = (why: string): void => {
      isOver = true;
      this.#troubles.push(why);
    };
    if (guarding !== null) {
      const holder = new GuardWatch(folder.memory, guarding.fd, () => {});
      folder.memory.watchBy(holder);
      guarding.holder.become(holder);
    }
    const rounds = new Rounds({
      guest: {
        tasks: [0, 1],
        channel,
        states: folder.memory.states,
        hvaOf: (offset) => folder.memory.hvaOf(BigInt(offset)),
        faults: () => faultsSoFar(),
        isOver: () => isOver,
        pause: () => sleep(LOOK_MS),
      },
      truncater: this.#truncater,
      ways: this.#options.ways,
      isRecalled: guarding !== null && this.#options.guard !== "sealed",
      unguardedMs: UNGUARDED_MS * this.#setup.slowness,
      slowness: this.#setup.slowness,
    });
    this.#rounds = rounds;
    const run = start(
      {
        stopped: ({ reason }) => over(`the VM stopped: ${reason}`),
        ended: ({ why }) => over(`the guest ended: ${why.kind}`),
      },
      { ioPatienceMs: BOOT_BOUND_MS, isIoAnswered: true, isToldEarly: false },
    );
    faultsSoFar = () => Number(run.final()?.counters[FAULT_COUNTER] ?? 0n);
    // Its driver has mapped the file, and both processes have touched it.
    await rounds.awaitProgress();
    await rounds.run(this.#results.length, this.#options.rounds);
    this.#results.push(...rounds.results);
    this.#counts.add(channel, linux.oopses);
    if (rounds.isStuck) {
      this.#stuckCount += 1;
      this.#troubles.push(`stuck in ${rounds.results.at(-1)?.way ?? "the beginning"}`);
    }
    await this.#leave(linux, fs);
  }

  async #leave(linux: LinuxGuest, fs: FileSystem): Promise<void> {
    linux.storage.memory.unwatch();
    const flaw = await linux.settle(SETTLE_MS * this.#setup.slowness);
    if (flaw !== null) {
      guest = null;
      this.#troubles.push(`booted anew: ${flaw}`);
      await linux.close();
    }
    fs.close();
  }

  result(before: { readonly boots: number }, seconds: number): RaceResult {
    const { kernel } = this.#setup;
    return {
      ...this.#options,
      ...totalsOf(this.#results),
      ...this.#counts.figures,
      refusal: this.#guarding?.refusal ?? null,
      done: this.#results.length,
      stuck: this.#stuckCount > 0,
      seconds,
      linux: {
        host: release(),
        hostCpus: cpus().length,
        release: guest?.release || (kernel.release ?? "unknown"),
        origin: kernel.origin,
        boots: boots - before.boots,
        oopses: this.#counts.oopses,
        troubles: this.#troubles,
      },
    };
  }
}

/** Up, with the file open; null: no way is its. A guard that is a server's own sees the clients of that server alone. */
async function secondGuest(
  { options, directory, setup }: ToLinuxRaces,
  { path, mounted }: RacePlace,
): Promise<Parameters<typeof sharedBetween>[1]> {
  if (!options.ways.includes("by-guest")) return null;
  const guest = new SecondGuest(directory);
  const isServers = options.guard === "fuse-lease" && mounted !== null;
  const refusal = await guest.start(setup, dirname(isServers ? mounted : path));
  if (refusal !== null) throw new GuestError(refusal);
  return { guest, through: isServers ? "mount" : "file" };
}

async function race(order: ToLinuxRaces): Promise<RaceResult> {
  const { options, directory, setup } = order;
  const { guard, ways } = options;
  const source = join(directory, "source");
  mkdirSync(source);
  writeRaceFile(source);
  const before = { boots };
  const place = await openRacePlace(options, { directory, source, slowness: setup.slowness });
  const fd = openSync(place.path, "r+");
  let running: LinuxRace | null = null;
  const onEvent = (event: GuardEvent): void => running?.guarded(event);
  const guarding: Guarding | null =
    guard === "none" ? null : await guardFile({ name: guard, leaseSocket: place.leaseSocket }, fd, onEvent);
  // A sealed copy has no name: it is attacked where root finds it.
  const path = guard === "sealed" ? `/proc/${process.pid}/fd/${guarding?.fd}` : place.path;
  const opensNow = ways.includes("ftruncate-old-fd");
  const host = new HostTruncater(directory, { path, mounted: place.mounted, opensNow });
  // Before the first guest spins: they may share one CPU.
  const second = await secondGuest(order, place);
  const truncater = sharedBetween(host, second);
  const now = new LinuxRace(order, { place, truncater, guarding });
  running = now;
  const startMs = performance.now();
  // Of a guard that cannot be armed nothing is to be seen.
  if (guarding === null || guarding.refusal === null) {
    await unlessLost(() => now.run(), [() => place.lost(), async () => (await guarding?.lost()) ?? null]);
  }
  const result = now.result(before, (performance.now() - startMs) / 1000);
  await truncater.close();
  await guarding?.close();
  closeSync(fd);
  await place.close();
  return result;
}

const say = (message: FromLinuxRaces): Promise<void> => send(message);

tieToParent();
disableCoreDumps();
process.on("message", (order: ToLinuxRaces) => {
  void race(order).then(
    (result) => say({ type: "result", result }),
    async (error: unknown) => {
      if (!(error instanceof GuestError || error instanceof BootImageError)) return failHelper(error);
      await say({ type: "no-guest", message: error.message });
      return process.exit(0);
    },
  );
});
