/** The sizes of a file are those of every step that sets one, in the order in which the scenario has them. */
import { describe, expect, it } from "vitest";
import type { GuestStep } from "../../src/scenario/guest-verbs.ts";
import type { HostStep } from "../../src/scenario/host-verbs.ts";
import { effectsOf, fileSizes } from "../../src/scenario/sizes.ts";
import { scenarioWith } from "../support/cases.ts";

const guest = (...steps: GuestStep[]) => ({ in: "guest-task", steps }) as const;
const host = (...steps: HostStep[]) => ({ in: "host-process", through: "file", steps }) as const;
const cutTo = (newSize: bigint): GuestStep => ({ verb: "file-truncate", offset: 0n, newSize });

describe("fileSizes", () => {
  it("has a guest's among those of hosts, in their order by signals", () => {
    const scenario = scenarioWith({
      actors: {
        victim: guest(
          cutTo(0x2000n),
          { verb: "signal", name: "shorter" },
          { verb: "await", name: "grown" },
          cutTo(0n),
        ),
        host: host(
          { verb: "await", name: "shorter" },
          { verb: "truncate", size: 0x400000n },
          { verb: "signal", name: "grown" },
        ),
      },
    });
    expect(fileSizes(scenario)).toEqual([0x400000n, 0x2000n, 0x400000n, 0n]);
  });

  it("has hosts first where nothing orders them, and a size that stays once", () => {
    const actors = {
      victim: guest(cutTo(0x1000n), cutTo(0x1000n)),
      host: host({ verb: "truncate", size: 0n }),
    };
    expect(fileSizes(scenarioWith({ actors }))).toEqual([0x400000n, 0n, 0x1000n]);
  });
});

describe("effectsOf", () => {
  it("has the step, what it does, and the size behind it", () => {
    const actors = {
      host: host({ verb: "punch", offset: 0n, length: 0x1000n }),
      victim: guest({ verb: "load", offset: 0n, size: 8 }, cutTo(0n)),
    };
    expect(effectsOf(scenarioWith({ actors }))).toEqual([
      {
        at: { actor: "host", index: 0 },
        effect: { kind: "hole", range: { from: 0n, to: 0x1000n } },
        sizeBytes: 0x400000n,
      },
      {
        at: { actor: "victim", index: 1 },
        effect: { kind: "resize", sizeBytes: 0n, via: "open-fd" },
        sizeBytes: 0n,
      },
    ]);
  });
});

describe("effectsOf, of the mapped inode", () => {
  const kindsOf = (...steps: HostStep[]) =>
    effectsOf(scenarioWith({ actors: { host: host(...steps) } })).map(({ effect }) => effect.kind);
  const cut: HostStep = { verb: "truncate", size: 0n };

  it("has none for steps by a name that it has no more", () => {
    expect(kindsOf({ verb: "rename-over" }, cut)).toEqual(["none", "none"]);
    expect(kindsOf({ verb: "unlink" }, cut)).toEqual(["none", "none"]);
    expect(kindsOf(cut, { verb: "unlink" })).toEqual(["resize", "none"]);
  });

  it("has those by a descriptor that was opened before, not by one of the other file", () => {
    const byDescriptor: HostStep = { verb: "ftruncate", size: 0n };
    expect(kindsOf({ verb: "open" }, { verb: "rename-over" }, byDescriptor)).toEqual([
      "none",
      "none",
      "resize",
    ]);
    expect(kindsOf({ verb: "rename-over" }, { verb: "open" }, byDescriptor)).toEqual([
      "none",
      "none",
      "none",
    ]);
  });

  it("has none for a size that hugetlbfs denies", () => {
    const backing = { kind: "hugetlb", size: 0x800000n, content: "pattern" } as const;
    const actors = { host: host({ verb: "truncate", size: 0x1000n }, { verb: "truncate", size: 0x200000n }) };
    expect(effectsOf(scenarioWith({ actors, backing })).map(({ sizeBytes }) => sizeBytes)).toEqual([
      0x800000n,
      0x200000n,
    ]);
  });
});
