import { describe, expect, it } from "vitest";
import {
  type HostStep,
  type Scenario,
  type UserfaultAction,
  type VmmStep,
  vmmText,
} from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { allowedEnds } from "../../../src/engines/model/allowed.ts";
import { hardware, translate } from "../../../src/engines/model/translate.ts";

/** Two tasks load from two offsets of the window once the file has been truncated to nothing. */
function twoVictims(offsets: readonly [bigint, bigint], window: Scenario["window"]): Scenario {
  const victim = (offset: bigint): Scenario["actors"][string] => ({
    in: "guest-task",
    steps: [
      { verb: "await", name: "cut" },
      { verb: "load", offset, size: 8 },
    ],
  });
  return scenarioWith({
    window,
    actors: {
      first: victim(offsets[0]),
      second: victim(offsets[1]),
      host: {
        in: "host-process",
        through: "file",
        steps: [
          { verb: "truncate", size: 0n },
          { verb: "signal", name: "cut" },
        ],
      },
    },
  });
}

const whole: Scenario["window"] = [{ fileOffset: 0n, at: 0n, length: 0x200000n }];
const options = { backend: hardware, timer: true };

function gfnsOf(scenario: Scenario): readonly bigint[] | null | string {
  const translation = translate(scenario, proposalOf("uniform-efault"), options);
  return translation.kind === "yes" ? translation.case.gfns : translation.reason;
}

describe("layout virtio-fs", () => {
  it("is refused: the model's guest has no page cache", () => {
    const scenario = scenarioWith({ layout: "virtio-fs" });
    expect(translate(scenario, proposalOf("apf-guest"), options)).toEqual({
      kind: "no",
      reason: "layout virtio-fs is about a guest's page cache; the model's guest has none",
    });
  });
});

describe("a system call on a file", () => {
  it.each(["native", "uniform-efault"])("is refused by name, under %s", (id) => {
    const victim = { in: "guest-task", steps: [{ verb: "file-read", offset: 0n, size: 8 }] } as const;
    expect(translate(scenarioWith({ actors: { victim } }), proposalOf(id), options)).toEqual({
      kind: "no",
      reason: "victim: file-read is a system call that the model's guest has not",
    });
  });
});

describe("attributes that a client holds", () => {
  it("are refused by name", () => {
    const plain = scenarioWith({});
    const scenario = { ...plain, backing: { ...plain.backing, cache: "always" } } as const;
    expect(translate(scenario, proposalOf("uniform-efault"), options)).toEqual({
      kind: "no",
      reason: "the model has no client of a file server that holds attributes",
    });
  });
});

describe("a page's guest frame number", () => {
  it.each<[string, Scenario, readonly bigint[]]>([
    ["is where the window maps it", twoVictims([0x6000n, 0x28000n], whole), [0x40006n, 0x40028n]],
    [
      "not where it is in the file",
      twoVictims([0x6000n, 0x28000n], [{ fileOffset: 0x100000n, at: 0n, length: 0x200000n }]),
      [0x40006n, 0x40028n],
    ],
    [
      "in the order of the file's pages",
      twoVictims(
        [0x0n, 0x200000n],
        [
          { fileOffset: 0x200000n, at: 0n, length: 0x200000n },
          { fileOffset: 0n, at: 0x200000n, length: 0x200000n },
        ],
      ),
      [0x40200n, 0x40000n],
    ],
  ])("%s", (_what, scenario, gfns) => {
    expect(gfnsOf(scenario)).toEqual(gfns);
  });

  it("is one: a page of the file at two addresses is refused", () => {
    const twice = twoVictims(
      [0x0n, 0x200000n],
      [
        { fileOffset: 0n, at: 0n, length: 0x200000n },
        { fileOffset: 0n, at: 0x200000n, length: 0x200000n },
      ],
    );
    expect(gfnsOf(twice)).toMatch(/two guest addresses/);
  });

  it.each([
    ["loop where their gfns share a slot of Goyal's hash", 0x28000n, true],
    ["do not where they have a slot each", 0x7000n, false],
  ])("two victims %s", (_what, second, loops) => {
    const allowed = allowedEnds(twoVictims([0x6000n, second], whole), proposalOf("uniform-efault"), hardware);
    const ends = allowed.kind === "ends" ? allowed.ends : [];
    expect(ends.some(({ outcome }) => outcome.vmm?.[0]?.kind === "looping")).toBe(loops);
  });
});

