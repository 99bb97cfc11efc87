/** The ways out side by side: which run makes a row, and what its cells are. */
import { describe, expect, it } from "vitest";
import { type ComparedRow, comparedRows, comparisonText } from "../../src/compare/comparison.ts";
import type { LinuxGuestFile } from "../../src/compare/linux-guest.ts";
import type { LinuxRun } from "../../src/compare/linux-runs.ts";
import { loadScenarios } from "../../src/fixtures.ts";
import { recordedCase } from "../support/linux-cases.ts";

const scenarios = loadScenarios();

function runWith(cases: LinuxRun["cases"], kernels: Partial<LinuxRun> = {}): LinuxRun {
  return { host: "6.12.1", guest: "6.12.1", ...kernels, cases };
}

const fileWith = (run: LinuxRun): LinuxGuestFile => ({
  ...run,
  about: "",
  recorded: "2026-11-26",
  microGuest: "kvm_amd-6.12",
});

const rowsOf = (recorded: readonly LinuxRun[], own: readonly LinuxRun[] = []): readonly ComparedRow[] =>
  comparedRows({ own, recorded: recorded.map(fileWith), scenarios });

const hung = recordedCase("load-after-truncate", "apf-guest", { last: "hung", vmm: "looping" });
const hungStore = recordedCase("store-after-truncate", "apf-guest", { last: "hung", vmm: "looping" });
const ended = recordedCase("load-after-truncate", "final-efault", { last: "killed", vmm: "stopped(efault)" });

describe("comparedRows", () => {
  it("has a row for what is recorded alone, in the order of the talk", () => {
    expect(rowsOf([])).toEqual([]);
    const rows = rowsOf([runWith([ended], { kvm: "final-efault" }), runWith([hung])]);
    expect(rows).toEqual([
      {
        title: "today",
        proposal: "apf-guest",
        kernels: "6.12 on 6.12",
        source: "recorded",
        day: "2026-11-26",
        host: "6.12.1",
        changes: [],
        cells: [["hung", "VMM looping"], [], [], []],
      },
      {
        title: "-EFAULT exit",
        proposal: "final-efault",
        kernels: "6.12 on 6.12 with its patch",
        source: "recorded",
        day: "2026-11-26",
        host: "6.12.1",
        changes: ["KVM"],
        cells: [["killed", "VMM stopped(efault)"], [], [], []],
      },
    ]);
  });

  it("takes a row of this run, if it has one, and never mixes the cells of two", () => {
    const own = recordedCase("store-after-truncate", "apf-guest", { last: "sigbus(BUS_ADRERR)" });
    const [row] = rowsOf([runWith([hung, hungStore])], [runWith([own], { host: "7.9.0", guest: "7.9.0" })]);
    expect(row).toMatchObject({ source: "this run", kernels: "7.9 on 7.9" });
    expect(row?.cells).toEqual([[], ["sigbus(BUS_ADRERR)"], [], []]);
  });

  it("has a row of the micro-guest behind that of a Linux guest, recorded or not", () => {
    const micro = [runWith([hung], { host: "6.18.0", guest: "micro-guest" })];
    const both = comparedRows({ own: [], micro, recorded: [fileWith(runWith([hung]))], scenarios });
    expect(both.map(({ kernels, source, day }) => [kernels, source, day])).toEqual([
      ["6.12 on 6.12", "recorded", "2026-11-26"],
      ["micro-guest on 6.18", "this run", null],
    ]);
    expect(comparedRows({ own: [], micro, recorded: [], scenarios })).toHaveLength(1);
  });

  it("says who has to change: of a guest's kernel only where it was built with a patch", () => {
    const one = recordedCase("load-after-truncate", "sigbus-injection", { last: "sigbus(BUS_ADRERR)" });
    const kvm = "ready-error" as const;
    const [stock] = rowsOf([runWith([one], { kvm })]);
    const [patched] = rowsOf([runWith([one], { kvm, guestPatches: ["sigbus-injection"] })]);
    expect([stock?.changes, patched?.changes]).toEqual([["KVM"], ["KVM", "guest kernel"]]);
    const [fence] = rowsOf([
      runWith([recordedCase("load-after-truncate", "mce-injection", { last: "sigbus(SI_KERNEL)" })]),
    ]);
    expect(fence?.changes).toEqual(["VMM"]);
  });

  it("takes the recording that answers most, then the one whose guest has the host's kernel", () => {
    const most = rowsOf([runWith([hung]), runWith([hung, hungStore], { guest: "6.1.5" })]);
    expect(most[0]?.kernels).toBe("6.1 on 6.12");
    const alike = rowsOf([runWith([hung], { guest: "6.1.5" }), runWith([hung])]);
    expect(alike[0]?.kernels).toBe("6.12 on 6.12");
  });

  it("leaves out what ran on a KVM that is not the proposal's, and cases of another text of the scenario", () => {
    expect(rowsOf([runWith([ended])])).toEqual([]);
    expect(rowsOf([runWith([hung], { kvm: "final-efault" })])).toEqual([]);
    expect(rowsOf([runWith([{ ...hung, scenarioHash: "000000000000" }])])).toEqual([]);
  });

  it("asks the lease of the file server about truncations through it alone", () => {
    const around = recordedCase("load-after-truncate", "lease-fuse", { last: "sigbus(BUS_ADRERR)" });
    const through = recordedCase("load-after-guarded-truncate-by-mount", "lease-fuse", {
      last: "sigsegv(SEGV_ACCERR)",
      bystanders: { bystander: "progress" },
    });
    expect(rowsOf([runWith([around])])).toEqual([]);
    expect(rowsOf([runWith([around, through])])[0]?.cells[0]).toEqual(["sigsegv(SEGV_ACCERR)"]);
  });

  it("is a table of Markdown for the documents", () => {
    const text = comparisonText([fileWith(runWith([hung]))], scenarios);
    expect(text).toMatch(/^\| +\| Linux +\| a process loads +\| stores/);
    expect(text).toContain("| today (`apf-guest`) | 6.12 on 6.12 | hung, VMM looping |");
  });
});
