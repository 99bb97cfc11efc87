/** Cells: the grammar, both ways, and what is refused. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { answers } from "../../src/answers.ts";
import { type Cell, cellText, type OutcomeCell, parseCell } from "../../src/judge/cell.ts";
import { eventKinds } from "../../src/vocabulary.ts";

const nothing: OutcomeCell = {
  kind: "outcome",
  vmm: null,
  steps: [],
  bystanders: {},
  events: {},
  better: null,
  defect: null,
};

describe("parseCell", () => {
  it.each<[string, Cell]>([
    ["running", { ...nothing, vmm: ["running"] }],
    [
      "looping; first.last second.last hung",
      {
        ...nothing,
        vmm: ["looping"],
        steps: [
          { label: "first.last", word: "hung" },
          { label: "second.last", word: "hung" },
        ],
      },
    ],
    [
      "stopped(efault) > running; victim.last zero",
      { ...nothing, vmm: ["stopped(efault)", "running"], steps: [{ label: "victim.last", word: "zero" }] },
    ],
    [
      "looping|stopped(efault); crowd-*.last hung|killed|not-reached",
      {
        ...nothing,
        vmm: ["looping|stopped(efault)"],
        steps: [{ label: "crowd-*.last", word: "hung|killed|not-reached" }],
      },
    ],
    [
      "victim.load#2 sigbus(BUS_ADRERR); host.last denied(EPERM)",
      {
        ...nothing,
        steps: [
          { label: "victim.load#2", word: "sigbus(BUS_ADRERR)" },
          { label: "host.last", word: "denied(EPERM)" },
        ],
      },
    ],
    [
      "counter progress; apf-not-present apf-ready seen",
      {
        ...nothing,
        bystanders: { counter: "progress" },
        events: { "apf-not-present": "seen", "apf-ready": "seen" },
      },
    ],
    [
      "victim.last lost; better: none",
      { ...nothing, steps: [{ label: "victim.last", word: "lost" }], better: [] },
    ],
    [
      "looping; better: running stopped(memory-fault); defect: none",
      { ...nothing, vmm: ["looping"], better: ["running", "stopped(memory-fault)"], defect: "none" },
    ],
    ["as @loops", { kind: "as", answer: "loops" }],
  ])("reads %j", (text, cell) => {
    expect(parseCell(text)).toEqual(cell);
    expect(cellText(cell)).toBe(text);
  });

  it.each([
    ["", "says nothing"],
    ["runing", 'unknown state of the VMM "runing"; nearest: running'],
    ["stopped(efalt)", 'unknown state of the VMM "stopped(efalt)"; nearest: stopped(efault)'],
    ["running > loopin", 'unknown state of the VMM "loopin"; nearest: looping'],
    ["victim.last lost; looping", '"looping": only the first part can be the history'],
    ["victim.last hangs", 'unknown word "hangs"; nearest: hung'],
    ["victim.last killed|gone", 'unknown word "gone"'],
    ["victim.last sigbus(BUS_ADR)", 'unknown word "sigbus(BUS_ADR)"; nearest: sigbus'],
    ["victim killed", '"victim" is not a label such as victim.last'],
    ["victim.load killed", '"victim.load" is not a label'],
    ["victim.last killed; victim.last hung", "victim.last twice"],
    ["victim.last progress", '"victim.last" is not an actor'],
    ["counter progress; counter starved", "counter twice"],
    ["apf-redy seen", 'unknown event "apf-redy"; nearest: apf-ready'],
    ["apf-ready seen; apf-ready none", "apf-ready twice"],
    ["better: none; better: none", '"better" twice'],
    ["better: faster", 'unknown state of the VMM "faster"'],
    ["defect: No", '"No" is not the id of a defect'],
    ["as @lops", 'unknown answer "lops"; nearest: loops'],
    ["running;victim.last killed", '"running;victim.last" is not a label'],
  ])("refuses %j", (text, message) => {
    expect(parseCell(text)).toContain(message);
  });

  const oneOf = (...words: string[]) => fc.constantFrom(...words);
  const state = oneOf(
    "running",
    "looping",
    "waiting",
    "stopped(efault)",
    "stopped(memory-fault)",
    "killed(SIGBUS)",
  );
  const alternatives = (word: fc.Arbitrary<string>) =>
    fc.array(word, { minLength: 1, maxLength: 3 }).map((list) => list.join("|"));
  const actor = oneOf("victim", "first", "crowd-3", "better", "as", "defect");
  const label = fc
    .tuple(oneOf("victim", "crowd-*", "host"), oneOf("last", "load#2", "kernel-read#1", "truncate#12"))
    .map((parts) => parts.join("."));
  const word = oneOf(
    "lost",
    "value",
    "value(0x5a)",
    "sigbus",
    "sigbus(BUS_MCEERR_AR)",
    "not-reached",
    "denied(EPERM)",
  );
  const cell = fc
    .record({
      kind: fc.constant("outcome" as const),
      vmm: fc.option(fc.array(alternatives(state), { minLength: 1, maxLength: 3 })),
      steps: fc.uniqueArray(fc.record({ label, word: alternatives(word) }), {
        maxLength: 4,
        selector: (step) => step.label,
      }),
      bystanders: fc.dictionary(actor, oneOf("progress", "starved"), { noNullPrototype: true }),
      events: fc.dictionary(
        fc.constantFrom(...eventKinds),
        fc.constantFrom("seen" as const, "none" as const),
        {
          noNullPrototype: true,
        },
      ),
      better: fc.option(fc.array(state, { maxLength: 2 })),
      defect: fc.option(oneOf("none", "endless-loop")),
    })
    .filter((one) => JSON.stringify(one) !== JSON.stringify(nothing));

  it("is the reverse of cellText", () => {
    fc.assert(
      fc.property(
        fc.oneof(cell, fc.record({ kind: fc.constant("as" as const), answer: fc.constantFrom(...answers) })),
        (one) => {
          expect(parseCell(cellText(one))).toEqual(one);
        },
      ),
    );
  });

  it("never throws", () => {
    const text = fc.array(
      oneOf("running", "victim.last", "lost", ";", ">", "|", " ", "better:", "seen", "as @", "("),
    );
    fc.assert(fc.property(text, (parts) => void parseCell(parts.join(""))));
    fc.assert(fc.property(fc.string(), (one) => void parseCell(one)));
  });
});
