/** What a case says of the file that the model, which knows pages, would get wrong: refused by name, and nothing beside it. */
import { describe, expect, it } from "vitest";
import type { Scenario } from "../../../../language/src/index.ts";
import { parseScenarios } from "../../../../language/src/read.ts";
import { proposalOf } from "../../../../language/test/support/cases.ts";
import { allowedEnds } from "../../../src/engines/model/allowed.ts";
import { hardware, translate } from "../../../src/engines/model/translate.ts";

type Given = {
  readonly victim: readonly string[];
  readonly host?: readonly string[];
  readonly backing?: Readonly<Record<string, string>>;
  readonly layout?: string;
  readonly task?: Readonly<Record<string, unknown>>;
};

function scenarioOf({ victim, host, backing, layout, task }: Given): Scenario {
  const source = {
    id: "x",
    purpose: "x",
    ...(layout === undefined ? {} : { layout }),
    backing: { size: "4MiB", ...backing },
    actors: {
      victim: { in: "guest-task", onSigbus: "next-step", ...task, steps: victim },
      ...(host === undefined ? {} : { host: { in: "host-process", steps: host } }),
    },
    witness: [],
    properties: [],
  };
  return parseScenarios(JSON.stringify(source), "x")[0] as Scenario;
}

/** Null: it is not refused. */
function reasonOf(given: Given, proposal = "native"): string | null {
  const translation = translate(scenarioOf(given), proposalOf(proposal), { backend: hardware, timer: true });
  return translation.kind === "no" ? translation.reason : null;
}

/** The words for `load#2` of every end. */
function secondLoads(given: Given): readonly (string | undefined)[] {
  const allowed = allowedEnds(scenarioOf(given), proposalOf("native"), hardware);
  if (allowed.kind !== "ends") throw new Error(`no ends: ${allowed.kind}`);
  return [...new Set(allowed.ends.map(({ outcome }) => outcome.accesses.victim?.["load#2"]?.kind))];
}

const behind = (...steps: readonly string[]) => ["load 0x1000 8", "signal t", "await g", ...steps];
const acting = (...steps: readonly string[]) => ["await t", ...steps, "signal g"];
const load = "load 0x1000 8";

describe("a step by the file's name", () => {
  it.each([
    ["rename-over", "truncate 0"],
    ["rename-over", "open-truncate 0"],
    ["rename-over", "open-trunc"],
    ["rename-over", "punch 0x1000 0x1000"],
    ["rename-over", "open", "ftruncate 0"],
  ])("behind %s does nothing to the mapped inode: %s", (...steps) => {
    expect(secondLoads({ victim: behind(load), host: acting(...steps) })).toEqual(["value"]);
  });

  it("by a descriptor of before still reaches it", () => {
    const host = acting("open", "rename-over", "ftruncate 0");
    expect(secondLoads({ victim: behind(load), host })).toEqual(["sigbus"]);
  });

  it.each([
    ["unlink", "truncate 0"],
    ["unlink", "open-truncate 0"],
    ["rename-over", "map-store 0x200000 1"],
    ["rename-over", "collapse 0x300000 0x1000"],
  ])("is refused, whose result is not done: %s; %s", (name, step) => {
    expect(reasonOf({ victim: behind(load), host: acting(name, step) })).toContain(`behind ${name}`);
  });
});

describe("a hole", () => {
  it("that begins or ends in a page that is touched is refused", () => {
    for (const hole of ["punch 0x1800 0x1000", "punch 0x1000 0x800", "punch 0x800 0x800"]) {
      const victim = behind("load 0x1000 8", "load 0x0 8");
      expect(reasonOf({ victim, host: acting(hole) })).toBe(
        "a hole that begins or ends in a page: the model knows pages only",
      );
    }
  });

  it("of whole pages, or with an edge in a page that nobody touches, is not", () => {
    expect(reasonOf({ victim: behind(load), host: acting("punch 0x1000 0x1000") })).toBeNull();
    expect(reasonOf({ victim: behind(load), host: acting("punch 0x1000 0x1800") })).toBeNull();
  });
});

