/**
 * Further features of a machine that matter for this problem: KVM's capabilities, the host's guards against
 * truncation, tools of reproductions and reports. Every answer comes from a trial on this machine, none from a version.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import {
  addSeals,
  F_SEAL_SHRINK,
  FAN_CLASS_NOTIF,
  FAN_CLASS_PRE_CONTENT,
  FAN_CLOEXEC,
  FAN_MODIFY,
  FAN_PRE_ACCESS,
  fanotifyInit,
  fanotifyMarkInode,
  holdsWriteLease,
  leaseBreakSeconds,
  memfdCreate,
  poisonRefusal,
  releaseLease,
  takeWriteLease,
} from "../../../sys/src/index.ts";
import { Kvm, supportedCpuid } from "../../../vmm/src/index.ts";
import { errorLine } from "../error-text.ts";
import { type Feature, thisMachine } from "../machine.ts";
import { builtPath } from "../paths.ts";
import { childEnvironment } from "../run/tag.ts";
import { lackIn, SurroundingsError } from "../surroundings.ts";

export const probeGroups = ["KVM", "Guards of the host", "Reproductions and reports"] as const;
export type ProbeGroup = (typeof probeGroups)[number];

export type ProbeResult = {
  readonly name: string;
  readonly group: ProbeGroup;
  /** What it is for: what does not work, or is not known, without it. */
  readonly purpose: string;
  readonly feature: Feature;
};

/** Where probes may make files and start processes. */
export type Scratch = {
  /** An existing folder that the caller removes. Throws where there can be none. */
  folder(): string;
};

type Probe = Omit<ProbeResult, "feature"> & {
  readonly read: (scratch: Scratch) => Feature | Promise<Feature>;
};

const present = (detail: string): Feature => ({ kind: "present", detail });
const missing = (reason: string, fix: string | null): Feature => ({ kind: "missing", reason, fix });

const isRoot = (): boolean => process.getuid?.() === 0;
const asRoot = "sudo scripts/daxfault doctor";

/** A folder for one probe. */
const probeFolder = (scratch: Scratch): string => mkdtempSync(join(scratch.folder(), "probe-"));

type KvmSays = { readonly capabilities: Readonly<Record<string, number>>; readonly features: number };
let kvmSays: KvmSays | string | null = null;

const SERVE_BOUND_MS = 5000;
/** CPUID leaf of KVM's paravirtual features (Documentation/virt/kvm/x86/cpuid.rst). */
const KVM_CPUID_FEATURES = 0x40000001;

function askKvm(): KvmSays | string {
  if (kvmSays !== null) return kvmSays;
  const { kvm } = thisMachine().features;
  if (kvm.kind === "missing") return kvm.reason;
  const device = Kvm.open();
  const leaf = supportedCpuid(device).find((entry) => entry.leaf === KVM_CPUID_FEATURES);
  kvmSays = { capabilities: device.capabilities(), features: leaf?.eax ?? 0 };
  device.close();
  return kvmSays;
}

/** KVM itself is missing: what mends that mends this. */
function notAsked(reason: string): Feature {
  const { kvm } = thisMachine().features;
  return missing(`not asked: ${reason}`, kvm.kind === "missing" ? kvm.fix : null);
}

/** A capability that has to be at least `least`. */
function capability(name: string, purpose: string, fix: string | null, least = 1): Probe {
  return {
    name,
    group: "KVM",
    purpose,
    read() {
      const answer = askKvm();
      if (typeof answer === "string") return notAsked(answer);
      const value = answer.capabilities[name] ?? 0;
      return value >= least ? present(String(value)) : missing(`KVM_CHECK_EXTENSION says ${value}`, fix);
    },
  };
}

