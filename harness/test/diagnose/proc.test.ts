/** The texts are those of Linux 6.12. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  guestNameOf,
  parseCommandLine,
  parseExecStart,
  parseMaps,
  parseMember,
  parseMountinfo,
  parseStack,
  parseStat,
  parseSyscall,
} from "../../src/diagnose/proc.ts";

describe("parseMaps", () => {
  const line = "7f6950a00000-7f6950e00000 rw-s 00100000 fe:01 131 /tmp/scene/a\\012b (deleted)";

  it("takes files, each with its place", () => {
    expect(parseMaps(`${line}\n`)).toEqual([
      {
        start: 0x7f6950a00000n,
        end: 0x7f6950e00000n,
        access: "rw-s",
        offset: 0x100000n,
        major: 254,
        minor: 1,
        inode: 131n,
        path: "/tmp/scene/a\\012b (deleted)",
      },
    ]);
  });

  it("leaves out what has no file", () => {
    for (const text of [
      "7ffd1000-7ffd2000 rw-p 00000000 00:00 0          [stack]",
      "00400000-00401000 rw-p 00000000 00:00 0 ",
      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]",
      "",
      "garbage",
    ]) {
      expect(parseMaps(text)).toEqual([]);
    }
  });

  it("keeps a path with blanks, and one of none", () => {
    expect(parseMaps("1000-2000 r--p 00000000 00:01 7   /a  b")[0]?.path).toBe("/a  b");
    expect(parseMaps("1000-2000 r--p 00000000 00:01 7")[0]?.path).toBe("");
  });
});

describe("parseMountinfo", () => {
  it("has device, place, type and source of each mount", () => {
    const text =
      "36 35 0:52 / /run/a\\040b\\134c rw,nosuid shared:1 master:2 - fuse.sshfs host:/x\\011y rw,user_id=0\n" +
      "1 1 8:1 / / rw - ext4 /dev/sda1 rw\nnot one\n";
    expect(parseMountinfo(text)).toEqual([
      { major: 0, minor: 52, mountPoint: "/run/a b\\c", type: "fuse.sshfs", source: "host:/x\ty" },
      { major: 8, minor: 1, mountPoint: "/", type: "ext4", source: "/dev/sda1" },
    ]);
  });
});

describe("parseStat", () => {
  it("counts fields from behind the name, which may have brackets and line ends", () => {
    const rest = Array.from({ length: 49 }, (_, index) => index + 4).join(" ");
    expect(parseStat(`12 (CPU 0) R\n(x)) D ${rest}\n`)).toEqual({
      name: "CPU 0) R\n(x)",
      state: "D",
      majorFaults: 12,
      userTicks: 14,
      systemTicks: 15,
      startTicks: 22,
      guestTicks: 43,
      isKernels: false,
    });
  });

  it("knows the kernel's own thread in a process by its flags, as KVM's in Linux 6.12", () => {
    const text = "153 (kvm-nx-lpage-re) S 100 141 98 0 -1 4210752 0 0 0 0 0 0 0 0 20 0 17 0 12";
    expect(parseStat(text)?.isKernels).toBe(true);
    expect(parseStat(text.replace("4210752", "4194368"))?.isKernels).toBe(false);
  });

  it("is null for what is none", () => {
    for (const text of ["", "12 (a", "12 a) S 1", "12 (a) ", "12 (a) 7 8"])
      expect(parseStat(text)).toBeNull();
  });
});

describe("parseSyscall", () => {
  it("tells KVM_RUN from other calls", () => {
    expect(parseSyscall("16 0x1b 0xae80 0x0 0x7f 0x0 0x0 0x7ffd 0x7f69\n")).toEqual({
      kind: "kvm-run",
      fd: 27,
    });
    expect(parseSyscall("16 0x1b 0xae81 0x0 0x0 0x0 0x0 0x7ffd 0x7f69")).toEqual({
      kind: "call",
      number: 16,
    });
    expect(parseSyscall("202 0x7f 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x7f69")).toEqual({
      kind: "call",
      number: 202,
    });
    expect(parseSyscall("running\n")).toEqual({ kind: "running" });
    expect(parseSyscall("-1 0x7ffd 0x7f69")).toEqual({ kind: "no-call" });
    expect(parseSyscall("")).toBeNull();
    expect(parseSyscall("16 x y")).toEqual({ kind: "call", number: 16 });
  });
});

describe("parseStack", () => {
  it("has the functions, innermost first", () => {
    const text = "[<0>] kvm_vcpu_block+0x4f/0xa0 [kvm]\n[<0>] kvm_vcpu_halt+0x61/0x3f0 [kvm]\n";
    expect(parseStack(text)).toEqual(["kvm_vcpu_block", "kvm_vcpu_halt"]);
    expect(parseStack("")).toEqual([]);
  });
});

describe("parseExecStart", () => {
  it("is in milliseconds", () => {
    const text =
      "node (12, #threads: 3)\n----\nse.exec_start                                :      85418316.468162\n";
    expect(parseExecStart(text)).toBe(85418316.468162);
    expect(parseExecStart("")).toBeNull();
  });
});

describe("parseMember", () => {
  it("finds whole names only", () => {
    expect(parseMember("NSTgid:\t7\nTgid:\t12\n", "Tgid")).toBe("12");
    expect(parseMember("pos:\t0\n", "fuse_connection")).toBeNull();
  });
});

describe("guestNameOf", () => {
  it("is that of QEMU, Firecracker, crosvm", () => {
    for (const [words, name] of [
      [["qemu", "-name", "guest=web,debug-threads=on"], "web"],
      [["qemu", "-name", "debug-threads=on,guest=a,,b"], "a,b"],
      [["qemu", "-name", "plain"], "plain"],
      [["firecracker", "--id", "vm-1"], "vm-1"],
      [["crosvm", "--name=x=y"], "x=y"],
      [["qemu", "-name"], null],
      [["qemu", "-m", "64"], null],
      [[], null],
    ] as const) {
      expect(guestNameOf(words)).toBe(name);
    }
  });

  it("comes from a command line as the kernel has it", () => {
    expect(parseCommandLine("a\0b c\0\0")).toEqual(["a", "b c", ""]);
    expect(parseCommandLine("")).toEqual([]);
  });
});

describe("every parser", () => {
  it("takes any text, and never throws", () => {
    const pieces = fc.constantFrom(
      "0",
      "-",
      "ffffffffffffffff",
      " ",
      "\n",
      "\t",
      ":",
      "(",
      ")",
      "rw-s",
      "0x",
      "running",
      "\\1",
      "\0",
      "[<0>] ",
      "se.exec_start",
    );
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(pieces).map((all) => all.join("")),
    );
    fc.assert(
      fc.property(text, (one) => {
        parseMaps(one);
        parseMountinfo(one);
        parseStat(one);
        parseSyscall(one);
        parseStack(one);
        parseExecStart(one);
        parseMember(one, "Tgid");
        guestNameOf(parseCommandLine(one));
      }),
    );
  });

  it("gives back the mappings that a text was made of", () => {
    const mapping = fc.record({
      start: fc.bigInt({ min: 0n, max: 2n ** 47n }),
      pages: fc.bigInt({ min: 1n, max: 2n ** 20n }),
      offset: fc.bigInt({ min: 0n, max: 2n ** 40n }),
      access: fc.constantFrom("rw-s", "r--p", "rwxp", "---p"),
      minor: fc.nat(2 ** 20 - 1),
      inode: fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }),
      path: fc.string().map((path) => `/${path.replaceAll("\n", "")}`),
    });
    fc.assert(
      fc.property(fc.array(mapping), (mappings) => {
        const hex = (value: bigint): string => value.toString(16);
        const lines = mappings.map(
          ({ start, pages, offset, access, minor, inode, path }) =>
            `${hex(start)}-${hex(start + pages * 4096n)} ${access} ${hex(offset)} 00:${minor.toString(16)} ${inode}    ${path}`,
        );
        expect(parseMaps(lines.join("\n"))).toEqual(
          mappings.map(({ start, pages, offset, access, minor, inode, path }) => ({
            start,
            end: start + pages * 4096n,
            access,
            offset,
            major: 0,
            minor,
            inode,
            path,
          })),
        );
      }),
    );
  });
});
