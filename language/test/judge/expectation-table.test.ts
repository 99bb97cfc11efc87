/** Files of expectations: what a cell means of a case, which cell is about it, and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { answers } from "../../src/answers.ts";
import { betterThan } from "../../src/judge/bind.ts";
import { loadExpectations } from "../../src/judge/expectation-file.ts";
import { ExpectationTable } from "../../src/judge/expectation-table.ts";
import type { Expectation } from "../../src/judge/expectations.ts";
import { lostWord, vmmAfterLoss } from "../../src/judge/loss.ts";
import { proposals } from "../../src/presets.ts";
import type { GuestStep } from "../../src/scenario/guest-verbs.ts";
import type { Actor } from "../../src/scenario/scenario.ts";

const at = { offset: 0x1000n, size: 8 } as const;
const task = (...steps: GuestStep[]): Actor => ({ in: "guest-task", steps });
const load: GuestStep = { verb: "load", ...at };
const store: GuestStep = { verb: "store", ...at, value: 1n };
const scenario = {
  id: "a",
  actors: {
    victim: task(load, store),
    reader: task({ verb: "kernel-read", ...at, options: [] }),
    writer: task({ verb: "kernel-write", ...at, value: 1n, options: [] }),
    kernel: { in: "guest-kernel", steps: [load] } as Actor,
    "crowd-1": task(load),
    "crowd-2": task(load),
    "mixed-1": task(load),
    "mixed-2": task(store),
    counter: task({ verb: "count" }),
    host: { in: "host-process", through: "file", steps: [{ verb: "truncate", size: 0n }] } as Actor,
  },
};

/** The table of a file with this text; its path is `kinds.json` in messages. */
function tableOf(text: string): ExpectationTable {
  const folder = mkdtempSync(join(tmpdir(), "daxfault-kinds-"));
  const here = (place: string): string => place.replaceAll(`${folder}/`, "");
  try {
    writeFileSync(join(folder, "kinds.json"), text);
    const rows = loadExpectations(folder).rows.map((row) => ({
      ...row,
      place: here(row.place),
      cells: row.cells.map((cell) => ({ ...cell, place: here(cell.place) })),
    }));
    return new ExpectationTable(rows);
  } catch (error) {
    throw new Error(here(String(error)));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const rowsOf = (rows: unknown) => tableOf(JSON.stringify({ about: "a test", rows }, null, 1));
const proposalOf = (id: string) => proposals.find((one) => one.id === id) ?? { id, kvm: "today" as const };
const expected = (rows: unknown, proposal: string, id = "a"): Expectation | null =>
  rowsOf(rows).find({ ...scenario, id }, proposalOf(proposal));

const anyMachineCheck = "sigbus(SI_KERNEL)|sigbus(BUS_MCEERR_AR)";

describe("a cell", () => {
  it.each([
    ["native", undefined, "sigbus", "sigbus", "efault", "efault"],
    ["efault-exit", "stopped(efault)", "killed", "killed", "killed", "killed"],
    ["apf-loop", "looping", "hung", "hung", "hung", "hung"],
    ["pf-injection", "running", "sigbus(BUS_ADRERR)", "sigbus(BUS_ADRERR)", "efault", "efault"],
    ["poison", "running", "sigbus(BUS_MCEERR_AR)", "sigbus(BUS_MCEERR_AR)", "efault", "killed"],
    ["remap-zero", "running", "zero", "stale", "zero", "stale"],
    ["notify", "running", "sigbus(BUS_ADRERR)", "sigbus(BUS_ADRERR)", "efault", "efault"],
  ])("says of %s what a lost page means", (proposal, vmm, first, last, read, write) => {
    const text = "victim.load#1 victim.last reader.last writer.last lost";
    expect(expected({ a: text }, proposal)?.outcome).toEqual({
      ...(vmm === undefined ? {} : { vmm: [vmm] }),
      accesses: { "victim.load#1": first, "victim.last": last, "reader.last": read, "writer.last": write },
      host: {},
      bystanders: {},
      events: {},
    });
  });

  it.each([
    ["apf-guest", "looping", "hung", "hung", "hung", "hung"],
    ["pf-injection", "running", "sigsegv(SEGV_ACCERR)", "sigsegv(SEGV_ACCERR)", "efault", "efault"],
    ["notify", "running", "sigsegv(SEGV_ACCERR)", "sigsegv(SEGV_ACCERR)", "efault", "efault"],
    ["mce-injection", "running", anyMachineCheck, anyMachineCheck, "sigbus(BUS_MCEERR_AR)", "killed"],
    ["nmi-injection", "stopped(efault)", "killed", "killed", "killed", "killed"],
    ["remap-zero", "running", "zero", "stale", "zero", "stale"],
  ])("says of %s what Linux makes of a lost page", (id, vmm, first, last, read, write) => {
    const proposal = proposals.find((one) => one.id === id);
    const cell = { a: "victim.load#1 victim.last reader.last writer.last lost; apf-ready seen" };
    const found = rowsOf(cell).find({ ...scenario, id: "a" }, proposalOf(id), proposal?.vmm ?? "none");
    expect(found?.outcome).toMatchObject({
      vmm: [vmm],
      accesses: { "victim.load#1": first, "victim.last": last, "reader.last": read, "writer.last": write },
      // Events are those of a guest that is ours.
      events: {},
    });
  });

  it("reads the cell of the answer that a proposal has on Linux", () => {
    const cells = { a: { "@reports": "victim.last value", "@exits": "victim.last killed" } };
    const at = (vmm: "nmi" | null) =>
      rowsOf(cells).find({ ...scenario, id: "a" }, proposalOf("nmi-injection"), vmm)?.outcome.accesses;
    expect(at(null)).toEqual({ "victim.last": "value" });
    expect(at("nmi")).toEqual({ "victim.last": "killed" });
  });

  it("takes the death of an emulated VMM for an exit: who has not begun does not begin", () => {
    const cells = {
      "*": "victim.last lost",
      "@exits": "running|stopped(efault); victim.last lost|not-reached",
    };
    const at = (vmm: "emulated" | null) =>
      rowsOf({ a: cells }).find({ ...scenario, id: "a" }, proposalOf("native"), vmm)?.outcome;
    expect(at("emulated")).toMatchObject({
      vmm: ["running|killed(SIGBUS)"],
      accesses: { "victim.last": "killed|not-reached" },
    });
    expect(at(null)?.accesses).toEqual({ "victim.last": "sigbus" });
    expect(at(null)?.vmm).toBeUndefined();
  });

  it("says nothing of what the answer does not decide", () => {
    const cell = { a: "victim.last lost" };
    expect(expected(cell, "sealed")).toBeNull();
    expect(expected(cell, "my-way")).toBeNull();
    expect(expected({ a: "kernel.last lost" }, "pf-injection")).toBeNull();
    expect(expected({ a: "kernel.last lost" }, "apf-loop")?.outcome.accesses).toEqual({
      "kernel.last": "hung",
    });
    expect(expected({ a: "mixed-*.last lost" }, "remap-zero")).toBeNull();
    expect(expected({ a: "crowd-*.last lost|not-reached" }, "remap-zero")?.outcome.accesses).toEqual({
      "crowd-*.last": "zero|not-reached",
    });
    expect(
      lostWord("zeros", { kind: "fetch", by: "task", instruction: "call" }, { inKernel: false }),
    ).toBeNull();
    const call = { kind: "load", instruction: null } as const;
    expect(lostWord("signals", { ...call, by: "kernel" }, { inKernel: false })).toBeNull();
    // A child's load is as its parent's.
    expect(lostWord("signals", { ...call, by: "task" }, { inKernel: false })).toBe("sigbus");
    expect(lostWord("loops", { ...call, by: "task" }, { inKernel: false })).toBe("hung");
    expect(answers.filter((answer) => vmmAfterLoss(answer) === null)).toEqual(["signals", "seals"]);
  });

  it("has the history that is written, else that of the loss, else running", () => {
    const vmmOf = (text: string, proposal: string) => expected({ a: text }, proposal)?.outcome.vmm;
    expect(vmmOf("looping > running; victim.last lost", "apf-loop")).toEqual(["looping", "running"]);
    expect(vmmOf("victim.last hung", "apf-loop")).toEqual(["running"]);
    expect(vmmOf("running", "native")).toBeUndefined();
    expect(() => vmmOf("looping", "native")).toThrow(
      'kinds.json:4: "*", for a: native has no VMM to be looping',
    );
  });

  it("says what is better and which defect it is, unless it is written", () => {
    const of = (text: string) => {
      const found = expected({ a: text }, "efault-exit");
      return [found?.better, found?.defect?.id ?? null];
    };
    expect(of("running")).toEqual([[], null]);
    expect(of("stopped(efault)")).toEqual([["stopped(memory-fault)"], null]);
    expect(of("looping")).toEqual([["running", "stopped(efault)", "stopped(memory-fault)"], "endless-loop"]);
    expect(of("looping > running")).toEqual([[], "endless-loop"]);
    expect(of("looping|stopped(efault)")).toEqual([["running", "stopped(memory-fault)"], "endless-loop"]);
    expect(of("looping; better: none; defect: none")).toEqual([[], null]);
    expect(of("running; better: stopped(mmio); defect: memory-fault-cap-untrue")).toEqual([
      ["stopped(mmio)"],
      "memory-fault-cap-untrue",
    ]);
    expect(betterThan(null)).toEqual([]);
  });

  it("tells host steps from accesses by the actor", () => {
    expect(
      expected({ a: "host.last not-reached; victim.last not-reached" }, "pf-injection")?.outcome,
    ).toMatchObject({
      accesses: { "victim.last": "not-reached" },
      host: { "host.last": "not-reached" },
    });
  });

  it.each([
    ["victm.last lost", 'there is no actor "victm"; nearest: victim'],
    ["victim.lod#1 lost", 'there is no step of victim "lod#1"; nearest: last, load#1, store#1'],
    ["counter.last lost", 'there is no step of counter "last"; nearest: none'],
    ["counted progress", 'there is no actor "counted"; nearest: counter'],
  ])("refuses %j, which is wrong about the scenario", (text, message) => {
    expect(() => expected({ a: { "@loops": text } }, "apf-loop")).toThrow(
      `kinds.json:5: "@loops", for a: ${message}`,
    );
  });
});

describe("the cell of a case", () => {
  const ruleOf = (rows: unknown, proposal: string, id?: string) => expected(rows, proposal, id)?.rule;

  it("is that of the row that names the scenario, before one with a pattern", () => {
    const rows = { "l*": "running", "load loud": { "@loops": "looping" } };
    expect(ruleOf(rows, "apf-loop", "lost")).toBe("l* @loops");
    expect(ruleOf(rows, "apf-loop", "loud")).toBe("loud @loops");
    expect(ruleOf(rows, "pf-injection", "loud")).toBeUndefined();
  });

  it("is in the row the narrowest: an id, an answer, all", () => {
    const rows = {
      a: {
        "*": "running",
        "@reports": "victim.last lost",
        "pf-injection poison": "as @loops",
        "@loops": "looping",
      },
    };
    expect(ruleOf(rows, "efault-exit")).toBe("a @exits");
    expect(ruleOf(rows, "my-way")).toBe("a *");
    expect(expected(rows, "nmi-injection")).toMatchObject({
      rule: "a @reports",
      outcome: { vmm: ["running"] },
    });
    expect(expected(rows, "pf-injection")).toMatchObject({
      rule: "a pf-injection",
      outcome: { vmm: ["looping"] },
    });
  });

  it("is read as another answer's, with what that makes of a lost page", () => {
    const rows = {
      a: {
        "*": "victim.last lost; counter progress",
        "@exits": "victim.last lost; counter starved",
        "pf-injection": "as @exits",
      },
    };
    expect(expected(rows, "pf-injection")?.outcome).toMatchObject({
      vmm: ["stopped(efault)"],
      accesses: { "victim.last": "killed" },
      bystanders: { counter: "starved" },
    });
  });

  it.each([
    [
      { "l*": "running", "*d": "looping" },
      "load",
      'kinds.json:5: "*d" and "l*" (kinds.json:4) are both about the scenario load',
    ],
    [
      { load: "running", "load loud": "looping" },
      "load",
      'kinds.json:5: "load" and "load" (kinds.json:4) are both about',
    ],
    [
      { load: { "@loops": "running", "today @loops": "looping" } },
      "x",
      '"today @loops" and "@loops" (kinds.json:5) are both about apf-guest',
    ],
    [
      { load: { "pf-injection": "running", "pf-injection poison": "looping" } },
      "x",
      '"pf-injection poison" and "pf-injection" (kinds.json:5) are both about pf-injection',
    ],
    [
      { load: { "pf-injection": "as @loops" } },
      "load",
      'kinds.json:5: "pf-injection": the row has no outcome for @loops',
    ],
  ])("is refused where two are equally narrow, or there is none to read: %j", (rows, id, message) => {
    expect(() => expected(rows, "pf-injection", id)).toThrow(message);
  });
});

describe("a file of expectations", () => {
  it.each([
    ['{ "about": "x", "rows": { "a": 1 } }', "kinds.json:1: rows.a: "],
    ['{ "about": "x" }', "kinds.json:1: rows: "],
    [
      '{ "about": "x",\n "rows": { "a": { "@lops": "running" } } }',
      'kinds.json:2: rows.a.@lops: unknown answer "@lops"; nearest: @loops',
    ],
    [
      '{ "about": "x",\n "rows": { "v1.2/a": { "native":\n "runing" } } }',
      "kinds.json:3: rows.v1.2/a.native: unknown state of the VMM",
    ],
    [
      '{ "about": "x", "rows": { "a": "running",\n "a": "looping" } }',
      "kinds.json:2: rows.a: twice in this object",
    ],
    [
      '{ "about": "x", "rows": { "a": "looping; defect: endles-loop" } }',
      'unknown defect "endles-loop"; nearest: endless-loop',
    ],
    ['{ "about": "x", "rules": [] }', 'kinds.json:1: rules: there are "rows" in place of "rules"'],
    ['{ "about": }', "kinds.json:1:12: not JSON"],
  ])("is refused: %j", (text, message) => {
    expect(() => tableOf(text)).toThrow(message);
  });

  it("may add defects of its own", () => {
    const own = { text: "Too late.", source: "a mail" };
    const table = tableOf(
      JSON.stringify({ about: "x", defects: { late: own }, rows: { a: "running; defect: late" } }),
    );
    expect(table.find(scenario, proposalOf("pf-injection"))?.defect).toEqual({ id: "late", ...own });
  });

  it("says of the rules of before which row each is now, and that row means the same", () => {
    const rule = {
      scenarios: ["a", "b-*"],
      proposals: ["apf-loop", "apf-guest"],
      engine: "kvm",
      vmm: ["looping"],
      accesses: { "victim.last": "hung" },
      host: { "host.last": "denied(EPERM)" },
      bystanders: { counter: "progress" },
      events: { "apf-ready": "none" },
      better: ["running", "stopped(efault)", "stopped(memory-fault)"],
      defect: "endless-loop",
    };
    const text = `{ "oracle": "mine", "about": "x", "rules": [\n${JSON.stringify(rule)},\n{ "scenarios": 1 } ] }`;
    let message = "";
    try {
      tableOf(text);
    } catch (error) {
      message = String(error);
    }
    const [first = "", second] = message.split("\n");
    expect(first).toContain("kinds.json:2: rules[0]: a rule of before; expectations are rows now");
    expect(second).toMatch(/^kinds.json:3: rules\[1\]: a rule of before/);
    const rows = JSON.parse(`{${first.slice(first.indexOf("this one: ") + "this one: ".length)}}`);
    expect(Object.keys(rows)).toEqual(["a b-*"]);
    const { vmm, accesses, host, bystanders, events, better } = rule;
    expect(expected(rows, "apf-guest")).toMatchObject({
      outcome: { vmm, accesses, host, bystanders, events },
      better,
      defect: { id: "endless-loop" },
    });
  });
});
