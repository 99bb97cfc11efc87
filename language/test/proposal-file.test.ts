/** The user's proposals: what is filled in, and what a value of the earlier `vmm` axis is refused with. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { splitVmm } from "../src/proposal.ts";
import { loadProposals } from "../src/proposal-file.ts";

const folder = mkdtempSync(join(tmpdir(), "daxfault-proposals-"));
afterAll(() => rmSync(folder, { recursive: true }));

const mine = { id: "mine", title: "Mine.", kvm: "today", vmm: "stop", guest: "apf", server: "none" };

function load(proposal: object): ReturnType<typeof loadProposals> {
  const path = join(folder, "mine.json");
  writeFileSync(path, JSON.stringify(proposal, null, 2));
  return loadProposals(path);
}

describe("a file of proposals", () => {
  it("says what makes the exit, or has KVM make it", () => {
    const written = { ...mine, exits: "fence", lapic: "kernel" };
    expect(load(written)).toEqual([written]);
    expect(load({ ...mine, lapic: "kernel" })).toEqual([{ ...mine, exits: "kvm", lapic: "kernel" }]);
    const native = { ...mine, kvm: "none", vmm: "none", guest: "none", lapic: null };
    expect(load(native)).toEqual([{ ...native, exits: "none" }]);
  });

  it.each([
    [{ vmm: "fence" }, 'write "exits": "fence", "vmm": "inject-pf"'],
    [{ vmm: "fence", guest: "ve" }, 'write "exits": "fence", "vmm": "inject-ve"'],
    [{ vmm: "fence", guest: "mce-safe-loads" }, 'write "exits": "fence", "vmm": "inject-mce"'],
    [{ vmm: "no-hlt-exits" }, 'write "exits": "hlt-in-guest", "vmm": "stop"'],
    [{ vmm: "fences" }, "Invalid option"],
    [{ exits: "fences" }, "Invalid option"],
  ])("refuses %j with what to write, and the line", (members, message) => {
    const act = (): unknown => load({ ...mine, ...members, lapic: "kernel" });
    expect(act).toThrow(message);
    expect(act).toThrow(`mine.json:${"exits" in members ? 8 : 5}`);
  });
});

describe("the earlier vmm axis", () => {
  it.each(["stop", "inject-pf", "remap-zero", "none", "nonsense"])(
    "%s was no more than a reaction",
    (vmm) => {
      expect(splitVmm(vmm, "apf")).toBeNull();
    },
  );
});
