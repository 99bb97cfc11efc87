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
  ])("reads %s", (text, expected) => {
    expect(parseKernelSpec(text)).toEqual({ text, ...expected });
  });

  it.each([
    ["", "empty"],
    ["fedora:42", "only debian"],
    ["debian:", "neither a version"],
    ["debian:6.1 -o Dir::Etc=/x", "neither a version"],
    ["debian:../../x", "neither a version"],
  ])("refuses %j and says why", (text, why) => {
    const spec = parseKernelSpec(text);
    expect(spec).toMatchObject({ kind: "problem" });
    expect(spec.kind === "problem" ? spec.message : "").toContain(why);
  });
});
