/** Evidence and engines for tests, by what differs from a case in which the VM stopped with EFAULT. */
import type {
  Attestation,
  EngineNature,
  Evidence,
  KernelVmFacts,
  LinuxGuestFacts,
  Observations,
  RunResult,
} from "../../src/evidence.ts";
import type { Expectation } from "../../src/judge/expectations.ts";

/** The natures that engines have. */
export const natures: Readonly<
  Record<"model" | "process" | "kvm" | "linux-qemu" | "linux-qemu-tcg", EngineNature>
> = {
  model: { isReal: false, runsKvm: false },
  process: { isReal: true, runsKvm: false },
  kvm: { isReal: true, runsKvm: true },
  "linux-qemu": { isReal: true, runsKvm: true, isLinuxGuest: true, vmm: "qemu" },
  "linux-qemu-tcg": { isReal: true, runsKvm: false, isLinuxGuest: true, vmm: "qemu" },
};

/** A guest in QEMU on KVM. */
export const qemuGuest: LinuxGuestFacts = {
  kernel: "debian:6.12",
  origin: "linux-image-6.12.117+deb12-amd64 6.12.117-1~deb12u1",
  imageSha256: "b".repeat(64),
  patches: [],
  release: "6.12.117+deb12-amd64",
  commandLine: "console=ttyS0",
  cpus: 1,
  bootCase: 1,
  asyncPageFaults: "hidden",
  machineCheckRecovery: "hidden",
  mount: "virtiofs dax=always",
  qemu: {
    origin: "/usr/bin/qemu-system-x86_64",
    version: "11.1.2",
    accelerator: "kvm",
    status: "running",
    fuse: "7.41",
    daxWindowBytes: 0x4000000,
  },
};

export const place = {
  rip: 0x41000n,
  cpl: 3,
  gva: 0x40001000n,
  gpa: 0x40001000n,
  hva: 0x7f0000001000n,
} as const;

/** Of the VM that is the machine `kernel:debian:6.1`. */
export const vmFacts: KernelVmFacts = {
  kernel: "debian:6.1",
  origin: "linux-image-6.1.0-56-amd64 6.1.192-2",
  imageSha256: "a".repeat(64),
  patches: [],
  kvm: "today",
  imageRelease: "6.1.0-56-amd64",
  bootId: "b-1",
  commandLine: "console=ttyS0 daxfault.boot=b-1",
  qemu: "7.2.22",
  accelerator: "tcg",
  cpus: 2,
  memoryMiB: 1536,
};

export type Changes = {
  readonly attestation?: Partial<Attestation>;
  readonly observations?: Partial<Observations>;
} & Partial<Omit<Evidence, "attestation" | "observations">>;

/** Of `scenarioWith({})` with the proposal efault-exit on the engine kvm. */
export function evidenceWith(changes: Changes = {}): Evidence {
  const { attestation, observations, ...rest } = changes;
  return {
    attestation: {
      engine: "kvm",
      kernel: "6.18.0",
      kvmBackend: "kvm_amd",
      kvmParameters: { "kvm_amd.npt": "1" },
      capabilities: { KVM_CAP_MEMORY_FAULT_INFO: 1 },
      lapic: "user",
      apfEnabled: false,
      pageSize: 4096,
      transport: null,
      windowBytes: 0x200000,
      vm: null,
      guest: null,
      ...attestation,
    },
    observations: {
      accesses: {
        victim: { "load#1": { kind: "value", value: 0xda0000001000n }, "load#2": { kind: "killed" } },
      },
      host: { host: { "truncate#1": { kind: "done" } } },
      vmm: [{ kind: "stopped", reason: "efault", at: place }],
      guestKernel: "alive",
      bystanders: {},
      ...observations,
    },
    ends: [],
    counts: { truncate: 1 },
    counters: { pf_taken: 12n },
    kvmTrace: null,
    accessMs: { victim: { "load#1": 0.25 } },
    trace: [{ kind: "truncate", actor: "host", atMs: 3.5, gpa: null, detail: "to 0 bytes" }],
    exhaustiveness: { kind: "sampled", runs: 1, seed: null },
    durationMs: 12.5,
    ...rest,
  };
}

export const evidenceResult = (changes: Changes = {}): RunResult => ({
  kind: "evidence",
  evidence: evidenceWith(changes),
});

export function expectationWith(changes: Partial<Expectation> = {}): Expectation {
  return {
    rule: "test rule 1",
    outcome: {
      vmm: ["stopped(efault)"],
      accesses: { "victim.last": "killed" },
      host: {},
      bystanders: {},
      events: {},
    },
    better: [],
    defect: null,
    ...changes,
  };
}
