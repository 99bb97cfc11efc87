/** Facts of a VM for tests: healthy and idle, unless they say otherwise. */
import type { GuestFile, Look, PageEvents, Server, VcpuFacts, VmFacts } from "../../src/diagnose/facts.ts";

export function lookWith(
  atMs: number,
  changes: Partial<NonNullable<Look["stat"]>> & Partial<Omit<Look, "stat">> = {},
): Look {
  const { waitsIn = "kvm_vcpu_block", call = { kind: "kvm-run", fd: 20 }, ...stat } = changes;
  return {
    atMs,
    stat: {
      name: "CPU 0/KVM",
      state: "S",
      majorFaults: 0,
      userTicks: 0,
      systemTicks: 0,
      guestTicks: 0,
      startTicks: 1,
      isKernels: false,
      ...stat,
    },
    waitsIn,
    call,
  };
}

export const looksWith = (changes: Parameters<typeof lookWith>[1] = {}): readonly Look[] =>
  [0, 100, 200, 300, 400, 500].map((atMs) => lookWith(atMs, changes));

/** A thread that is busy all the time. */
export const busyLooks: readonly Look[] = [0, 100, 200, 300, 400, 500].map((atMs) =>
  lookWith(atMs, {
    state: "R",
    userTicks: atMs / 10,
    guestTicks: atMs / 10,
    waitsIn: null,
    call: { kind: "running" },
  }),
);

export const vcpuWith = (changes: Partial<VcpuFacts> = {}): VcpuFacts => ({
  tid: 101,
  name: "CPU 0/KVM",
  id: 0,
  looks: looksWith(),
  stack: ["kvm_vcpu_block", "kvm_vcpu_halt", "kvm_arch_vcpu_ioctl_run", "kvm_vcpu_ioctl"],
  sleptMs: 600,
  pages: [],
  failures: {},
  ...changes,
});

export const pageWith = (changes: Partial<PageEvents> = {}): PageEvents => ({
  gpa: 0x4000_1000n,
  faults: 0,
  deviceFaults: 0,
  rip: null,
  asked: 0,
  repeated: 0,
  ready: 0,
  fixed: 0,
  hva: null,
  ...changes,
});

export const HVA = 0x7f00_0000_0000n;
const MEBIBYTE = 1n << 20n;

/** 4 MiB at HVA. */
export const fileWith = (changes: Partial<GuestFile> = {}): GuestFile => ({
  path: "/srv/guest",
  isDeleted: false,
  device: { major: 8, minor: 1 },
  inode: 12n,
  pieces: [{ start: HVA, end: HVA + 4n * MEBIBYTE, offset: 0n, access: "rw-s" }],
  link: "/proc/100/map_files/7f0000000000-7f0000400000",
  sizeBytes: 4n * MEBIBYTE,
  sizeReason: null,
  fileSystem: { type: "ext4", source: "/dev/sda1", mountPoint: "/srv", server: null },
  ...changes,
});

export const fuseWith = (changes: Partial<Extract<Server, { kind: "fuse" }>> = {}): Server => ({
  kind: "fuse",
  connection: 52,
  waiting: { before: 1, after: 1 },
  processes: [{ pid: 77, name: "sshfs", state: "S" }],
  isExact: true,
  isComplete: true,
  ...changes,
});

export const servedBy = (server: Server, changes: Partial<GuestFile> = {}): GuestFile =>
  fileWith({
    path: "/mnt/guest",
    fileSystem: { type: "fuse.sshfs", source: "host:/", mountPoint: "/mnt", server },
    ...changes,
  });

export const vmWith = (changes: Partial<VmFacts> = {}): VmFacts => ({
  pid: 100,
  process: "qemu-system-x86",
  name: "web",
  program: "/usr/bin/qemu-system-x86_64",
  commandLine: [],
  startTicks: 1,
  vms: 1,
  isGone: false,
  seesCalls: true,
  state: "S",
  namespaces: { hasOwnMounts: false, hasOwnPids: false },
  vcpus: [vcpuWith()],
  blocked: [],
  files: [fileWith()],
  counters: {},
  trace: { kind: "seen", lost: 0 },
  watchedMs: 500,
  unseen: [],
  ...changes,
});
