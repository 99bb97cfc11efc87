import { describe, expect, it } from "vitest";
import { scenarioWith } from "../../language/test/support/cases.ts";
import { engineReports } from "../src/cli/doctor.ts";
import {
  accessFix,
  type FeatureName,
  featureNames,
  hostSetupSupport,
  lackOfKvmDevice,
  type MachineFacts,
  supportOf,
  thisMachine,
} from "../src/machine.ts";

function machineWithout(...missing: FeatureName[]): MachineFacts {
  const features = Object.fromEntries(
    featureNames.map((name) => [
      name,
      missing.includes(name)
        ? { kind: "missing", reason: "not here", fix: "mend it" }
        : { kind: "present", detail: "here" },
    ]),
  ) as MachineFacts["features"];
  return { ...thisMachine(), features };
}

describe("supportOf", () => {
  it("says yes, or names the first thing that is missing, why, and what to do", () => {
    expect(supportOf(machineWithout(), ["kvm", "fuse"])).toEqual({ kind: "yes" });
    expect(supportOf(machineWithout("fuse"), ["kvm", "fuse"])).toEqual({
      kind: "no",
      reason: "fuse: not here",
      fix: "mend it",
    });
    expect(supportOf(machineWithout("fuse"), ["kvm"])).toEqual({ kind: "yes" });
  });
});

describe("hostSetupSupport", () => {
  const { victim, host } = scenarioWith({}).actors;
  if (victim === undefined || host?.in !== "host-process") throw new Error("no such actors");
  const byMount = scenarioWith({ actors: { victim, host: { ...host, through: "mount" } } });
  const swapped = scenarioWith({ backing: { kind: "private-swapped", size: 0x1000n, content: "pattern" } });
  const onTmpfs = scenarioWith({ backing: { kind: "tmpfs", size: 0x1000n, content: "pattern" } });

  it.each([
    ["a file needs nothing", scenarioWith({}), ["kvm", "fuse", "root", "steps"], "yes"],
    ["a tmpfs needs root", onTmpfs, ["root"], "no"],
    ["a tmpfs needs no mount of ours", onTmpfs, ["fuse"], "yes"],
    ["our mount needs FUSE", byMount, ["fuse"], "no"],
    ["our mount needs no root", byMount, ["root"], "yes"],
    ["swapped pages need swap", swapped, ["swap"], "no"],
    ["swapped pages need no root", swapped, ["root"], "yes"],
  ] as const)("%s", (_what, scenario, missing, kind) => {
    expect(hostSetupSupport(scenario, machineWithout(...missing)).kind).toBe(kind);
  });
});

describe("accessFix", () => {
  const groups = "root:x:0:\nkvm:x:109:\nqemu:x:992:someone\n";

  it.each([
    ["the device's group, by its name", 109, 0o20660, "sudo usermod -aG kvm $USER, then log in again"],
    ["by whatever name it has", 992, 0o20660, "sudo usermod -aG qemu $USER, then log in again"],
    ["no group that /etc/group does not have", 77, 0o20660, "sudo chmod 0666 /dev/kvm"],
    ["not root's group", 0, 0o20660, "sudo chmod 0666 /dev/kvm"],
    ["no group that may not write", 109, 0o20640, "sudo chmod 0666 /dev/kvm"],
  ])("suggests %s", (_what, gid, mode, fix) => {
    expect(accessFix("/dev/kvm", { gid, mode }, groups)).toBe(fix);
  });
});

describe("lackOfKvmDevice", () => {
  it.each([
    ["a container that was not given it", true, "kvm_intel", "offers it", "--device /dev/kvm"],
    ["a module that found no virtualization", false, "kvm_amd", "kvm_amd is in this kernel", "dmesg"],
    ["a kernel without a module", false, null, "no KVM module is loaded", "modprobe"],
  ])("tells %s", (_what, isOffered, module, reason, fix) => {
    expect(lackOfKvmDevice(isOffered, module)).toEqual({
      kind: "missing",
      reason: expect.stringContaining(reason),
      fix: expect.stringContaining(fix),
    });
  });
});

describe("engineReports", () => {
  const runs = (machine: MachineFacts, engine: string) =>
    engineReports(machine).find((report) => report.engine === engine)?.runs;

  it("tells what runs, what runs in part, and what does not", () => {
    expect(runs(machineWithout(), "kvm")).toBe("yes");
    expect(runs(machineWithout("root"), "kvm")).toBe("partly");
    expect(runs(machineWithout("kvm"), "kvm")).toBe("no");
    expect(runs(machineWithout("micro-guest"), "kvm")).toBe("no");
    expect(runs(machineWithout("kvm"), "process")).toBe("yes");
    expect(runs(machineWithout("mmap-io"), "process")).toBe("yes");
    expect(runs(machineWithout("direct-io"), "process")).toBe("partly");
    expect(runs(machineWithout("direct-io"), "mmap-io")).toBe("yes");
    expect(runs(machineWithout("steps"), "process")).toBe("no");
    expect(runs(machineWithout("steps"), "mmap-io")).toBe("yes");
    expect(runs(machineWithout("mmap-io"), "mmap-io")).toBe("no");
  });
});
