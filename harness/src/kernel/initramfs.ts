/**
 * The first root file system of a VM: our init (harness/initramfs/init.c), the modules, and the plan that init carries
 * out: modules, the host's root file system read-only over 9p, what must be writable in memory or on a scratch disk, and
 * then one program of the host's. Pure.
 */
import { type CpioEntry, cpioArchive } from "./cpio.ts";
import { type KvmModule, ROOT_TAG } from "./devices.ts";
import type { ModuleFile } from "./modules.ts";

/** Where temporary files go inside; below /run, which every system has and where no checkout lies. */
export const GUEST_TEMPORARY = "/run/daxfault";
/** Serial of the virtio-blk disk would need udev to be found by: the only disk is the first. */
const SCRATCH_DISK = "/dev/vda";

/** Modules without which nothing of ours runs, unless they are in the image. */
export const neededModules: readonly string[] = ["virtio_pci", "9pnet_virtio", "9p", "virtio_console"];
/**
 * Modules that a program inside may need; the program that lacks one reports it.
 * crc32c_generic: ext4's soft dependency is an alias, which only modprobe could resolve.
 */
export const wantedModules: readonly string[] = [
  "virtio_blk",
  "crc32c_generic",
  "ext4",
  "fuse",
  "kvm_amd",
  "kvm_intel",
];

/** Of a guest on our own VMM: its devices are virtio by MMIO and persistent memory, with a file system that has DAX. */
export const neededGuestModules: readonly string[] = [
  "virtio_mmio",
  "virtio_pmem",
  "nd_e820",
  "nd_pmem",
  "ext4",
];
/** Linux 6.1 has virtio-fs as a module; crc32c_generic as above. */
export const wantedGuestModules: readonly string[] = ["crc32c_generic", "virtiofs"];
/** Of a guest that runs guests of its own. */
export const wantedNestedModules: readonly string[] = ["kvm_amd", "kvm_intel"];

/** Without KVM's module for the CPU that the VM does not have: loading it takes time, and fails. */
export function modulesFor(modules: readonly ModuleFile[], kvmModule: KvmModule): readonly ModuleFile[] {
  const other: KvmModule = kvmModule === "kvm_amd" ? "kvm_intel" : "kvm_amd";
  return modules.filter(({ name }) => name !== other);
}

export type GuestProgram = {
  /** Absolute path in the host's file system, then arguments. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
};

export type InitramfsOptions = {
  /** The built init. */
  readonly init: Uint8Array;
  /** In the order of loading. */
  readonly modules: readonly ModuleFile[];
  readonly program: GuestProgram;
};

const ROOT = "/root";
/** Large messages: a read of Node's own binary is 90 MB. Loose: the files are read-only here and do not change. */
const ROOT_OPTIONS = "trans=virtio,version=9p2000.L,msize=512000,cache=loose,access=any";

/** Commands of init, one a line, words parted by tabs; `-`: may fail. */
function planLines({ modules, program }: InitramfsOptions): readonly (readonly string[])[] {
  const hard = new Set(neededModules);
  const mount = (source: string, target: string, type: string, flags: string, options: string) =>
    ["mount", source, `${ROOT}${target}`, type, flags, options] as const;
  return [
    // What one module needs of another is in their order; that one cannot be loaded is fatal only for what we need.
    ...modules.map(({ name }) => [hard.has(name) ? "insmod" : "-insmod", `/modules/${name}.ko`, ""]),
    mount(ROOT_TAG, "", "9p", "ro", ROOT_OPTIONS),
    ["-mount", "devtmpfs", "/dev", "devtmpfs", "-", ""],
    ["-mount", "devtmpfs", `${ROOT}/dev`, "devtmpfs", "-", ""],
    mount("proc", "/proc", "proc", "-", ""),
    mount("sysfs", "/sys", "sysfs", "-", ""),
    ["-mount", "tracefs", `${ROOT}/sys/kernel/tracing`, "tracefs", "-", ""],
    mount("tmpfs", "/run", "tmpfs", "-", "mode=0755"),
    ["mkdir", `${ROOT}${GUEST_TEMPORARY}`],
    ["-mkdir", `${ROOT}/dev/shm`],
    ["-mount", "tmpfs", `${ROOT}/dev/shm`, "tmpfs", "-", "mode=1777"],
    // Without a disk or without ext4 temporary files are in memory: the attestation has the file system.
    ["-mount", SCRATCH_DISK, `${ROOT}${GUEST_TEMPORARY}`, "ext4", "-", ""],
    ["chroot", ROOT],
    ...Object.entries({ ...program.environment, TMPDIR: GUEST_TEMPORARY }).map(([name, value]) => [
      "setenv",
      `${name}=${value}`,
    ]),
    ["exec", ...program.command],
  ];
}

/** The plan as text. Throws a RangeError for a word that cannot stand in it. */
export function planText(options: InitramfsOptions): string {
  return textOf(planLines(options));
}

