import { describe, expect, it } from "vitest";
import { parseKernelSpec } from "../../src/kernel/spec.ts";

describe("parseKernelSpec", () => {
  it.each([
    ["host", { kind: "host" }],
    ["small", { kind: "small" }],
    ["arch/x86/boot/bzImage", { kind: "file", path: "arch/x86/boot/bzImage" }],
    ["vmlinux", { kind: "file", path: "vmlinux" }],
    ["./a:b", { kind: "file", path: "./a:b" }],
    ["debian:6.1", { kind: "debian-version", version: "6.1" }],
    ["debian:6.1.0-56", { kind: "debian-version", version: "6.1.0-56" }],
    ["debian:backports", { kind: "debian-suite", suite: "stable-backports" }],
    ["debian:sid", { kind: "debian-suite", suite: "sid" }],
    // Debian's versions have a + of their own.
    ["debian:6.12.117+deb12-amd64", { kind: "debian-version", version: "6.12.117+deb12-amd64" }],
    ["debian:7.2.11-1~bpo13+1", { kind: "debian-version", version: "7.2.11-1~bpo13+1" }],
    ["debian:6.1.192-2+b1", { kind: "debian-version", version: "6.1.192-2+b1" }],
    ["/boot/vmlinuz-6.12.117+deb12-amd64", { kind: "file", path: "/boot/vmlinuz-6.12.117+deb12-amd64" }],
    ["./linux+rc", { kind: "file", path: "./linux+rc" }],
  ])("reads %s", (text, expected) => {
    expect(parseKernelSpec(text)).toEqual({ text, ...expected });
  });

  const proposal = (text: string) => ({ kind: "proposal", text });
  const file = (text: string) => ({ kind: "file", text });
  it.each([
    ["debian:6.12+final-efault", "debian:6.12", [proposal("final-efault")]],
    ["debian:6.12+./my.patch", "debian:6.12", [file("./my.patch")]],
    ["debian:6.12+my.patch", "debian:6.12", [file("my.patch")]],
    ["debian:6.12+/a/b", "debian:6.12", [file("/a/b")]],
    ["debian:backports+a+b", "debian:backports", [proposal("a"), proposal("b")]],
    ["debian:6.12.117+deb12+a+../b.diff", "debian:6.12.117+deb12", [proposal("a"), file("../b.diff")]],
    ["debian:6.12.117-1~deb12u1+a", "debian:6.12.117-1~deb12u1", [proposal("a")]],
    ["small+sigbus-injection", "small", [proposal("sigbus-injection")]],
    ["small+./my.patch", "small", [file("./my.patch")]],
  ])("reads %s as patches on %s", (text, base, patches) => {
    expect(parseKernelSpec(text)).toEqual({ kind: "patched", text, base: parseKernelSpec(base), patches });
  });

  it.each([
    ["", "empty"],
    ["fedora:42", "only debian"],
    ["debian:", "neither a version"],
    ["debian:6.1 -o Dir::Etc=/x", "neither a version"],
    ["debian:../../x", "neither a version"],
    ["debian:6.12+", '"" behind a + is no patch'],
    [
      "debian:6.12+Final",
      "the name of a proposal, ./FILE or FILE.patch; +1, +b1 and +deb12 belong to a version",
    ],
    ["debian:6.12+a b", "is no patch"],
    ["small+", "is no patch"],
    ["host+final-efault", "debian:VERSION+PATCH"],
  ])("refuses %j and says why", (text, why) => {
    const spec = parseKernelSpec(text);
    expect(spec).toMatchObject({ kind: "problem" });
    expect(spec.kind === "problem" ? spec.message : "").toContain(why);
  });
});
