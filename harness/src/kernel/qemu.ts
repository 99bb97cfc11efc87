/**
 * QEMU: is it there, how does it run a kernel here, and with which command. KVM where the host offers nested
 * virtualization, else TCG, which emulates AMD's SVM with nested paging: kvm_amd then runs inside on any machine.
 */
import { execFileSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { CHANNEL_PORT, type KvmModule, ROOT_TAG, SWAP_SERIAL } from "./devices.ts";
import { KernelError } from "./error.ts";

const QEMU = "qemu-system-x86_64";

export type Accelerator = "kvm" | "tcg";

export type Qemu = {
  /** `7.2.22`, with the distribution's own suffix. */
  readonly version: string;
  readonly accelerator: Accelerator;
  /** Why that one. */
  readonly why: string;
  /** Behind /dev/kvm inside. */
  readonly kvmModule: KvmModule;
};

/** How much longer than on the machine itself a case takes at most: limits are multiplied by it. */
export function slownessOf(accelerator: Accelerator): number {
  return accelerator === "kvm" ? 2 : 8;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

/** KVM if a VM of this machine's KVM can run VMs itself, else emulation, which has AMD's. */
function chooseAccelerator(): Omit<Qemu, "version"> {
  const emulated = (why: string) => ({ accelerator: "tcg", why, kvmModule: "kvm_amd" }) as const;
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch {
    return emulated("/dev/kvm cannot be used");
  }
  for (const kvmModule of ["kvm_intel", "kvm_amd"] as const) {
    if (/^[Y1]/.test(readText(`/sys/module/${kvmModule}/parameters/nested`))) {
      return { accelerator: "kvm", why: `${kvmModule} offers nested virtualization`, kvmModule };
    }
  }
  return emulated("no kvm_intel or kvm_amd with nested virtualization on this machine");
}

/** What QEMU says of itself, by PATH: a process asks once. null: there is none, which is asked again. */
const versionTexts = new Map<string, string>();

function versionText(): string | null {
  const path = process.env.PATH ?? "";
  const known = versionTexts.get(path);
  if (known !== undefined) return known;
  try {
    const text = execFileSync(QEMU, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    versionTexts.set(path, text);
    return text;
  } catch {
    return null;
  }
}

/** Asks QEMU; null if there is none. `DAXFAULT_NO_QEMU=1` simulates that. */
export function findQemu(): Qemu | null {
  if (process.env.DAXFAULT_NO_QEMU === "1") return null;
  const text = versionText();
  if (text === null) return null;
  const version = /version (\S+(?: \([^)]*\))?)/.exec(text)?.[1] ?? "unknown";
  return { version, ...chooseAccelerator() };
}

export const QEMU_FIX = "sudo apt-get install qemu-system-x86";

/** QEMU, or a KernelError that says what to install. */
export function requireQemu(): Qemu {
  const qemu = findQemu();
  if (qemu === null) throw new KernelError(`there is no ${QEMU} (${QEMU_FIX})`);
  return qemu;
}

export type QemuOptions = {
  readonly accelerator: Accelerator;
  readonly imagePath: string;
  readonly initramfsPath: string;
  /** A raw disk for temporary files; null: they are in memory. */
  readonly scratchPath: string | null;
  /** A raw disk with a swap header, unused until the program inside calls swapon(2). */
  readonly swapPath: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** The word that identifies this boot, on the kernel's command line. */
  readonly bootId: string;
  /** Descriptor of the socket that carries messages, inherited. */
  readonly channelFd: number;
};

/**
 * Of the swap disk. An image in the host's page cache answers within the time that an emulated CPU takes from submitting
 * the READ to testing whether the page is there: no task would ever wait. One READ is free, the next one at once after it
 * waits for a tenth of a second or more, which is a disk's latency at an emulated CPU's scale.
 */
const SWAP_READS_PER_SECOND = 5;
export const BOOT_ID_PARAMETER = "daxfault.boot";
export const MEMORY_MIB = 1536;

/** As many as help: two cases at a time. */
export function guestCpus(): number {
  return Math.max(1, Math.min(2, availableParallelism()));
}

/**
 * The kernel's command line. `panic=-1` with `-no-reboot`: a panic ends QEMU. Early output, so that a kernel that dies
 * before its console is up does not die in silence. The emulator's timers confuse the calibration of others.
 */
export function kernelCommandLine(bootId: string): string {
  return [
    "console=ttyS0",
    "earlyprintk=serial,ttyS0,115200",
    "panic=-1",
    "loglevel=4",
    "mitigations=off",
    "nokaslr",
    "tsc=reliable",
    "no_timer_check",
    // Node's start waits for random numbers: RDRAND's are good enough here, others take seconds to gather.
    "random.trust_cpu=on",
    `${BOOT_ID_PARAMETER}=${bootId}`,
  ].join(" ");
}

/** AMD's, for kvm_amd. */
const EMULATED_CPU = "qemu64,+svm,+npt,+rdrand,+ssse3,+sse4.1,+sse4.2,+popcnt";

/** Everything after `qemu-system-x86_64`. Pure. */
export function qemuArguments(options: QemuOptions): readonly string[] {
  const isKvm = options.accelerator === "kvm";
  return [
    // One thread for all emulated CPUs: with one each, a CPU may still run the int3 of a jump label that another has
    // finished patching (KVM patches one whenever the first or last vCPU without a local APIC comes or goes), an oops.
    ["-accel", isKvm ? "kvm" : "tcg,thread=single"],
    // As little as a distribution for x86-64-v2 needs: what is emulated besides only costs time.
    ["-cpu", isKvm ? "host" : EMULATED_CPU],
    ["-machine", "q35"],
    ["-smp", String(options.cpus)],
    ["-m", `${options.memoryMiB}M`],
    ["-nodefaults", "-no-user-config", "-no-reboot"],
    ["-display", "none"],
    ["-serial", "stdio"],
    ["-kernel", options.imagePath],
    ["-initrd", options.initramfsPath],
    ["-append", kernelCommandLine(options.bootId)],
    // The whole root file system, mounts in it included, and nothing of it can be changed.
    ["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"],
    ["-device", `virtio-9p-pci,fsdev=root,mount_tag=${ROOT_TAG}`],
    ["-chardev", `socket,id=channel,fd=${options.channelFd}`],
    ["-device", "virtio-serial-pci"],
    ["-device", `virtserialport,chardev=channel,name=${CHANNEL_PORT}`],
    ...(options.scratchPath === null
      ? []
      : [
          ["-drive", `file=${options.scratchPath},format=raw,if=none,id=scratch,cache=unsafe,discard=unmap`],
          // A device of its own: those of drives with if=virtio come behind all others, whatever the order here.
          ["-device", "virtio-blk-pci,drive=scratch"],
        ]),
    // Behind the scratch disk, which is the first one.
    [
      "-drive",
      `file=${options.swapPath},format=raw,if=none,id=swap,cache=unsafe,throttling.iops-read=${SWAP_READS_PER_SECOND}`,
    ],
    ["-device", `virtio-blk-pci,drive=swap,serial=${SWAP_SERIAL}`],
  ].flat();
}

export const qemuProgram: string = QEMU;
