/**
 * The VM process of `daxfault bench fence`: entry point. One VM for all rounds: its tasks load from a page of the file in
 * the window over and over; another process truncates the file; the fence turns the loop into an exit, the policy injects
 * a page fault, the guest sends the task SIGBUS; the file grows again. A VM that is lost is counted and replaced.
 */
import { closeSync, ftruncateSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { MAP_SHARED, mmap, munmap, PROT_READ, PROT_WRITE } from "../../../sys/src/index.ts";
import {
  Fence,
  guestTimeMs,
  type Machine,
  type MachineHandlers,
  type MachineRun,
  monotonicMs,
  openMachine,
  plainMachine,
  runMachine,
  type TaskProgram,
  WINDOW_BASE,
} from "../../../vmm/src/index.ts";
import { AskedChild } from "../engines/asked-child.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import { failHelper } from "../engines/helper.ts";
import { within } from "../within.ts";
import type {
  FencePlan,
  FenceReport,
  FenceSample,
  FromFenceVm,
  FromTruncator,
  ToFenceVm,
  ToTruncator,
} from "./fence-messages.ts";

/** A round takes milliseconds; one that takes as long is a VM that hangs. */
const ROUND_BOUND_MS = 5000;
const LOSSES_MAX = 20;
const PROGRESS_EVERY = 100;
const PAGE_OFFSET = 0x1000n;

/** Signals: two of each vCPU's task, one of the host's, and one that is never raised. */
const SPINNING = 0;
const REPORTED = 1;
const REGROWN = 8;
const NEVER = 9;
/** Step of the loads in `programOf`. */
const LOAD_STEP = 1;

function programOf(cpu: number): TaskProgram {
  const signal = (verb: "signal" | "await", number: number) =>
    ({ verb, size: 0, address: BigInt(number), value: 0n }) as const;
  return {
    cpl: 3,
    cpu,
    onSigbus: "next-step",
    steps: [
      signal("signal", 2 * cpu + SPINNING),
      { verb: "load", size: 8, address: WINDOW_BASE + PAGE_OFFSET, value: 0n, until: NEVER },
      signal("signal", 2 * cpu + REPORTED),
      signal("await", REGROWN),
      { verb: "again", size: 0, address: 0n, value: 0n },
    ],
  };
}

class Truncator {
  readonly #child: AskedChild<ToTruncator, FromTruncator>;
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
    this.#child = new AskedChild({
      entry: "harness/src/bench/truncator-main.ts",
      directory: dirname(path),
      name: "the truncater",
    });
  }

  /** When truncate(2) had returned. */
  async truncate(sizeBytes: number): Promise<number> {
    const { atMs } = await this.#child.ask({ type: "truncate", path: this.#path, sizeBytes });
    return atMs;
  }

  close(): Promise<void> {
    return this.#child.close();
  }
}

/** Something that several parties must reach in a round. */
class Gate {
  readonly #needed: number;
  readonly #reached = new Set<number>();
  #open: () => void = () => {};
  promise: Promise<void>;

  constructor(needed: number) {
    this.#needed = needed;
    this.promise = this.#next();
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  reach(who: number): void {
    this.#reached.add(who);
    if (this.#reached.size >= this.#needed) this.#open();
  }

  reset(): void {
    this.#reached.clear();
    this.promise = this.#next();
  }
}

type RawSample = { readonly cutMs: number; readonly exitMs: number; readonly toldTsc: bigint };

/** One VM and its rounds, until they are done or it is lost. */
class FencedVm {
  readonly #plan: FencePlan;
  readonly #truncator: Truncator;
  readonly #machine: Machine;
  readonly #run: MachineRun;
  readonly #fence: Fence | null;
  readonly #windowHva: bigint;
  readonly #spinning: Gate;
  readonly #reported: Gate;
  readonly #unfenced = new Gate(1);
  readonly #exits = new Map<number, number>();
  readonly #raw: RawSample[] = [];
  readonly cpuMs: number[] = [];
  #loss = "";
  #onLoss: () => void = () => {};
  readonly #lost: Promise<void> = new Promise((resolve) => {
    this.#onLoss = resolve;
  });
  #isEnding = false;
  loop: { readonly faultsPerSecond: number } | null = null;
  wasTold = false;