/** A bit of KVM's paravirtual CPUID leaf: what a guest is offered. */
function pvFeature(name: string, bit: number, purpose: string): Probe {
  return {
    name: `KVM_FEATURE_${name}`,
    group: "KVM",
    purpose,
    read() {
      const answer = askKvm();
      if (typeof answer === "string") return notAsked(answer);
      const isOffered = (answer.features & (1 << bit)) !== 0;
      return isOffered
        ? present(`bit ${bit} of CPUID 0x40000001`)
        : missing(`bit ${bit} of CPUID 0x40000001 is not offered to guests`, null);
    },
  };
}

function readLease(scratch: Scratch): Feature {
  const path = join(probeFolder(scratch), "file");
  writeFileSync(path, "x");
  const fd = openSync(path, "r+");
  try {
    // SIGIO's default would end this process, but nothing breaks this lease: it is released at once.
    takeWriteLease(fd, { threadId: process.pid, signal: 0 });
    const isHeld = holdsWriteLease(fd);
    releaseLease(fd);
    if (!isHeld) return missing("F_SETLEASE is granted and not there", null);
    return present(`F_SETLEASE in ${tmpdir()}; broken by the kernel after ${leaseBreakSeconds() ?? "?"} s`);
  } catch (error) {
    const off =
      existsSync("/proc/sys/fs/leases-enable") &&
      readFileSync("/proc/sys/fs/leases-enable", "utf8").trim() === "0";
    return missing(
      errorLine(error),
      off
        ? "sudo sysctl fs.leases-enable=1"
        : "TMPDIR=/var/tmp scripts/daxfault doctor, if that is another file system",
    );
  } finally {
    closeSync(fd);
  }
}

type Events = { readonly groupClass: number; readonly mask: number; readonly name: string };

function readFanotify(scratch: Scratch, { groupClass, mask, name }: Events): Feature {
  const path = join(probeFolder(scratch), "file");
  writeFileSync(path, "x");
  let group = -1;
  try {
    group = fanotifyInit(groupClass | FAN_CLOEXEC);
    fanotifyMarkInode(group, mask, path);
    return present(`${name} on ${thisMachine().runDirectory.fileSystem}`);
  } catch (error) {
    return missing(errorLine(error), isRoot() ? null : asRoot);
  } finally {
    if (group >= 0) closeSync(group);
  }
}

