/** What we write, read by other programs: cpio where there is one, and our init in the end. */
import { describe, expect, it } from "vitest";
import { type CpioEntry, cpioArchive } from "../../src/kernel/cpio.ts";
import { guestInitramfs, guestRootInitramfs, initramfs, planText } from "../../src/kernel/initramfs.ts";

const program = { command: ["/usr/bin/node", "main.js"], environment: { PATH: "/bin" } };
const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");

/** An independent reader of the format, by its description (buffer-format.rst). */
function entriesOf(
  archive: Uint8Array,
): readonly { path: string; mode: number; body: string; rdev: string }[] {
  const text = Buffer.from(archive).toString("latin1");
  const entries: { path: string; mode: number; body: string; rdev: string }[] = [];
  for (let at = 0; at < text.length; ) {
    expect(at % 4).toBe(0);
    const field = (index: number): number =>
      Number.parseInt(text.slice(at + 6 + 8 * index, at + 14 + 8 * index), 16);
    expect(text.slice(at, at + 6)).toBe("070701");
    const nameAt = at + 6 + 8 * 13;
    const path = text.slice(nameAt, nameAt + field(11) - 1);
    const bodyAt = 4 * Math.ceil((nameAt + field(11)) / 4);
    entries.push({
      path,
      mode: field(1),
      body: text.slice(bodyAt, bodyAt + field(6)),
      rdev: `${field(9)}:${field(10)}`,
    });
    at = 4 * Math.ceil((bodyAt + field(6)) / 4);
  }
  return entries;
}

describe("cpioArchive", () => {
  it("holds what was put in, aligned, and its end", () => {
    const entries: readonly CpioEntry[] = [
      { kind: "directory", path: "dev" },
      { kind: "character-device", path: "dev/console", major: 5, minor: 1 },
      { kind: "file", path: "init", mode: 0o755, bytes: bytes("12345") },
      { kind: "file", path: "a", mode: 0o644, bytes: bytes("") },
    ];
    expect(entriesOf(cpioArchive(entries))).toEqual([
      { path: "dev", mode: 0o40755, body: "", rdev: "0:0" },
      { path: "dev/console", mode: 0o20600, body: "", rdev: "5:1" },
      { path: "init", mode: 0o100755, body: "12345", rdev: "0:0" },
      { path: "a", mode: 0o100644, body: "", rdev: "0:0" },
      { path: "TRAILER!!!", mode: 0, body: "", rdev: "0:0" },
    ]);
  });
});

describe("the plan", () => {
  const options = { init: bytes("init"), modules: [{ name: "9p", bytes: bytes("m") }], program };

  it("loads modules in their order, those that may be lacking with a minus", () => {
    const modules = ["virtio_pci", "kvm", "kvm_amd"].map((name) => ({ name, bytes: bytes(name) }));
    expect(
      planText({ ...options, modules })
        .split("\n")
        .slice(0, 3),
    ).toEqual([
      "insmod\t/modules/virtio_pci.ko\t",
      "-insmod\t/modules/kvm.ko\t",
      "-insmod\t/modules/kvm_amd.ko\t",
    ]);
  });

  it("gives the host's root file system read-only, and ends with the program", () => {
    const lines = planText(options).trimEnd().split("\n");
    expect(lines.filter((line) => line.includes("\t9p\t"))).toEqual([
      expect.stringContaining("\t/root\t9p\tro\t"),
    ]);
    expect(lines.at(-1)).toBe("exec\t/usr/bin/node\tmain.js");
  });

  it("refuses a word that would become two", () => {
    const odd = { command: ["/bin/a\nexec"], environment: {} };
    expect(() => planText({ ...options, program: odd })).toThrow("no tab and no line end");
  });

  it("is in the archive with its modules", () => {
    const paths = entriesOf(initramfs(options)).map(({ path }) => path);
    expect(paths).toEqual([
      "dev",
      "dev/console",
      "root",
      "modules",
      "init",
      "plan",
      "modules/9p.ko",
      "TRAILER!!!",
    ]);
  });
});

describe("the file system of a guest on our own VMM", () => {
  it("has init, the modules, and one program, which the plan starts", () => {
    const modules = ["nd_e820", "ext4"].map((name) => ({ name, bytes: bytes(name) }));
    const archive = guestInitramfs({ init: bytes("init"), modules, program: bytes("program") });
    const entries = new Map(entriesOf(archive).map(({ path, mode, body }) => [path, { mode, body }]));
    expect(entries.get("program")).toEqual({ mode: 0o100755, body: "program" });
    expect(entries.get("modules/ext4.ko")?.body).toBe("ext4");
    expect(entries.get("plan")?.body).toBe(
      "-insmod\t/modules/nd_e820.ko\t\n-insmod\t/modules/ext4.ko\t\n" +
        "-mount\tdevtmpfs\t/dev\tdevtmpfs\t-\t\nexec\t/program\n",
    );
  });
});

describe("the first file system of a guest with another machine's programs", () => {
  const modules = [{ name: "virtiofs", bytes: bytes("m") }];
  const plan = (words = program): readonly string[] => {
    const archive = guestRootInitramfs({
      init: bytes("init"),
      modules,
      program: words,
      rootTag: "root",
      shares: [{ tag: "work", name: "dax", options: "dax=always" }],
    });
    const entry = entriesOf(archive).find(({ path }) => path === "plan");
    return (entry?.body ?? "").split("\n");
  };

  it("mounts the root read-only before all that lies in it, and the shares below /run", () => {
    const lines = plan();
    const at = (line: string): number => lines.indexOf(line);
    expect(at("mount\troot\t/root\tvirtiofs\tro\t")).toBeGreaterThan(at("-insmod\t/modules/virtiofs.ko\t"));
    expect(at("mount\ttmpfs\t/root/run\ttmpfs\t-\tmode=0755")).toBeGreaterThan(
      at("mount\troot\t/root\tvirtiofs\tro\t"),
    );
    expect(at("mount\twork\t/root/run/daxfault/dax\tvirtiofs\t-\tdax=always")).toBe(
      at("mkdir\t/root/run/daxfault/dax") + 1,
    );
    expect(lines.slice(-5)).toEqual([
      "chroot\t/root",
      "setenv\tPATH=/bin",
      "setenv\tTMPDIR=/run/daxfault",
      "exec\t/usr/bin/node\tmain.js",
      "",
    ]);
  });

  it("refuses a word that the plan cannot carry", () => {
    expect(() => plan({ ...program, command: ["/bin/sh", "a\tb"] })).toThrow(RangeError);
  });
});
