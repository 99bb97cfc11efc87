/**
 * Linux guests on our VMM, one after the other, each from KVM_CREATE_VM to its end: entry point, started inside a kernel VM
 * or on a machine with KVM. The guest's program asks by the doorbell for the memory behind its file to be cut and grown again (`linux-scene.c` of the
 * tests); what the VMM saw and the guest's console go to standard output, one JSON object a line.
 */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MAP_SHARED, mmap, munmap, PROT_READ, PROT_WRITE } from "../../../sys/src/index.ts";
import {
  buildLinuxMachine,
  Fence,
  Kvm,
  type LinuxMachine,
  type LinuxRun,
  monotonicMs,
  type PageFaultForm,
  type PolicyName,
  runLinux,
} from "../../../vmm/src/index.ts";

/** The first argument names a file with a list of these, as JSON. */
export type LinuxSceneOptions = {
  readonly name: string;
  readonly kernel: string;
  readonly initrd: string;
  /** Goes behind our own words of the command line. */
  readonly commandLine: string;
  /** An ext4 image; a copy of it is the guest's persistent memory. null: there is none. */
  readonly image: string | null;
  readonly ramMiB: number;
  readonly cpus: number;
  readonly vendor: "intel" | "amd" | null;
  readonly asyncPageFaults: "offered" | "hidden";
  readonly machineCheckRecovery: "offered" | "hidden";
  readonly isFenced: boolean;
  readonly policy: PolicyName;
  readonly pageFaultForm: PageFaultForm;
  readonly lifeMs: number;
};

/** A line of the output. */
export type LinuxSceneEvent = { readonly scene: string; readonly atMs: number } & (
  | { readonly type: "line"; readonly text: string }
  | { readonly type: "cut" | "grown" }
  | {
      readonly type: "fault";
      readonly detail: string;
      readonly rip: string;
      readonly cpl: number;
      readonly gva: string;
    }
  | { readonly type: "looping"; readonly faultsPerSecond: number; readonly overMs: number }
  | { readonly type: "ended"; readonly how: string }
);

/** Quiet, and none of what this machine has not: each character is an exit, each probe some. */
const COMMAND_LINE =
  "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr reboot=k " +
  "random.trust_cpu=on 8250.nr_uarts=1";
const EMPTY_WINDOW_BYTES: number = 2 * 2 ** 20;
/** Words of the doorbell: a command in the high four bits, a page's number below. */
const doorbell = { cut: 1, grow: 2, over: 3 } as const;
const PAGE_SHIFT = 12;
const FENCE_BOUND_MS = 10_000;
/** A console that carries the output has lines of its own limit. */
const MAX_LINE_CHARACTERS = 300;

class Scene {
  readonly #options: LinuxSceneOptions;
  #startMs = monotonicMs();
  readonly #directory = mkdtempSync(join(tmpdir(), "daxfault-linux-"));
  readonly #path: string;
  readonly #file: number;
  readonly #bytes: number;
  readonly #hva: bigint;
  readonly #fence: Fence | null;
  #onFence = (): void => {};
  #machine: LinuxMachine | null = null;
  #run: LinuxRun | null = null;
  #end: string | null = null;

  constructor(options: LinuxSceneOptions) {
    this.#options = options;
    this.#path = join(this.#directory, "memory");
    if (options.image !== null) copyFileSync(options.image, this.#path);
    this.#file = openSync(this.#path, options.image === null ? "w+" : "r+");
    if (options.image === null) ftruncateSync(this.#file, EMPTY_WINDOW_BYTES);
    this.#bytes = options.image === null ? EMPTY_WINDOW_BYTES : readFileSync(this.#path).length;
    this.#hva = mmap({
      lengthBytes: this.#bytes,
      prot: PROT_READ | PROT_WRITE,
      flags: MAP_SHARED,
      fd: this.#file,
    });
    const mapping = { hva: this.#hva, fileOffset: 0n, lengthBytes: BigInt(this.#bytes) };
    this.#fence = options.isFenced ? new Fence(this.#path, [mapping], () => this.#onFence()) : null;
  }

  #say(
    event: LinuxSceneEvent extends infer E ? (E extends unknown ? Omit<E, "atMs" | "scene"> : never) : never,
  ): void {
    const atMs = Math.round(monotonicMs() - this.#startMs);
    process.stdout.write(`@@ ${JSON.stringify({ scene: this.#options.name, atMs, ...event })}\n`);
  }

  /** Changes the file's size, and waits for the fence to follow. */
  async #resize(bytes: number): Promise<void> {
    if (fstatSync(this.#file).size === bytes) return;
    if (this.#fence === null) {
      ftruncateSync(this.#file, bytes);
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const limit = setTimeout(() => reject(new Error("the fence did not follow")), FENCE_BOUND_MS);
      this.#onFence = () => {
        clearTimeout(limit);
        resolve();
      };
      ftruncateSync(this.#file, bytes);
    });
  }

  async #doorbell(value: number): Promise<void> {
    const page = value & 0xfffffff;
    switch (value >>> 28) {
      case doorbell.cut:
        await this.#resize(page << PAGE_SHIFT);
        this.#machine?.watched.set(true);
        this.#say({ type: "cut" });
        return;
      case doorbell.grow:
        await this.#resize(this.#bytes);
        this.#say({ type: "grown" });
        return;
      case doorbell.over:
        this.#machine?.watched.set(false);
    }
  }

  #stop(how: string): void {
    this.#end ??= how;
    this.#run?.stop();
  }