  constructor(plan: FencePlan, truncator: Truncator) {
    this.#plan = plan;
    this.#truncator = truncator;
    const { path, fileBytes, vcpus } = plan;
    const fd = openSync(path, "r+");
    ftruncateSync(fd, fileBytes);
    this.#windowHva = mmap({ lengthBytes: fileBytes, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
    closeSync(fd);
    this.#spinning = new Gate(vcpus);
    this.#reported = new Gate(vcpus);
    const programs = Array.from({ length: vcpus }, (_, cpu) => programOf(cpu));
    this.#machine = openMachine({
      ...plainMachine,
      lapicInKernel: true,
      pageFaultIsError: true,
      windowHva: this.#windowHva,
      windowBytes: fileBytes,
      programs,
      policy: "inject-pf",
    });
    const mapping = { hva: this.#windowHva, fileOffset: 0n, lengthBytes: BigInt(fileBytes) };
    this.#fence = plan.hasFence
      ? new Fence(path, [mapping], ({ kind }) => {
          if (kind === "unfence") this.#unfenced.reach(0);
        })
      : null;
    this.#run = runMachine(this.#machine, this.#handlers());
  }

  #handlers(): MachineHandlers {
    return {
      signal: ({ cpu, number }) => {
        if (number % 2 === SPINNING) this.#spinning.reach(cpu);
        else {
          this.wasTold = true;
          this.#reported.reach(cpu);
        }
      },
      handled: ({ cpu, atMs }) => {
        if (!this.#exits.has(cpu)) this.#exits.set(cpu, atMs);
      },
      looping: (message) => {
        this.loop = message;
      },
      unstuck: () => {
        this.loop = null;
      },
      stopped: ({ exit, reason }) => this.#lose(`KVM_RUN: ${exit.kind}: ${reason}`),
      ended: ({ why }) => {
        if (!this.#isEnding) this.#lose(JSON.stringify(why));
      },
    };
  }

  #lose(why: string): void {
    if (this.#loss === "") this.#loss = why;
    this.#onLoss();
  }

  /** True if it happens in time and the VM lives. */
  async #reached(what: string, promise: Promise<unknown>): Promise<boolean> {
    const first = Promise.race([promise.then(() => true), this.#lost.then(() => false)]);
    if (!(await within(first, ROUND_BOUND_MS))) {
      this.#lose(`not ${what} within ${ROUND_BOUND_MS} ms`);
      return false;
    }
    return first;
  }

  /** One round; false if the VM is lost. */
  async round(): Promise<boolean> {
    const { channel } = this.#machine;
    if (!(await this.#reached("spinning", this.#spinning.promise))) return false;
    this.#spinning.reset();
    this.#exits.clear();
    channel.lower(REGROWN);
    const before = process.cpuUsage();
    const cutMs = await this.#truncator.truncate(0);
    if (!(await this.#reached("told", this.#reported.promise))) return false;
    this.#reported.reset();
    const burnt = process.cpuUsage(before);
    this.cpuMs.push((burnt.user + burnt.system) / 1000);
    for (let cpu = 0; cpu < this.#plan.vcpus; cpu++) {
      const exitMs = this.#exits.get(cpu);
      const toldTsc = channel.result(cpu, LOAD_STEP).ended;
      if (exitMs !== undefined) this.#raw.push({ cutMs, exitMs, toldTsc });
    }
    this.#unfenced.reset();
    const grown = Promise.all([this.#truncator.truncate(this.#plan.fileBytes), this.#unfenced.promise]);
    if (!(await this.#reached("open again", grown))) return false;
    channel.raise(REGROWN);
    return true;
  }

  /** The first truncation without a fence: the vCPU is left alone with it. */
  async unfenced(): Promise<FenceReport["unfenced"]> {
    if (!(await this.#reached("spinning", this.#spinning.promise))) return null;
    await this.#truncator.truncate(0);
    const [before, machineBefore, sinceMs] = [process.cpuUsage(), machineCpuMs(), monotonicMs()];
    await new Promise((resolve) => setTimeout(resolve, this.#plan.watchMs));
    const watchedMs = monotonicMs() - sinceMs;
    const burnt = process.cpuUsage(before);
    return {
      watchedMs,
      isLooping: this.loop !== null,
      wasTold: this.wasTold,
      faultsPerSecond: this.loop?.faultsPerSecond ?? 0,
      processCpu: (burnt.user + burnt.system) / 1000 / watchedMs,
      machineCpu: (machineCpuMs() - machineBefore) / watchedMs,
    };
  }

  get loss(): string {
    return this.#loss;
  }

  samples(): readonly FenceSample[] {
    const clock = this.#run.final()?.clock ?? null;
    if (clock === null) return [];
    return this.#raw.map(({ cutMs, exitMs, toldTsc }) => ({
      exitMs: exitMs - cutMs,
      toldMs: guestTimeMs(clock, toldTsc) - cutMs,
    }));
  }

  async close(): Promise<void> {
    this.#isEnding = true;
    await this.#run.end();
    this.#fence?.close();
    this.#machine.close();
    munmap(this.#windowHva, this.#plan.fileBytes);
  }
}

/** CPU time of the whole machine so far, kernel threads included: /proc/stat, all but idle and iowait; ticks of 10 ms. */
function machineCpuMs(): number {
  const fields = (readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "").split(/\s+/).slice(1).map(Number);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = fields;
  return (user + nice + system + irq + softirq) * 10;
}

const report = (message: FromFenceVm): Promise<void> => send(message);

async function run(plan: FencePlan): Promise<void> {
  const truncator = new Truncator(plan.path);
  const samples: FenceSample[] = [];
  const cpuMs: number[] = [];
  const losses: string[] = [];
  let unfenced: FenceReport["unfenced"] = null;
  let done = 0;
  while (done < plan.rounds && losses.length < LOSSES_MAX) {
    const vm = new FencedVm(plan, truncator);
    if (!plan.hasFence) {
      unfenced = await vm.unfenced();
      done = plan.rounds;
    }
    while (done < plan.rounds && (await vm.round())) {
      done += 1;
      if (done % PROGRESS_EVERY === 0) void report({ type: "round", done });
    }
    if (vm.loss !== "") losses.push(vm.loss);
    await vm.close();
    samples.push(...vm.samples());
    cpuMs.push(...vm.cpuMs);
  }
  await truncator.close();
  await report({ type: "report", report: { rounds: done, samples, cpuMs, losses, unfenced } });
  process.disconnect?.();
}

tieToParent();
process.on("message", ({ plan }: ToFenceVm) => {
  run(plan).catch(failHelper);
});
