/** Recordings of Linux guests as tables: one for each layout that a recording has cases of. */
import { describe, expect, it } from "vitest";
import { linuxGuestTables } from "../../src/compare/linux-guest.ts";
import { loadScenarios } from "../../src/fixtures.ts";
import { recordedCase as recorded } from "../support/linux-cases.ts";

const scenarios = loadScenarios();

const dax = recorded("load-after-truncate", "pf-injection", { last: "sigsegv(SEGV_ACCERR)" });
const dimm = recorded("nvdimm/load-after-truncate", "apf-guest", { last: "hung", vmm: "looping" });
const dimmRead = recorded("nvdimm/file-read-after-truncate", "mce-injection", {
  last: "killed",
  lastWords: "Kernel panic - not syncing: Fatal local machine check",
});
const cached = recorded("virtio-fs/load-of-cached-page", "apf-guest", { last: "stale" });
const uncached = recorded("virtio-fs/load-of-uncached-page", "apf-guest", { last: "sigbus(BUS_ADRERR)" });
const micro = recorded("load-after-truncate", "pf-injection", { last: "sigbus(BUS_ADRERR)" });

function tables(cases: readonly ReturnType<typeof recorded>[], own: readonly (typeof dax)[] = []): string {
  return linuxGuestTables({ host: "6.12", guest: "6.1", recorded: "2026-11-26", cases }, own, scenarios);
}

describe("the tables of a recording", () => {
  it("are one, without a heading of its own, where all cases are about a DAX window", () => {
    const text = tables([dax], [micro]);
    expect(text).toContain("| `pf-injection` | sigsegv(SEGV_ACCERR) |");
    expect(text).toContain("#### Where Linux and the micro-guest differ");
    expect(text).toContain("load: sigsegv(SEGV_ACCERR), the micro-guest sigbus");
    expect(text).not.toMatch(/NVDIMM|page cache/);
  });

  it("keep the layouts apart: each has its cases and no other's", () => {
    const [, ...parts] = tables([dax, dimm, dimmRead, cached, uncached], [micro]).split(/^#### (?!Where)/m);
    const [nvdimm = "", hit = "", miss = ""] = parts;
    expect(parts).toHaveLength(3);
    expect(nvdimm).toMatch(/^A file on an NVDIMM/);
    expect(nvdimm).toMatch(/\| `apf-guest` +\| hung, VMM looping \| +\|/);
    expect(nvdimm).toMatch(/\| `mce-injection` \| +\| killed +\|/);
    expect(nvdimm).toContain("- file-read: `mce-injection`: `Kernel panic");
    expect(nvdimm).not.toContain("SEGV_ACCERR");
    expect(hit).toMatch(/\| `apf-guest` \| stale \|/);
    expect(miss).toMatch(/\| `apf-guest` \| sigbus\(BUS_ADRERR\) \|/);
  });

  it("say nothing of the micro-guest where it has run none of the cases", () => {
    expect(tables([cached], [micro])).not.toContain("micro-guest differ");
  });
});
