/** What a command line may not select: kernels and modules that are not there. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { qemuHeadlines, scenes } from "../../src/cli/parts.ts";
import { makeSelection, openCatalogue, type SelectionOptions } from "../../src/cli/selection.ts";
import { UsageError } from "../../src/cli/usage.ts";
import { caseFolder } from "../support/folders.ts";

type Paths = Readonly<Record<"file" | "folder" | "lost", string>>;
type Row = readonly [string, (paths: Paths) => SelectionOptions, (paths: Paths) => string];

function makePaths(): Paths {
  const folder = caseFolder();
  const file = join(folder, "bzImage");
  writeFileSync(file, "an image");
  return { file, folder, lost: join(folder, "lost") };
}

describe("makeSelection of kernels", () => {
  it.each<Row>([
    ["a path of nothing", ({ lost }) => ({ kernel: [lost] }), ({ lost }) => `--kernel ${lost}: ENOENT`],
    [
      "as an engine",
      ({ lost }) => ({ engine: [`kernel:${lost}`] }),
      ({ lost }) => `--kernel ${lost}: ENOENT`,
    ],
    ["a folder", ({ folder }) => ({ kernel: [folder] }), ({ folder }) => `--kernel ${folder}: it is no file`],
    [
      "a patch of no proposal",
      () => ({ kernel: ["debian:6.12+final-efaul"] }),
      () => '--kernel debian:6.12+final-efaul: there is no patch of a proposal "final-efaul"',
    ],
    ["a KVM of no kernel", () => ({ kvm: "final-efault" }), () => "no --kernel names one"],
    [
      "a KVM that is no proposal",
      () => ({ kernel: ["debian:6.12"], kvm: "mine" }),
      () => "--kvm mine: one of today, ",
    ],
    ["modules of no kernel", ({ folder }) => ({ modules: folder }), () => "no --kernel names one"],
    [
      "modules of a package",
      ({ folder }) => ({ kernel: ["debian:6.1"], modules: folder }),
      () => "no --kernel names one",
    ],
    [
      "modules in a file",
      ({ file }) => ({ kernel: [file], modules: file }),
      ({ file }) => `--modules ${file}: it is no folder`,
    ],
    [
      "modules nowhere",
      ({ file, lost }) => ({ kernel: [file], modules: lost }),
      ({ lost }) => `--modules ${lost}: ENOENT`,
    ],
  ])("refuses %s", (_what, optionsOf, messageOf) => {
    const paths = makePaths();
    expect(() => makeSelection(["hang-without-apf"], optionsOf(paths))).toThrow(UsageError);
    expect(() => makeSelection(["hang-without-apf"], optionsOf(paths))).toThrow(messageOf(paths));
  });

  it("refuses a kernel tree that is not built, and says what to do", () => {
    const { folder } = makePaths();
    const select = () => makeSelection(["hang-without-apf"], { kernel: [folder] });
    mkdirSync(join(folder, "arch/x86/boot"), { recursive: true });
    writeFileSync(join(folder, "Makefile"), "");
    expect(select).toThrow(`--kernel ${folder}: this kernel tree has no .config (make defconfig`);
    writeFileSync(join(folder, ".config"), "CONFIG_KVM=m\n");
    expect(select).toThrow("this kernel tree has no arch/x86/boot/bzImage (make bzImage)");
    writeFileSync(join(folder, "arch/x86/boot/bzImage"), "");
    expect(select).toThrow("its modules are not built (make modules)");
    writeFileSync(join(folder, "modules.order"), "");
    expect(select().kernels).toEqual([{ kind: "file", text: folder, path: folder }]);
  });

  it("takes the proposal that a kernel's KVM has built in by the user's word", () => {
    const { file } = makePaths();
    expect(makeSelection([], { kernel: [file], kvm: "exit-request" }).kvm).toBe("exit-request");
    expect(makeSelection([], { kernel: [file] }).kvm).toBeNull();
  });

  it("takes a file with a folder of modules", () => {
    const { file, folder } = makePaths();
    const selection = makeSelection(["hang-without-apf"], { kernel: [file], modules: folder });
    expect(selection.kernels).toEqual([{ kind: "file", text: file, path: file }]);
    expect(selection.modulesDirectory).toBe(folder);
  });
});

describe("makeSelection of engines", () => {
  const selected = (options: SelectionOptions) => makeSelection(["hang-without-apf"], options);

  it("runs those named inside the kernels that are named, and the others here", () => {
    const both = selected({ engine: ["linux", "model"], kernel: ["debian:6.1"] });
    expect([both.engines, both.enginesInside]).toEqual([["model"], ["linux"]]);
    const none = selected({ kernel: ["debian:6.1"] });
    expect([none.engines, none.enginesInside]).toEqual([[], null]);
    const here = selected({ engine: ["linux"] });
    expect([here.engines, here.enginesInside]).toEqual([["linux"], null]);
  });

  it("leaves an engine here that stands beside the name of a kernel", () => {
    const { engines, enginesInside, kernels } = selected({ engine: ["kvm", "kernel:debian:6.1"] });
    expect([engines, enginesInside]).toEqual([["kvm"], null]);
    expect(kernels.map(({ text }) => text)).toEqual(["debian:6.1"]);
  });

  it("takes the kernel of a Linux guest, by the words of --kernel, where an engine has one", () => {
    expect(selected({ engine: ["linux"], guestKernel: "debian:6.1" }).guestKernel?.text).toBe("debian:6.1");
    expect(() => selected({ engine: ["kvm"], guestKernel: "debian:6.1" })).toThrow("--engine linux");
    expect(() => selected({ engine: ["linux"], guestKernel: "fedora:40" })).toThrow("only debian is known");
    expect(selected({ engine: ["linux"], guestKernel: "small" }).guestKernel?.kind).toBe("small");
    expect(() => selected({ kernel: ["small"] })).toThrow("(--guest-kernel small)");
    const { lost } = makePaths();
    expect(() => selected({ engine: ["linux"], guestKernel: lost })).toThrow(
      `--guest-kernel ${lost}: ENOENT`,
    );
  });
});

describe("makeSelection of the VMM of a Linux guest", () => {
  const selected = (options: SelectionOptions, names: readonly string[] = ["load-after-truncate"]) =>
    makeSelection(names, options);

  it("is ours, QEMU, or both: on KVM where a kernel with KVM is booted", () => {
    const kernel = ["debian:6.12"];
    const inside = (vmm?: readonly string[]) =>
      selected({ engine: ["linux"], kernel, ...(vmm === undefined ? {} : { vmm }) }).enginesInside;
    expect(inside()).toEqual(["linux"]);
    expect(inside(["own"])).toEqual(["linux"]);
    expect(inside(["qemu"])).toEqual(["linux-qemu"]);
    expect(inside(["own", "qemu"])).toEqual(["linux", "linux-qemu"]);
    const [here] = selected({ engine: ["linux"], vmm: ["qemu"] }).engines;
    expect(here).toMatch(/^linux-qemu(-tcg)?$/);
  });

  it("runs the outcomes of the spike where only QEMU's emulator was asked for", () => {
    const { isHeadlines, scenarios } = selected({ engine: ["linux-qemu-tcg"] }, []);
    expect(isHeadlines).toBe(true);
    expect(scenarios.map(({ scenario }) => scenario.id).sort()).toEqual(Object.keys(qemuHeadlines).sort());
    expect(selected({ engine: ["linux-qemu-tcg", "model"] }, []).isHeadlines).toBe(false);
    expect(selected({ engine: ["linux-qemu-tcg"] }, ["*"]).isHeadlines).toBe(false);
  });

  it.each<[string, SelectionOptions, string]>([
    ["of no engine with a Linux guest", { engine: ["kvm"], vmm: ["qemu"] }, "(--engine linux)"],
    ["that there is none of", { engine: ["linux"], vmm: ["crosvm"] }, "crosvm"],
    [
      "a small kernel in QEMU",
      { engine: ["linux-qemu-tcg"], guestKernel: "small" },
      "--guest-kernel small: it cannot be a guest in QEMU: CONFIG_VIRTIO_PCI is off",
    ],
    ["a QEMU of no guest in QEMU", { engine: ["linux"], qemu: "/bin/sh" }, "--vmm qemu"],
    ["a QEMU that is not there", { engine: ["linux-qemu-tcg"], qemu: "/no/qemu" }, "--qemu /no/qemu: ENOENT"],
  ])("refuses one %s", (_what, options, message) => {
    expect(() => selected(options)).toThrow(UsageError);
    expect(() => selected(options)).toThrow(message);
  });
});

describe("scenes", () => {
  const inScene = (name: string, options: SelectionOptions = {}) =>
    makeSelection([name], { engine: ["linux"], kernel: ["debian:6.12"], ...options }).scenarios;

  it("are scenarios of the catalogue, each with the proposals under which it is meant", () => {
    const { scenarios, proposals } = openCatalogue({});
    const known = new Set(proposals.map(({ proposal }) => proposal.id));
    for (const part of [...Object.values(scenes), qemuHeadlines]) {
      for (const [id, only] of Object.entries(part)) {
        const about = scenarios.find(({ scenario }) => scenario.id === id)?.scenario.proposals;
        expect(about, id).toBeDefined();
        for (const proposal of only ?? []) {
          expect(known).toContain(proposal);
          expect(about ?? [proposal], id).toContain(proposal);
        }
      }
    }
  });

  it("has the talk's with each guard in the way that it can see", () => {
    expect(inScene("hang-of-the-talk").map(({ scenario, only }) => [scenario.id, only])).toEqual([
      ["load-after-truncate", ["apf-guest", "no-hlt-exits-no-apf"]],
      ["load-after-guarded-truncate", ["lease-kernel", "pre-content", "notify", "sealed"]],
      ["load-after-guarded-truncate-by-mount", ["lease-fuse"]],
    ]);
  });

  it("is narrowed by a proposal, and refused under one that it has not", () => {
    expect(() => inScene("hang-of-the-talk", { proposal: ["remap-zero"] })).toThrow("remap-zero");
    expect(() => inScene("hang-of-the-talk", { proposal: ["sealed"] })).not.toThrow();
  });
});

describe("openCatalogue", () => {
  it("names a folder that is not there in one line, whatever it is called", () => {
    const open = (): unknown => openCatalogue({ scenarios: ["\n::error::forged"] });
    expect(open).toThrow(UsageError);
    expect(open).toThrow(/^[^\n]*::error::forged: ENOENT[^\n]*$/);
  });
});
