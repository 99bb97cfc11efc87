import { describe, expect, it } from "vitest";
import { engineRows } from "../../../src/engines/registry.ts";
import { guestCpus } from "../../../src/kernel/qemu.ts";
import { cpusFor } from "../../../src/machines/kernel/cpus.ts";

const named = (takes: boolean) =>
  engineRows.filter((row) => row.guestTakesInterrupts === takes).map(({ name }) => name);

describe("a kernel's VM", () => {
  it("has one emulated CPU where a guest inside takes interrupts, beside any other engine", () => {
    expect(named(true)).toContain("kvm");
    for (const name of named(true)) {
      expect(cpusFor([name], "tcg")).toBe(1);
      expect(cpusFor([...named(false), name], "tcg")).toBe(1);
    }
  });

  it("has as many as help where none does, or where the processor is real", () => {
    expect(cpusFor(named(false), "tcg")).toBe(guestCpus());
    expect(cpusFor([], "tcg")).toBe(guestCpus());
    expect(cpusFor(named(true), "kvm")).toBe(guestCpus());
  });
});