describe("memory that is lost otherwise than by a truncation", () => {
  /** The victim touches page 1, waits for the host, and touches page 0x300. */
  function withBacking(backing: Partial<Scenario["backing"]>, host: Scenario["actors"][string]): Scenario {
    const plain = scenarioWith({ layout: "nvdimm", window: [] });
    return {
      ...plain,
      backing: { ...plain.backing, ...backing },
      actors: {
        victim: {
          in: "guest-task",
          steps: [
            { verb: "load", offset: 0x1000n, size: 8 },
            { verb: "signal", name: "touched" },
            { verb: "await", name: "done" },
            { verb: "load", offset: 0x300000n, size: 8 },
          ],
        },
        host,
      },
    };
  }
  const done = { verb: "signal", name: "done" } as const;
  const touched = { verb: "await", name: "touched" } as const;
  const host = (...steps: HostStep[]): Scenario["actors"][string] => ({
    in: "host-process",
    through: "file",
    steps: [touched, ...steps, done],
  });
  const vmm = (...steps: VmmStep[]): Scenario["actors"][string] => ({
    in: "vmm",
    steps: [touched, ...steps, done],
  });
  const handler = (action: UserfaultAction | null): Partial<Scenario["backing"]> => ({
    kind: "userfaultfd",
    handler: { faults: "all", prefault: 0n, rules: action === null ? [] : [{ at: 0x300000n, action }] },
  });
  const mount = { mount: { faults: [] } };
  const page = { offset: 0x300000n, length: 0x1000n } as const;

  function pagesOf(scenario: Scenario, proposal = "apf-guest"): readonly string[] | string {
    const translation = translate(scenario, proposalOf(proposal), options);
    return translation.kind === "yes" ? translation.case.pages : translation.reason;
  }

  it.each<[string, Scenario, readonly string[] | string]>([
    ["a dead server", withBacking(mount, host({ verb: "kill-server" })), ["on-disk", "io-error"]],
    ["a stopped one", withBacking(mount, host({ verb: "stop-server" })), ["on-disk", "unanswered"]],
    [
      "one that goes on",
      withBacking(mount, host({ verb: "stop-server" }, { verb: "continue-server" })),
      "a server that answers late: the model has no clock",
    ],
    ["a handler", withBacking(handler(null), host()), ["on-disk", "on-disk"]],
    ["a silent handler", withBacking(handler({ kind: "hang" }), host()), ["on-disk", "unanswered"]],
    ["a dead handler", withBacking(handler({ kind: "die" }), host()), ["on-disk", "unanswered"]],
    [
      "a handler of user faults",
      withBacking({ kind: "userfaultfd", handler: { faults: "user", prefault: 0x2000n, rules: [] } }, host()),
      ["resident", "no-space"],
    ],
    [
      "a handler that closes",
      withBacking(handler({ kind: "close" }), host()),
      'a handler of a userfaultfd that does "close" is not in the model',
    ],
    [
      "a pool that is dry",
      withBacking({ kind: "hugetlb", size: 0x400000n }, host()),
      ["resident", "no-space"],
    ],
    [
      "a hole under private memory",
      withBacking({ kind: "private" }, host({ verb: "punch", ...page })),
      "a hole under a private mapping is not in the model",
    ],
    [
      "a guest_memfd",
      withBacking({ kind: "guest-memfd" }, host()),
      "a page that KVM does not look up by the VMM's mapping is not in the model",
    ],
    [
      "a device",
      withBacking({}, vmm({ verb: "device-read", offset: 0n, size: 8 })),
      "a device's access is the VMM's own: not in the model",
    ],
    [
      "memory that is read only",
      withBacking({ readonly: true }, host()),
      "a mapping that may be read and not written is not in the model",
    ],
  ])("of %s", (_what, scenario, pages) => {
    expect(pagesOf(scenario)).toEqual(pages);
  });

  it.each([
    ["an unmapped page is no VMA", vmm({ verb: "unmap", ...page }), "apf-guest", "stopped(efault)"],
    [
      "PROT_NONE is none either",
      vmm({ verb: "protect", ...page, protection: "none" }),
      "apf-guest",
      "stopped(efault)",
    ],
    [
      "a page that memory failure has taken is a machine check to a VMM with a handler",
      vmm({ verb: "memory-failure", offset: 0x300000n }),
      "poison",
      "running",
    ],
  ] as const)("%s", (_what, actor, proposal, vmmState) => {
    const allowed = allowedEnds(withBacking({}, actor), proposalOf(proposal), hardware);
    if (allowed.kind !== "ends") throw new Error(allowed.reason);
    const states = allowed.ends.map(({ outcome }) => outcome.vmm?.map(vmmText).at(-1));
    expect(new Set(states)).toEqual(new Set([vmmState]));
  });

  it.each([
    ["hugetlb", { op: "hwpoison", page: 1, pages: 1 }],
    ["tmpfs", { op: "hwpoison", page: 1, pages: 0 }],
  ] as const)(
    "a memory failure of another page of 4 KiB takes what is touched of a huge one: %s",
    (kind, failed) => {
      const scenario = withBacking({ kind }, vmm({ verb: "memory-failure", offset: 0x201000n }));
      const translation = translate(scenario, proposalOf("poison"), options);
      if (translation.kind === "no") throw new Error(translation.reason);
      expect(translation.case.host.find(({ op }) => op === "hwpoison")).toEqual(failed);
    },
  );
});