function textOf(lines: readonly (readonly string[])[]): string {
  const bad = lines.flat().find((word) => /[\t\n\0]/.test(word));
  if (bad !== undefined)
    throw new RangeError(`${JSON.stringify(bad)}: a word of init's plan has no tab and no line end`);
  return `${lines.map((words) => words.join("\t")).join("\n")}\n`;
}

export type GuestInitramfsOptions = {
  /** The built init. */
  readonly init: Uint8Array;
  /** In the order of loading. */
  readonly modules: readonly ModuleFile[];
  /** A static program, the only one of the guest. */
  readonly program: Uint8Array;
  /** Its arguments; none if left out. */
  readonly programArguments?: readonly string[];
};

const PROGRAM = "/program";

/** The only file system of a guest on our own VMM: init, modules, and one program that does all the rest. */
export function guestInitramfs({
  init,
  modules,
  program,
  programArguments = [],
}: GuestInitramfsOptions): Uint8Array {
  const lines = [
    ...modules.map(({ name }) => ["-insmod", `/modules/${name}.ko`, ""]),
    ["-mount", "devtmpfs", "/dev", "devtmpfs", "-", ""],
    ["exec", PROGRAM, ...programArguments],
  ];
  return archive({ init, modules, plan: textOf(lines) }, [
    { kind: "file", path: PROGRAM.slice(1), mode: 0o755, bytes: program },
  ]);
}

/** A virtio-fs that the guest mounts. */
export type GuestShare = {
  readonly tag: string;
  /** Below `GUEST_TEMPORARY`. */
  readonly name: string;
  /** Of mount(2): `dax=always`, or empty. */
  readonly options: string;
};

export type GuestRootOptions = {
  /** The built init. */
  readonly init: Uint8Array;
  /** In the order of loading. */
  readonly modules: readonly ModuleFile[];
  readonly program: GuestProgram;
  /** Tag of the virtio-fs that has the root file system. */
  readonly rootTag: string;
  readonly shares: readonly GuestShare[];
};

/** Commands of init for a guest whose root file system is another machine's, read-only over virtio-fs. */
function guestRootLines({ modules, program, rootTag, shares }: GuestRootOptions): readonly string[][] {
  const mount = (source: string, target: string, type: string, flags: string, options: string) => [
    "mount",
    source,
    `${ROOT}${target}`,
    type,
    flags,
    options,
  ];
  const folder = (name: string): string => `${GUEST_TEMPORARY}/${name}`;
  return [
    ...modules.map(({ name }) => ["-insmod", `/modules/${name}.ko`, ""]),
    ["-mount", "devtmpfs", "/dev", "devtmpfs", "-", ""],
    mount(rootTag, "", "virtiofs", "ro", ""),
    ["-mount", "devtmpfs", `${ROOT}/dev`, "devtmpfs", "-", ""],
    mount("proc", "/proc", "proc", "-", ""),
    mount("sysfs", "/sys", "sysfs", "-", ""),
    mount("tmpfs", "/run", "tmpfs", "-", "mode=0755"),
    ["mkdir", `${ROOT}${GUEST_TEMPORARY}`],
    ["-mkdir", `${ROOT}/dev/shm`],
    ["-mount", "tmpfs", `${ROOT}/dev/shm`, "tmpfs", "-", "mode=1777"],
    ...shares.flatMap(({ tag, name, options }) => [
      ["mkdir", `${ROOT}${folder(name)}`],
      mount(tag, folder(name), "virtiofs", "-", options),
    ]),
    ["chroot", ROOT],
    ...Object.entries({ ...program.environment, TMPDIR: GUEST_TEMPORARY }).map(([name, value]) => [
      "setenv",
      `${name}=${value}`,
    ]),
    ["exec", ...program.command],
  ];
}

/** The first file system of a guest on our own VMM that has another machine's programs. */
export function guestRootInitramfs(options: GuestRootOptions): Uint8Array {
  const { init, modules } = options;
  return archive({ init, modules, plan: textOf(guestRootLines(options)) }, [
    { kind: "directory", path: ROOT.slice(1) },
  ]);
}

/** The archive that QEMU gives the kernel. */
export function initramfs(options: InitramfsOptions): Uint8Array {
  const { init, modules } = options;
  return archive({ init, modules, plan: planText(options) }, [{ kind: "directory", path: ROOT.slice(1) }]);
}

function archive(
  { init, modules, plan }: { init: Uint8Array; modules: readonly ModuleFile[]; plan: string },
  more: readonly CpioEntry[],
): Uint8Array {
  return cpioArchive([
    { kind: "directory", path: "dev" },
    { kind: "character-device", path: "dev/console", major: 5, minor: 1 },
    ...more,
    { kind: "directory", path: "modules" },
    { kind: "file", path: "init", mode: 0o755, bytes: init },
    { kind: "file", path: "plan", mode: 0o644, bytes: Buffer.from(plan, "utf8") },
    ...modules.map(
      ({ name, bytes }): CpioEntry => ({ kind: "file", path: `modules/${name}.ko`, mode: 0o644, bytes }),
    ),
  ]);
}