  #machineOptions(): Parameters<typeof buildLinuxMachine>[1] {
    const options = this.#options;
    const { cpus, vendor, asyncPageFaults, machineCheckRecovery, policy, pageFaultForm } = options;
    return {
      kernel: readFileSync(options.kernel),
      initrd: readFileSync(options.initrd),
      commandLine: `${COMMAND_LINE} ${options.commandLine}`.trim(),
      ramBytes: options.ramMiB * 2 ** 20,
      sharedBytes: 0,
      cpu: { cpus, ...(vendor === null ? {} : { vendor }), asyncPageFaults, machineCheckRecovery },
      window: {
        hva: this.#hva,
        sizeBytes: this.#bytes,
        as: options.image === null ? "device" : "persistent",
      },
      devices: () => [],
      policy,
      pageFaultForm,
    };
  }

  async play(): Promise<void> {
    const kvm = Kvm.open();
    this.#startMs = monotonicMs();
    const machine = buildLinuxMachine(kvm, this.#machineOptions());
    this.#machine = machine;
    const run = runLinux(machine, {
      line: (text) => this.#say({ type: "line", text: text.slice(0, MAX_LINE_CHARACTERS) }),
      doorbell: (value) => this.#doorbell(value),
      handled: ({ detail, place }) => this.#fault(detail, place),
      stopped: ({ reason, place, exit }) => {
        this.#fault(`stopped: ${exit.kind}: ${reason}`, place);
        this.#stop(`stopped: ${reason}`);
      },
      looping: ({ faultsPerSecond, overMs }) => {
        this.#say({ type: "looping", faultsPerSecond, overMs });
        this.#stop("looping");
      },
      ended: ({ why }) => {
        this.#end ??= "how" in why ? why.how : "message" in why ? why.message : why.kind;
      },
    });
    this.#run = run;
    const limit = setTimeout(() => this.#stop("its time is over"), this.#options.lifeMs);
    await run.exited;
    clearTimeout(limit);
    this.#say({ type: "ended", how: this.#end ?? "unknown" });
    machine.close();
    kvm.close();
  }

  #fault(detail: string, place: { rip: bigint; cpl: number; gva: bigint } | null): void {
    const hex = (value: bigint | undefined): string => `0x${(value ?? 0n).toString(16)}`;
    this.#say({ type: "fault", detail, rip: hex(place?.rip), cpl: place?.cpl ?? -1, gva: hex(place?.gva) });
  }

  close(): void {
    this.#fence?.close();
    munmap(this.#hva, this.#bytes);
    closeSync(this.#file);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const [, program = "", list = ""] = process.argv;
const scenes = JSON.parse(readFileSync(list, "utf8")) as readonly LinuxSceneOptions[];
const [only] = scenes;
if (only !== undefined && scenes.length === 1) {
  const scene = new Scene(only);
  try {
    await scene.play();
  } finally {
    scene.close();
  }
} else {
  // A process each: what a guest leaves behind, memory above all, goes with it.
  for (const options of scenes) {
    const directory = mkdtempSync(join(tmpdir(), "daxfault-linux-"));
    const one = join(directory, "scene.json");
    writeFileSync(one, JSON.stringify([options]));
    spawnSync(process.execPath, [program, one], { stdio: "inherit" });
    rmSync(directory, { recursive: true, force: true });
  }
}
process.exit(0);