function readSealing(): Feature {
  let fd = -1;
  try {
    fd = memfdCreate("daxfault-doctor");
    addSeals(fd, F_SEAL_SHRINK);
    return present("memfd with F_SEAL_SHRINK");
  } catch (error) {
    return missing(errorLine(error), null);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

function readPoison(): Feature {
  const refusal = poisonRefusal();
  if (refusal === null) return present("userfaultfd with UFFD_FEATURE_POISON");
  if (!isRoot()) return missing(refusal, "sudo sysctl vm.unprivileged_userfaultfd=1");
  return missing(`${refusal} (the feature came with Linux 6.6)`, null);
}

type ReadyLine = { readonly protocol: { readonly flags: readonly string[] } | null };

/** Serves `source` at `mountpoint` until the server reports that it is ready; returns the report. */
async function serveOnce(folder: string, source: string, mountpoint: string): Promise<ReadyLine> {
  const args = ["--source", source, "--mountpoint", mountpoint, "--transport", "devfuse", "--passthrough"];
  const server = spawn(
    process.execPath,
    [builtPath("fs-server/src/serve-main.ts"), ...args, "--parent-pid", String(process.pid)],
    { stdio: ["ignore", "pipe", "pipe"], cwd: "/", env: { ...process.env, ...childEnvironment(folder) } },
  );
  let errors = "";
  server.stderr.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const ended = once(server, "close");
  const lines = createInterface({ input: server.stdout });
  const first = await Promise.race([once(lines, "line"), ended, sleep(SERVE_BOUND_MS)]);
  server.kill("SIGTERM");
  await ended;
  const [line] = Array.isArray(first) ? first : [];
  if (typeof line !== "string") throw new Error(errors.trim() || "the server did not get ready");
  return JSON.parse(line) as ReadyLine;
}

/** Serves an empty folder for a moment and looks at what INIT agreed on. */
async function readFusePassthrough(scratch: Scratch): Promise<Feature> {
  const { fuse } = thisMachine().features;
  if (fuse.kind === "missing") return missing(`not asked: ${fuse.reason}`, fuse.fix);
  if (!isRoot()) return missing("needs CAP_SYS_ADMIN", asRoot);
  const folder = probeFolder(scratch);
  const [source, mountpoint] = [join(folder, "source"), join(folder, "mount")];
  mkdirSync(source);
  mkdirSync(mountpoint);
  const { protocol } = await serveOnce(folder, source, mountpoint);
  return protocol?.flags.includes("PASSTHROUGH") === true
    ? present("FUSE_PASSTHROUGH is agreed on at INIT")
    : missing("the kernel does not offer FUSE_PASSTHROUGH (CONFIG_FUSE_PASSTHROUGH, Linux 6.9)", null);
}

function readTracefs(): Feature {
  const place = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].find((path) =>
    existsSync(join(path, "events")),
  );
  if (place === undefined) {
    if (!existsSync("/sys/kernel/tracing"))
      return missing("this kernel has no tracefs (CONFIG_TRACING)", null);
    return isRoot()
      ? present("not mounted; daxfault repro mounts it for itself")
      : missing("tracefs is not mounted", "sudo mount -t tracefs nodev /sys/kernel/tracing");
  }
  try {
    readdirSync(join(place, "events/kvm"));
    return present(`${place}, with kvm:*`);
  } catch (error) {
    return missing(errorLine(error), isRoot() ? "sudo modprobe kvm" : "sudo scripts/daxfault repro ID");
  }
}

function readDebugfs(): Feature {
  const mounted = "sudo mount -t debugfs nodev /sys/kernel/debug";
  try {
    if (readdirSync("/sys/kernel/debug").length === 0) return missing("debugfs is not mounted", mounted);
    if (!existsSync("/sys/kernel/debug/kvm"))
      return missing("/sys/kernel/debug has no kvm", "sudo modprobe kvm");
    return present("/sys/kernel/debug/kvm");
  } catch (error) {
    return missing(errorLine(error), isRoot() ? mounted : "sudo scripts/daxfault diagnose");
  }
}

function readProgram(program: string, fix: string): Feature {
  try {
    const text = execFileSync(program, ["--version"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: 10_000,
    });
    return present(text.split("\n")[0] ?? program);
  } catch {
    return missing(`${program} is not installed`, fix);
  }
}

function readPlots(): Feature {
  const absent = ["vega", "vega-lite"].filter((name) => {
    try {
      import.meta.resolve(name);
      return false;
    } catch {
      return true;
    }
  });
  if (absent.length === 0) return present("vega and vega-lite");
  return missing(`not installed: ${absent.join(", ")} (optional)`, `npm install ${absent.join(" ")}`);
}

const probes: readonly Probe[] = [
  capability(
    "KVM_CAP_BINARY_STATS_FD",
    "proof of a loop by KVM's counters; without it the engine kvm does not run",
    null,
  ),
  capability(
    "KVM_CAP_ASYNC_PF",
    "asynchronous page faults: without them there is no loop, only -EFAULT",
    null,
  ),
  capability("KVM_CAP_ASYNC_PF_INT", "page-ready by interrupt (Linux 5.8): the guests of apf-guest", null),
  capability(
    "KVM_CAP_MEMORY_FAULT_INFO",
    "the promise of KVM_EXIT_MEMORY_FAULT, which memory-fault-cap-without-exit tests",
    null,
  ),
  capability("KVM_CAP_X86_DISABLE_EXITS", "no-hlt-exits: bit 1 gives HLT to the guest", null, 2),
  capability("KVM_CAP_MCE", "mce-injection and poison", null),
  capability("KVM_CAP_VCPU_EVENTS", "pf-, ve- and nmi-injection", null),
  capability(
    "KVM_CAP_EXIT_ON_EMULATION_FAILURE",
    "an emulation failure is told apart from an access that failed",
    null,
  ),
  pvFeature("ASYNC_PF", 4, "a guest can be told that a page is not there yet"),
  pvFeature("ASYNC_PF_VMEXIT", 10, "nested: the same, as a #PF VM exit"),
  pvFeature("ASYNC_PF_INT", 14, "page-ready by interrupt, with an acknowledgement"),
  {
    name: "lease",
    group: "Guards of the host",
    purpose: "lease-kernel: truncation waits until the guest has let go",
    read: readLease,
  },
  {
    name: "fanotify",
    group: "Guards of the host",
    purpose: "notify: the VMM learns of a truncation after the fact",
    read: (scratch) =>
      readFanotify(scratch, { groupClass: FAN_CLASS_NOTIF, mask: FAN_MODIFY, name: "FAN_MODIFY" }),
  },
  {
    name: "pre-content",
    group: "Guards of the host",
    purpose: "pre-content: truncation waits for a permission event (Linux 6.14)",
    read: (scratch) =>
      readFanotify(scratch, {
        groupClass: FAN_CLASS_PRE_CONTENT,
        mask: FAN_PRE_ACCESS,
        name: "FAN_PRE_ACCESS",
      }),
  },
  {
    name: "memfd-seals",
    group: "Guards of the host",
    purpose: "sealed: memory that cannot shrink",
    read: readSealing,
  },
  capability(
    "KVM_CAP_GUEST_MEMFD_FLAGS",
    "guest_memfd that the host maps, too: sealed by nature (vmm/test/kvm/guest-memfd.test.ts)",
    null,
    3,
  ),
  {
    name: "userfaultfd",
    group: "Guards of the host",
    purpose: "poison: lost pages become poisoned ones",
    read: readPoison,
  },
  {
    name: "fuse-passthrough",
    group: "Guards of the host",
    purpose: "serve --passthrough: the kernel reads and writes the files itself",
    read: readFusePassthrough,
  },
  {
    name: "tracefs",
    group: "Reproductions and reports",
    purpose: "trace.txt of repro has KVM's tracepoints; diagnose sees a loop and its page",
    read: readTracefs,
  },
  {
    name: "debugfs",
    group: "Reproductions and reports",
    purpose: "diagnose knows which threads run vCPUs, and has KVM's counters",
    read: readDebugfs,
  },
  {
    name: "gcc",
    group: "Reproductions and reports",
    purpose: "compiling reproducer.c, and the micro-guest from source",
    read: () => readProgram("gcc", "sudo apt-get install gcc libc6-dev"),
  },
  {
    name: "qemu",
    group: "Reproductions and reports",
    purpose: "other kernels than this machine's, and real Linux guests",
    read: () => readProgram("qemu-system-x86_64", "sudo apt-get install qemu-system-x86"),
  },
  {
    name: "plots",
    group: "Reproductions and reports",
    purpose: "plots in the HTML report; its tables of figures need nothing",
    read: readPlots,
  },
];

/** The answer of a probe that could not be made. */
function failed(error: unknown): Feature {
  const problem = error instanceof SurroundingsError ? error.problem : lackIn(errorLine(error));
  return problem === null ? missing(errorLine(error), null) : missing(problem.what, problem.next);
}

/** Tries everything; takes a second or two. A probe that throws is a missing feature with that reason. */
export async function runProbes(scratch: Scratch): Promise<readonly ProbeResult[]> {
  const results: ProbeResult[] = [];
  for (const { read, ...rest } of probes) {
    try {
      results.push({ ...rest, feature: await read(scratch) });
    } catch (error) {
      results.push({ ...rest, feature: failed(error) });
    }
  }
  return results;
}
