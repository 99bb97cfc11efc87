/**
 * The features of this machine: probed once, for engines, doctor and tests alike.
 * Features are tried, versions never compared. `DAXFAULT_NO_KVM=1`, `DAXFAULT_NO_FUSE=1`, `DAXFAULT_NO_ROOT=1`
 * simulate their absence.
 */
import { execFileSync } from "node:child_process";
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { arch, release } from "node:os";
import { join } from "node:path";
import { type Actor, isOnTmpfs, type Scenario, usesMount } from "../../language/src/index.ts";
import {
  fileSystemOf,
  HARD_OFFLINE_PAGE,
  PAGE_SIZE,
  swapRefusal,
  userfaultRefusal,
} from "../../sys/src/index.ts";
import { KVM_API_VERSION, Kvm } from "../../vmm/src/index.ts";
import type { Support } from "./engine.ts";
import { errorLine } from "./error-text.ts";
import { builtPath, runDirectoryParent } from "./paths.ts";

/** One thing that an engine may need. */
export type Feature =
  | { readonly kind: "present"; readonly detail: string }
  | {
      readonly kind: "missing";
      /** Why, as found. */
      readonly reason: string;
      /** The one command, or the one step, that mends it; null if nothing does. */
      readonly fix: string | null;
    };

export const featureNames = [
  "kvm",
  "micro-guest",
  "steps",
  "linux-guest",
  "fuse",
  "fuse-native",
  "root",
  "swap",
  "hugetlb",
  "userfaultfd",
  "memory-failure",
  "direct-io",
  "mmap-io",
] as const;
export type FeatureName = (typeof featureNames)[number];

/** A machine's properties and features. */
export type MachineFacts = {
  readonly kernel: string;
  readonly node: string;
  readonly pageSize: number;
  /** Module behind /dev/kvm: kvm_intel, kvm_amd, kvm_pvm; null without the device. */
  readonly kvmBackend: string | null;
  /** Parameters of all KVM modules: `kvm_amd.npt` -> `Y`. */
  readonly kvmParameters: Readonly<Record<string, string>>;
  /** Where run folders lie, and on what file system. */
  readonly runDirectory: { readonly path: string; readonly fileSystem: string };
  readonly features: Readonly<Record<FeatureName, Feature>>;
};

const DEVICE = "/dev/kvm";

const isSet = (name: string): boolean => process.env[name] === "1";

function simulated(name: string): Feature | null {
  if (!isSet(name)) return null;
  return { kind: "missing", reason: `${name}=1 says so`, fix: `unset ${name}` };
}

/** The group's name in the text of /etc/group; null: it has none there. */
function groupName(gid: number, groups: string): string | null {
  const fields = groups.split("\n").map((line) => line.split(":"));
  return fields.find(([, , number]) => number === String(gid))?.[0] ?? null;
}

/**
 * What gives access to a device that refuses it. Membership of its group, where the group may read and write and is one
 * of /etc/group: an image without udev has the device as root:root, and no group kvm.
 */
export function accessFix(
  device: string,
  { gid, mode }: { readonly gid: number; readonly mode: number },
  groups: string,
): string {
  const name = groupName(gid, groups);
  const isOpenToGroup = (mode & 0o060) === 0o060;
  return gid !== 0 && isOpenToGroup && name !== null
    ? `sudo usermod -aG ${name} $USER, then log in again`
    : `sudo chmod 0666 ${device}`;
}

function readGroups(): string {
  try {
    return readFileSync("/etc/group", "utf8");
  } catch {
    return "";
  }
}

/** Why there is no /dev/kvm. `isOffered`: the kernel has the device. `module`: a KVM module that the kernel has. */
export function lackOfKvmDevice(isOffered: boolean, module: string | null): Feature {
  if (isOffered) {
    const reason = `${DEVICE} does not exist, though this kernel offers it: a container is not given it by itself`;
    return { kind: "missing", reason, fix: "start the container with --device /dev/kvm" };
  }
  if (module !== null) {
    const reason = `${DEVICE} does not exist: ${module} is in this kernel, but has not found what it needs of the CPU`;
    return {
      kind: "missing",
      reason,
      fix: "sudo dmesg | grep -i kvm says what; in a VM: nested virtualization",
    };
  }
  return {
    kind: "missing",
    reason: `${DEVICE} does not exist: no KVM module is loaded, or this is a VM without nested virtualization`,
    fix: "sudo modprobe -a kvm_intel kvm_amd",
  };
}