describe("several values in one page", () => {
  const regrown = (store: string) => acting("truncate 0", "truncate 4MiB", store);
  const reason = "several values in one page: a page of the model has one";

  it("are refused: a host's store beside the bytes of an access", () => {
    expect(reasonOf({ victim: behind(load), host: regrown("map-store 0x1008 0x33") })).toBe(reason);
    expect(reasonOf({ victim: behind("load 0x1004 8"), host: regrown("map-store 0x1000 9") })).toBe(reason);
  });

  it("are refused: what a copy has left that may end at its second page", () => {
    const victim = behind("copy-to 0x1ff0 32 5", "load 0x1ff8 8");
    expect(reasonOf({ victim, host: acting("truncate 0x2000") })).toBe(reason);
    expect(reasonOf({ victim: behind("copy-to 0x1ff0 32 5"), host: acting("truncate 0x2000") })).toBeNull();
  });

  it("are not: of a move, which writes to both pages or to none, and what is seen before a copy", () => {
    const host = acting("truncate 0x2000");
    expect(reasonOf({ victim: behind("store 0x1ffc 8 5", "load 0x1ff8 8"), host })).toBeNull();
    expect(reasonOf({ victim: ["load 0x1ff8 8", ...behind("copy-to 0x1ff0 32 5")], host })).toBeNull();
  });

  it("are not: a host's store of the bytes that are touched", () => {
    expect(reasonOf({ victim: behind(load), host: regrown("map-store 0x1000 9") })).toBeNull();
  });
});

describe("a store of the host", () => {
  const reason =
    "a store of the host to a page that is lost, which ends its process: in the model it is done";
  const far = "load 0x3000 8";
  it("to a page that is lost is refused, also where no task touches it", () => {
    expect(reasonOf({ victim: behind(far), host: acting("truncate 0x5000", "map-store 0x5000 9") })).toBe(
      reason,
    );
    expect(reasonOf({ victim: behind(far), host: acting("truncate 0x5ffc", "map-store 0x5ffc 9") })).toBe(
      reason,
    );
    const full = { kind: "tmpfs-full" };
    expect(reasonOf({ victim: behind(far), host: acting("map-store 0x3ff000 9"), backing: full })).toBe(
      reason,
    );
  });

  it("in the last page, behind the end or not, is not", () => {
    const host = acting("truncate 0x4001", "map-store 0x4ff8 9", "truncate 0x5000", "map-store 0x4000 9");
    expect(reasonOf({ victim: behind(far), host })).toBeNull();
  });
});

describe("a full tmpfs", () => {
  const full = { kind: "tmpfs-full" };
  it("that gets space back is refused where a page without space is touched", () => {
    const host = acting("truncate 0", "truncate 4MiB");
    expect(reasonOf({ victim: behind("load 0x3ff000 8"), host, backing: full })).toContain("gets space back");
    expect(reasonOf({ victim: behind(load), host, backing: full })).toBeNull();
    expect(
      reasonOf({ victim: behind("load 0x3ff000 8"), host: acting("truncate 3MiB"), backing: full }),
    ).toBeNull();
  });
});

describe("a file of huge pages", () => {
  const huge = { layout: "nvdimm", backing: { kind: "hugetlb", size: "8MiB" } };
  it("is refused a size that is not of whole ones, and keeps its size", () => {
    const given = { ...huge, victim: behind(load), host: acting("truncate 0x1000") };
    expect(reasonOf(given, "uniform-efault")).toContain("EINVAL");
    expect(reasonOf({ ...given, host: acting("truncate 0") }, "uniform-efault")).toBeNull();
  });
});

describe("a task", () => {
  it("of a guest's guest is refused without a VM", () => {
    const given = { victim: behind(load), host: acting("truncate 0"), task: { nested: true } };
    expect(reasonOf(given)).toContain("guest's guest");
    expect(reasonOf(given, "uniform-efault")).toBeNull();
  });

  it.each([
    ["interrupts off", { interrupts: "off" }],
    ["a guest kernel", { in: "guest-kernel", onSigbus: undefined }],
  ])("that a process cannot do is refused without a VM: %s", (reason, task) => {
    const given = { victim: behind(load), host: acting("truncate 0"), task };
    expect(reasonOf(given)).toContain(reason);
    expect(reasonOf(given, "uniform-efault")).toBeNull();
  });

  it("that repeats an access and goes on behind SIGBUS is refused", () => {
    const given = {
      victim: ["load 0x1000 8", "signal t", "load 0x1000 8 until g"],
      host: acting("truncate 0"),
    };
    expect(reasonOf(given)).toContain("a repetition that SIGBUS ends");
    expect(reasonOf({ ...given, task: { onSigbus: "killed" } })).toBeNull();
  });
});
