/** Which patches a SPEC means, for which kernel, and which proposal a kernel with them has built in. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { proposals } from "../../../language/src/index.ts";
import { builtInKvm, outsideKvm, proposedKernels, readPatches } from "../../src/kernel/patches.ts";
import { type KernelSpec, parseKernelSpec } from "../../src/kernel/spec.ts";
import { caseFolder } from "../support/folders.ts";

const about = (path: string): string => `--- a/${path}\n+++ b/${path}\n@@ -1 +1 @@\n-a\n+b\n`;

let folder = "";

function write(path: string, text: string): string {
  const at = join(folder, path);
  mkdirSync(dirname(at), { recursive: true });
  writeFileSync(at, text);
  return at;
}

function publish(name: string, kvm: string, patches: Readonly<Record<string, string>>): void {
  write(`${name}/kernel.json`, JSON.stringify({ kvm, about: `what ${name} is` }));
  for (const [file, path] of Object.entries(patches)) write(`${name}/${file}`, about(path));
}

function specOf(text: string): KernelSpec {
  const spec = parseKernelSpec(text);
  if (spec.kind === "problem") throw new Error(spec.message);
  return spec;
}

const refsOf = (text: string) => {
  const spec = specOf(text);
  return spec.kind === "patched" ? spec.patches : [];
};

beforeEach(() => {
  folder = caseFolder();
  publish("final-efault", "final-efault", {
    "kvm-6.12.patch": "virt/kvm/kvm_main.c",
    "kvm-7.2.patch": "virt/kvm/kvm_main.c",
  });
  publish("sigbus-injection", "ready-error", {
    "kvm-6.12.patch": "arch/x86/kvm/x86.c",
    "guest-6.12.patch": "arch/x86/kernel/kvm.c",
  });
});

const read = (spec: string, series = "6.12", role: "under-test" | "guest" = "under-test") =>
  readPatches(refsOf(spec), { series, role, folder });

describe("readPatches", () => {
  it("takes the file of the kernel's series, and a guest's for a guest", () => {
    expect(read("debian:7.2+final-efault", "7.2")).toMatchObject([
      { name: "final-efault", path: join(folder, "final-efault/kvm-7.2.patch") },
    ]);
    expect(read("debian:6.12+sigbus-injection", "6.12", "guest")).toMatchObject([
      { path: join(folder, "sigbus-injection/guest-6.12.patch"), files: [{ path: "arch/x86/kernel/kvm.c" }] },
    ]);
  });

  it("takes several in order, and leaves out what is no code", () => {
    const own = write("own.patch", about("Documentation/virt/kvm/api.rst") + about("virt/kvm/eventfd.c"));
    const patches = read(`debian:6.12+${own}+final-efault`);
    expect(patches.map(({ name, files }) => [name, files.map(({ path }) => path)])).toEqual([
      [own, ["virt/kvm/eventfd.c"]],
      ["final-efault", ["virt/kvm/kvm_main.c"]],
    ]);
    expect(patches[0]?.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  it.each([
    [
      "debian:6.12+final-efaul",
      'there is no patch of a proposal "final-efaul"; there are: final-efault, sigbus-injection (a file of your own: ./final-efaul)',
    ],
    ["debian:6.12+./nowhere.patch", "./nowhere.patch: "],
  ])("refuses %s: %s", (spec, why) => {
    expect(() => read(spec)).toThrow(why);
  });

  it("suggests the nearest of many", () => {
    for (const name of ["a-one", "a-two", "a-three", "a-four", "a-five"]) publish(name, "today", {});
    expect(() => read("debian:6.12+final-efaul")).toThrow("nearest: final-efault; there are: a-five, ");
  });

  it("names the versions that there are where the kernel is of another, and what a guest can have", () => {
    expect(() => read("debian:6.1+final-efault", "6.1")).toThrow(
      "final-efault has no patch for Linux 6.1, only for 6.12 and 7.2 (--kernel debian:6.12+final-efault)",
    );
    expect(() => read("small+final-efault", "6.12", "guest")).toThrow(
      "final-efault changes nothing of a guest (--kernel debian:6.12+final-efault)",
    );
    expect(() => read("small+sigbus-injection", "7.2", "guest")).toThrow(
      "sigbus-injection has no patch for Linux 7.2, only for 6.12 (--guest-kernel debian:6.12+sigbus-injection)",
    );
  });

  it("refuses a patch of no code, a folder, and what is no patch", () => {
    const docs = write("docs.patch", about("Documentation/virt/kvm/api.rst"));
    expect(() => read(`debian:6.12+${docs}`)).toThrow("changes no code of a kernel for x86-64");
    expect(() => read(`debian:6.12+${folder}`)).toThrow("is a directory, not a regular file");
    const text = write("text.patch", "int main;\n");
    expect(() => read(`debian:6.12+${text}`)).toThrow("is no patch");
  });

  it("knows what is outside KVM's modules", () => {
    expect(outsideKvm(read("debian:6.12+sigbus-injection", "6.12", "guest"))).toEqual([
      "arch/x86/kernel/kvm.c",
    ]);
    expect(outsideKvm(read("debian:6.12+final-efault"))).toEqual([]);
  });
});

describe("builtInKvm", () => {
  const kvmOf = (text: string, named?: "exit-request"): string =>
    builtInKvm(specOf(text), named ?? null, folder);

  it("is what the folder says, what stands beside a file, or what the user says", () => {
    const own = write("mine/own.patch", about("virt/kvm/a.c"));
    expect(kvmOf("debian:6.12")).toBe("today");
    expect(kvmOf("debian:6.12+sigbus-injection")).toBe("ready-error");
    expect(kvmOf(`debian:6.12+${own}`)).toBe("today");
    expect(kvmOf(`debian:6.12+${own}`, "exit-request")).toBe("exit-request");
    expect(kvmOf(`debian:6.12+${own}+final-efault`)).toBe("final-efault");
    write("mine/kernel.json", JSON.stringify({ kvm: "error-gfn", about: "mine" }));
    expect(kvmOf(`debian:6.12+${own}`)).toBe("error-gfn");
  });

  it("is not guessed of two, and not read from what is no file of facts", () => {
    expect(() => kvmOf("debian:6.12+final-efault+sigbus-injection")).toThrow(
      "two proposals in one KVM, final-efault and ready-error: --kvm says which",
    );
    expect(kvmOf("debian:6.12+final-efault+sigbus-injection", "exit-request")).toBe("exit-request");
    write("final-efault/kernel.json", '{"kvm": "of-mine"}');
    expect(() => kvmOf("debian:6.12+final-efault")).toThrow(/kernel\.json: \{"kvm": "today" or /);
  });
});

describe("builtInKvm of a tree", () => {
  it("is the proposal whose lines are changed in it, or what the user says", () => {
    folder = caseFolder();
    publish("final-efault", "final-efault", {
      "kvm-6.12.patch": "virt/kvm/a.c",
      "guest-6.12.patch": "mm/b.c",
    });
    const tree = join(folder, "linux");
    const git = (...args: readonly string[]): void =>
      void execFileSync("git", ["-C", tree, "-c", "user.name=a", "-c", "user.email=a@b", ...args]);
    const kvmOf = (named: "exit-request" | null = null): string => builtInKvm(specOf(tree), named, folder);
    write("linux/virt/kvm/a.c", "a\n");
    write("linux/mm/b.c", "a\n");
    expect(kvmOf()).toBe("today");
    git("init", "-q");
    git("config", "diff.noprefix", "true");
    git("config", "color.ui", "always");
    git("add", ".");
    git("commit", "-qm", "a");
    expect(kvmOf()).toBe("today");
    write("linux/virt/kvm/a.c", "b\n");
    expect(kvmOf()).toBe("final-efault");
    expect(kvmOf("exit-request")).toBe("exit-request");
    write("linux/mm/b.c", "b\n");
    expect(kvmOf()).toBe("today");
  });
});

describe("fixtures/kernels", () => {
  it("has a patch for each kernel that it names, which changes KVM's modules alone, and whose proposal exists", () => {
    const all = proposedKernels();
    expect(all.map(({ name }) => name)).toContain("final-efault");
    for (const { name, kvm, patches } of all) {
      expect(
        proposals.some((proposal) => proposal.kvm === kvm),
        name,
      ).toBe(true);
      for (const file of patches) {
        const [, role, series = ""] = /^(kvm|guest)-([0-9.]+)\.patch$/.exec(file) ?? [];
        const isGuest = role === "guest";
        const made = readPatches([{ kind: "proposal", text: name }], {
          series,
          role: isGuest ? "guest" : "under-test",
        });
        if (!isGuest) expect(outsideKvm(made), file).toEqual([]);
      }
    }
  });
});