function readKvm(): Feature {
  if (!existsSync(DEVICE)) return lackOfKvmDevice(existsSync("/sys/class/misc/kvm"), readModule());
  try {
    Kvm.open(DEVICE).close();
  } catch (error) {
    const denied = (error as NodeJS.ErrnoException).code === "EACCES";
    return {
      kind: "missing",
      reason: `${DEVICE} cannot be used: ${errorLine(error)}`,
      fix: denied ? accessFix(DEVICE, statSync(DEVICE), readGroups()) : null,
    };
  }
  return {
    kind: "present",
    detail: `${DEVICE}, API version ${KVM_API_VERSION}, ${readBackend() ?? "unknown module"}`,
  };
}

function readBackend(): string | null {
  return existsSync(DEVICE) ? readModule() : null;
}

function readModule(): string | null {
  if (isSet("DAXFAULT_NO_KVM") || !existsSync("/sys/module")) return null;
  const modules = readdirSync("/sys/module").filter((name) => /^kvm_(?!mmu)/.test(name));
  return modules.sort()[0] ?? null;
}

/** Parameters of kvm, kvm_amd ..; those that may not be read are left out. */
function readKvmParameters(): Record<string, string> {
  const parameters: Record<string, string> = {};
  if (isSet("DAXFAULT_NO_KVM") || !existsSync("/sys/module")) return parameters;
  const modules = readdirSync("/sys/module").filter((name) => /^kvm(_|$)/.test(name));
  for (const module of modules.sort()) {
    const folder = `/sys/module/${module}/parameters`;
    for (const name of existsSync(folder) ? readdirSync(folder).sort() : []) {
      try {
        parameters[`${module}.${name}`] = readFileSync(`${folder}/${name}`, "utf8").trim();
      } catch {
        // Write-only, or not for us.
      }
    }
  }
  return parameters;
}

