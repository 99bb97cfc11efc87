/**
 * A race on the micro-guest: it touches the file all the time, a host truncates it, a guard between them, one VM for all
 * rounds. No APIC in the kernel: each touch of a lost page is an exit, and none can be missed in a loop.
 */
import { openSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { checkedRange, type GuardEvent } from "../../../fs-server/src/index.ts";
import { disableCoreDumps, PAGE_SIZE } from "../../../sys/src/index.ts";
import {
  type Channel,
  MmapWindow,
  openMachine,
  PageStates,
  plainMachine,
  runMachine,
  type TaskProgram,
  WINDOW_BASE,
  WindowHolder,
} from "../../../vmm/src/index.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import { failHelper } from "../engines/helper.ts";
import { type Guarding, guardFile } from "../engines/vm/guard.ts";
import { LOAD_OFFSET, RACE_FILE_BYTES, type RaceOptions, type RaceResult, STORE_OFFSET } from "./race.ts";
import { openRacePlace, writeRaceFile } from "./race-place.ts";
import { totalsOf } from "./race-round.ts";
import { contentOf, HostTruncater, NEVER_RAISED, Rounds, unlessLost } from "./race-rounds.ts";

/** As long as a notification takes. */
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

function openWindow(fd: number): { readonly window: MmapWindow; readonly states: PageStates } {
  const window = new MmapWindow(BigInt(RACE_FILE_BYTES));
  const range = checkedRange(0n, window.sizeBytes, window.sizeBytes, BigInt(PAGE_SIZE));
  window.map(range, fd, 0n, { writable: true });
  return { window, states: new PageStates(window.hva, RACE_FILE_BYTES) };
}

type Ran = {
  readonly options: RaceOptions;
  readonly rounds: Rounds;
  readonly channel: Channel;
  readonly refusal: string | null;
  readonly seconds: number;
};

function resultOfRace({ options, rounds, channel, refusal, seconds }: Ran): RaceResult {
  const [loads, stores] = programs(options).map((_, task) => channel.tally(task, 0));
  return {
    ...options,
    ...totalsOf(rounds.results),
    refusal,
    done: rounds.results.length,
    stuck: rounds.isStuck,
    loads: Number(loads?.accesses ?? 0n),
    stores: Number(stores?.accesses ?? 0n),
    staleLoads: Number(loads?.stale ?? 0n),
    zeroLoads: Number(loads?.zeros ?? 0n),
    sigbus: Number((loads?.sigbusCount ?? 0n) + (stores?.sigbusCount ?? 0n)),
    seconds,
    linux: null,
  };
}

async function race(options: RaceOptions, directory: string, source: string): Promise<RaceResult> {
  const { guard, ways } = options;
  const place = await openRacePlace(options, { directory, source, slowness: 1 });
  const fd = openSync(place.path, "r+");
  let rounds: Rounds | null = null;
  const onEvent = (event: GuardEvent): void => rounds?.guarded(event, mapped);
  const guarding: Guarding | null =
    guard === "none" ? null : await guardFile({ name: guard, leaseSocket: place.leaseSocket }, fd, onEvent);
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
  // A sealed copy has no name: it is attacked where root finds it.
  const path = guard === "sealed" ? `/proc/${process.pid}/fd/${mapped}` : place.path;
  const truncater = new HostTruncater(directory, { path, mounted: place.mounted, opensNow: false });
  rounds = new Rounds({
    guest: {
      tasks: programs(options).map((_, task) => task),
      channel: machine.channel,
      states,
      hvaOf: (offset) => window.hva + BigInt(offset),
      faults: () => null,
      isOver: () => false,
      pause: nextTurn,
    },
    truncater,
    ways,
    isRecalled: guarding !== null && guarding.refusal === null && guard !== "sealed",
    unguardedMs: NOTIFICATION_MS,
    slowness: 1,
  });
  const running = rounds;
  const guest = runMachine(machine, {});
  const startMs = performance.now();
  const losses = [() => place.lost(), async () => (await guarding?.lost()) ?? null];
  await unlessLost(() => running.run(0, options.rounds), losses);
  const seconds = (performance.now() - startMs) / 1000;
  const refusal = guarding?.refusal ?? null;
  const result = resultOfRace({ options, rounds, channel: machine.channel, refusal, seconds });
  await guest.end();
  await truncater.close();
  await guarding?.close();
  await place.close();
  machine.close();
  window.close();
  return result;
}

tieToParent();
disableCoreDumps();
process.on("message", (message: { readonly options: RaceOptions; readonly source: string }) => {
  writeRaceFile(message.source);
  void race(message.options, process.cwd(), message.source).then(async (result) => {
    await send({ type: "result", result });
    process.disconnect?.();
  }, failHelper);
});
