import { describe, expect, it } from "vitest";
import type { Scenario } from "../../../../language/src/index.ts";
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
