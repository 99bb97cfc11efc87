/** The machine that a reproduction ran on: everything that a reader of a bug report asks for next. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { featureNames, thisMachine } from "../machine.ts";

export type Environment = {
  readonly kernel: string;
  /** /proc/version: compiler and configuration of the build. */
  readonly kernelBuild: string;
  /** Parameters of the kernel's command line that bear on memory and guests; the others are private and left out. */
  readonly commandLine: readonly string[];
  readonly distribution: string;
  readonly cpu: { readonly model: string; readonly count: number; readonly flags: readonly string[] };
  readonly memoryBytes: number;
  readonly kvm: {
    readonly backend: string | null;
    /** /sys/module/MODULE/parameters, by module. */
    readonly parameters: Readonly<Record<string, Readonly<Record<string, string>>>>;
  };
  /** First line of `qemu-system-x86_64 --version`; null if it is not installed. The micro-guest does not use it. */
  readonly qemu: string | null;
  readonly node: string;
  readonly features: Readonly<Record<string, string>>;
};

/** Of the hundreds of flags those that show how guests are run, and whether this is a guest itself. */
const cpuFlags: readonly string[] = ["vmx", "svm", "ept", "npt", "hypervisor", "la57", "nx", "pdpe1gb"];

const bearing =
  /^(kvm|nested|mitigations|intel_iommu|amd_iommu|iommu|hugepages|default_hugepagesz|transparent_hugepage|numa|nohz|isolcpus|idle|preempt|memmap|nopti|pti)/;

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "unknown";
  }
}

function moduleParameters(module: string): Readonly<Record<string, string>> {
  const folder = `/sys/module/${module}/parameters`;
  if (!existsSync(folder)) return {};
  return Object.fromEntries(readdirSync(folder).map((name) => [name, readText(join(folder, name))]));
}

/** First line of a program's `--version`, or null. */
function versionOf(program: string): string | null {
  try {
    const text = execFileSync(program, ["--version"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: 10_000,
    });
    return text.split("\n")[0] ?? null;
  } catch {
    return null;
  }
}

export function readEnvironment(): Environment {
  const machine = thisMachine();
  const flags = new Set(/^flags\s*:(.*)$/m.exec(readText("/proc/cpuinfo"))?.[1]?.trim().split(" ") ?? []);
  const modules = ["kvm", machine.kvmBackend].filter((name) => name !== null);
  return {
    kernel: machine.kernel,
    kernelBuild: readText("/proc/version"),
    commandLine: readText("/proc/cmdline")
      .split(" ")
      .filter((word) => bearing.test(word)),
    distribution: /^PRETTY_NAME="?([^"\n]*)/m.exec(readText("/etc/os-release"))?.[1] ?? "unknown",
    cpu: {
      model: cpus()[0]?.model ?? "unknown",
      count: cpus().length,
      flags: cpuFlags.filter((flag) => flags.has(flag)),
    },
    memoryBytes: totalmem(),
    kvm: {
      backend: machine.kvmBackend,
      parameters: Object.fromEntries(modules.map((name) => [name, moduleParameters(name)])),
    },
    qemu: versionOf("qemu-system-x86_64"),
    node: machine.node,
    features: Object.fromEntries(
      featureNames.map((name) => {
        const feature = machine.features[name];
        return [name, feature.kind === "present" ? feature.detail : `missing: ${feature.reason}`];
      }),
    ),
  };
}

/** The lines of it that belong into a mail. */
export function environmentLines(environment: Environment): readonly string[] {
  const { cpu, kvm, qemu, distribution } = environment;
  const parameters = Object.entries(kvm.parameters[kvm.backend ?? ""] ?? {});
  return [
    `${cpu.model}, ${cpu.count} CPUs (${cpu.flags.join(" ")}), ${distribution}`,
    ...(parameters.length === 0
      ? []
      : [`${kvm.backend}: ${parameters.map(([name, value]) => `${name}=${value}`).join(" ")}`]),
    `QEMU: ${qemu ?? "not installed"} (not used: the guest is daxfault's own)`,
  ];
}