function isCommand(name: string): boolean {
  try {
    execFileSync("sh", ["-c", `command -v ${name}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** What vmm/guest/build makes. */
function readBuilt(what: string, file: string): Feature {
  if (arch() !== "x64") {
    return { kind: "missing", reason: `${what} is x86-64 code, this machine is ${arch()}`, fix: null };
  }
  if (existsSync(builtPath(file))) return { kind: "present", detail: "built" };
  return isCommand("gcc")
    ? { kind: "missing", reason: `${what} is not built`, fix: "scripts/build" }
    : {
        kind: "missing",
        reason: `${what} is not built and there is no gcc`,
        fix: "sudo apt-get install gcc binutils",
      };
}

/** Does KVM here run a Linux kernel in a time that can be waited for? */
function readLinuxGuest(): Feature {
  if (readBackend() === "kvm_pvm") {
    return {
      kind: "missing",
      reason: "kvm_pvm interprets CPL 0, a million instructions a second: no Linux guest comes up",
      fix: "daxfault run --engine linux --kernel debian:6.12",
    };
  }
  return readBuilt("the guest's program", "vmm/guest/steps");
}

function loads(packageName: string): Error | null {
  try {
    createRequire(import.meta.url).resolve(packageName);
    // In another process: a native module that crashes while loading must not take this one with it.
    execFileSync(process.execPath, ["-e", "require(process.argv[1])", packageName], {
      stdio: ["ignore", "ignore", "pipe"],
      cwd: builtPath(""),
    });
    return null;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function readFuse(): Feature {
  const device = "/dev/fuse";
  if (!existsSync(device)) {
    return { kind: "missing", reason: `${device} does not exist`, fix: "sudo modprobe fuse" };
  }
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
  } catch (error) {
    return { kind: "missing", reason: errorLine(error), fix: `sudo chmod 0666 ${device}` };
  }
  const helper = ["fusermount3", "fusermount"].find(isCommand);
  if (helper === undefined) {
    return {
      kind: "missing",
      reason: "neither fusermount3 nor fusermount is installed",
      fix: "sudo apt-get install fuse3",
    };
  }
  if (!existsSync(builtPath("fs-server/src/serve-main.ts"))) {
    return { kind: "missing", reason: "the FUSE server is not built", fix: "scripts/build" };
  }
  return { kind: "present", detail: `${device}, ${helper}` };
}

function readFuseNative(): Feature {
  if (loads("fuse-native") === null) return { kind: "present", detail: "loads" };
  return {
    kind: "missing",
    reason: "the package fuse-native does not load",
    fix: "sudo apt-get install make g++ python3 && npm install && npm rebuild fuse-native",
  };
}

function readRoot(): Feature {
  if (process.getuid?.() === 0) return { kind: "present", detail: "uid 0" };
  return { kind: "missing", reason: "not root: no tmpfs can be mounted", fix: "sudo scripts/daxfault run" };
}

/** Never turned on for the user: a VM that boots a kernel brings its own (machines/kernel/inside-main.ts). */
function readSwap(): Feature {
  const reason = swapRefusal();
  if (reason === null) return { kind: "present", detail: "on, and not in memory" };
  return {
    kind: "missing",
    reason,
    fix: "scripts/daxfault run 'load-of-swapped*' --kernel debian:backports",
  };
}

const HUGETLB_POOL = "/proc/sys/vm/nr_hugepages";
const HUGETLB_SURPLUS = "/sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages";
const HUGETLB_OVERCOMMIT = "/proc/sys/vm/nr_overcommit_hugepages";
/** Pages of 2 MiB that a case may want of the pool. */
export const HUGE_PAGES = 16;

function numberIn(path: string): number {
  try {
    return Number(readFileSync(path, "utf8"));
  } catch {
    return 0;
  }
}

/** The pool is never changed for the user: a VM that boots a kernel has its own (machines/kernel/inside-main.ts). */
function readHugetlb(): Feature {
  if (!existsSync(HUGETLB_POOL))
    return { kind: "missing", reason: "the kernel has no hugetlbfs (CONFIG_HUGETLBFS)", fix: null };
  const pages = numberIn(HUGETLB_POOL) + numberIn(HUGETLB_OVERCOMMIT);
  if (pages >= HUGE_PAGES) return { kind: "present", detail: `${pages} pages at most` };
  return {
    kind: "missing",
    reason: `the pool of huge pages may have ${pages} pages, ${HUGE_PAGES} are needed`,
    fix: `sudo sysctl vm.nr_overcommit_hugepages=${HUGE_PAGES}`,
  };
}

/**
 * Lets the kernel add pages to the pool, between two cases. What it has added and still has then is lost to a memory failure, and
 * is never given back. Changes the machine: only the agent inside a VM of its own may call it.
 */
export function allowHugePages(): void {
  if (!existsSync(HUGETLB_OVERCOMMIT)) return;
  writeFileSync(HUGETLB_OVERCOMMIT, `${HUGE_PAGES + numberIn(HUGETLB_SURPLUS)}\n`);
}

function readUserfaultfd(): Feature {
  const reason = userfaultRefusal();
  if (reason === null) return { kind: "present", detail: "for faults of the kernel, too" };
  return { kind: "missing", reason, fix: "sudo sysctl vm.unprivileged_userfaultfd=1" };
}

let isOwnMachine = false;

/** Said by the agent inside a VM of its own: what is done to this machine ends with it. */
export function ownMachine(): void {
  isOwnMachine = true;
}

/** Takes a page of memory out of use for good: never on a user's machine. */
function readMemoryFailure(): Feature {
  if (!isOwnMachine) {
    return {
      kind: "missing",
      reason: "a page that has failed is lost to this machine until it boots again",
      fix: "scripts/daxfault run 'load-after-memory-failure*' --kernel debian:6.12",
    };
  }
  return existsSync(HARD_OFFLINE_PAGE)
    ? { kind: "present", detail: HARD_OFFLINE_PAGE }
    : {
        kind: "missing",
        reason: "the kernel cannot fail a page (CONFIG_MEMORY_FAILURE, CONFIG_MEMORY_HOTPLUG)",
        fix: null,
      };
}

/** tmpfs has it since 6.6, others never. */
function readDirectIo(): Feature {
  const path = join(runDirectoryParent, `daxfault-direct-io-${process.pid}`);
  const { O_RDWR, O_CREAT, O_EXCL, O_DIRECT } = constants;
  try {
    closeSync(openSync(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0o600));
    return { kind: "present", detail: `O_DIRECT in ${runDirectoryParent}` };
  } catch (error) {
    return {
      kind: "missing",
      reason: `no file of ${runDirectoryParent} can be opened with O_DIRECT: ${errorLine(error)}`,
      fix: "TMPDIR=/var/tmp scripts/daxfault run",
    };
  } finally {
    rmSync(path, { force: true });
  }
}

function readMmapIo(): Feature {
  if (loads("mmap-io") === null) return { kind: "present", detail: "loads" };
  return {
    kind: "missing",
    reason: `the package mmap-io does not load in Node ${process.version}`,
    fix: "sudo apt-get install make g++ python3 && npm install && npm rebuild mmap-io",
  };
}

const readers: Readonly<Record<FeatureName, () => Feature>> = {
  kvm: () => simulated("DAXFAULT_NO_KVM") ?? readKvm(),
  "micro-guest": () => readBuilt("the micro-guest", "vmm/guest/microguest.bin"),
  steps: () => readBuilt("the program that runs tasks as processes", "vmm/guest/steps"),
  "linux-guest": readLinuxGuest,
  fuse: () => simulated("DAXFAULT_NO_FUSE") ?? readFuse(),
  root: () => simulated("DAXFAULT_NO_ROOT") ?? readRoot(),
  swap: readSwap,
  hugetlb: readHugetlb,
  userfaultfd: readUserfaultfd,
  "memory-failure": readMemoryFailure,
  "direct-io": readDirectIo,
  "mmap-io": readMmapIo,
  "fuse-native": readFuseNative,
};

/** Each feature is tried when it is first asked about: some take a process to try. */
function lazyFeatures(): Readonly<Record<FeatureName, Feature>> {
  const seen = new Map<FeatureName, Feature>();
  const features: Partial<Record<FeatureName, Feature>> = {};
  for (const name of featureNames) {
    Object.defineProperty(features, name, {
      enumerable: true,
      get() {
        const feature = seen.get(name) ?? readers[name]();
        seen.set(name, feature);
        return feature;
      },
    });
  }
  return features as Readonly<Record<FeatureName, Feature>>;
}

function inspect(): MachineFacts {
  return {
    kernel: release(),
    node: process.version,
    pageSize: PAGE_SIZE,
    kvmBackend: readBackend(),
    kvmParameters: readKvmParameters(),
    runDirectory: {
      path: runDirectoryParent,
      fileSystem: fileSystemOf(runDirectoryParent),
    },
    features: lazyFeatures(),
  };
}

let known: MachineFacts | null = null;

/** This machine, inspected at the first call. */
export function thisMachine(): MachineFacts {
  known ??= inspect();
  return known;
}

/** A feature as an answer of an engine. */
export function supportOf(machine: MachineFacts, names: readonly FeatureName[]): Support {
  for (const name of names) {
    const feature = machine.features[name];
    if (feature.kind === "missing")
      return { kind: "no", reason: `${name}: ${feature.reason}`, fix: feature.fix };
  }
  return { kind: "yes" };
}

const failsMemory = (actor: Actor): boolean =>
  actor.in === "vmm" && actor.steps.some(({ verb }) => verb === "memory-failure");

/** Does this machine have what the host setup of the scenario needs? */
export function hostSetupSupport(scenario: Scenario, machine: MachineFacts = thisMachine()): Support {
  const needed: FeatureName[] = [];
  if (isOnTmpfs(scenario.backing.kind)) needed.push("root");
  if (scenario.backing.kind === "private-swapped") needed.push("swap");
  if (scenario.backing.kind === "hugetlb") needed.push("root", "hugetlb");
  if (scenario.backing.kind === "userfaultfd") needed.push("userfaultfd");
  if (Object.values(scenario.actors).some(failsMemory)) needed.push("memory-failure");
  if (usesMount(scenario)) needed.push("fuse");
  return supportOf(machine, needed);
}
