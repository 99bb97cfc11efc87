import { describe, expect, it } from "vitest";
import { coarsen, modelledOnly, outcomeText, recordedStyle } from "../../../language/src/index.ts";
import {
  explore,
  guestModel,
  type ModelCase,
  modelCase,
  outcomesOf,
  type TaskStep,
} from "../../src/index.ts";
import type { AccessStep } from "../../src/model/case.ts";

type Given = Omit<Partial<ModelCase>, "name"> & Pick<ModelCase, "tasks" | "pages">;

const task = (name: string, ...steps: readonly TaskStep[]) => ({ name, vcpu: 0, steps });
const awaits = (name: string): TaskStep => ({ op: "await", name });
const load = (page: number): AccessStep => ({ op: "load", page });

/** Sorted, without the guest's kernel, which stays alive in all of them. */
function outcomes(given: Given): readonly string[] {
  const { model, ctx } = guestModel(modelCase({ name: "outcomes", ...given }));
  const ends = outcomesOf(explore(model, { edges: true }), ctx);
  const texts = ends.map(({ outcome }) => outcomeText(coarsen(outcome, modelledOnly), recordedStyle));
  return [...new Set(texts)].sort().map((text) => text.replace("; guest kernel alive", ""));
}

describe("all outcomes", () => {
  it.each<[string, Given, readonly string[]]>([
    [
      "a page-ready interrupt comes before the next instruction: no task halts the vCPU ahead of it",
      {
        pages: ["no-space", "no-space"],
        tasks: [task("a", load(0)), task("b", load(1)), task("c", load(1))],
        guest: "apf",
      },
      ["a.0 hung; b.0 hung; c.0 hung; VMM looping"],
    ],
    [
      "a task that is killed before its access has not begun it",
      { pages: ["no-space"], tasks: [task("a", load(0))], kill: "a", lapic: "user" },
      ["a.0 killed; VMM stopped(efault)", "a.0 not-reached; VMM running"],
    ],
    [
      "... after a fault that was served, it has",
      { pages: ["resident"], tasks: [task("a", load(0))], kill: "a", lapic: "user" },
      ["a.0 killed; VMM running", "a.0 not-reached; VMM running", "a.0 value; VMM running"],
    ],
    [
      "... and so it has its second page, once it has come as far",
      {
        pages: ["resident", "no-space"],
        tasks: [task("a", load(0), { ...load(1), continues: true })],
        kill: "a",
        lapic: "user",
      },
      [
        "a.0 killed; a.1 not-reached; VMM running",
        "a.0 not-reached; a.1 not-reached; VMM running",
        "a.0 value; a.1 killed; VMM running",
        "a.0 value; a.1 killed; VMM stopped(efault)",
      ],
    ],
    [
      "a requested exit comes after the kill of the task that waited",
      {
        pages: ["no-space"],
        tasks: [task("a", load(0))],
        guest: "apf",
        kvm: "exit-request",
        kill: "a",
      },
      ["a.0 killed; VMM stopped(efault)", "a.0 not-reached; VMM running"],
    ],
    [
      "... but for a page whose lookup waits for a READ, which a signal may end",
      {
        pages: ["io-error"],
        tasks: [task("a", load(0))],
        guest: "apf",
        kvm: "exit-request",
        kill: "a",
      },
      ["a.0 killed; VMM running", "a.0 killed; VMM stopped(efault)", "a.0 not-reached; VMM running"],
    ],
    [
      "another task that runs during I/O is no bystander",
      {
        pages: ["on-disk", "on-disk"],
        tasks: [
          task("a", load(0)),
          task("b", load(1), { op: "signal", name: "late" }),
          task("c", awaits("late"), { op: "count" }),
        ],
        guest: "apf",
        slowIo: true,
      },
      ["a.0 value; b.0 value; c progress; VMM running", "a.0 value; b.0 value; c starved; VMM running"],
    ],
    [
      "no bystander gets on in a VM that has stopped, whatever it did during I/O",
      {
        pages: ["on-disk", "no-space"],
        tasks: [task("a", load(0), load(1)), task("c", { op: "count" })],
        guest: "apf",
        kvm: "final-efault",
        slowIo: true,
        preempt: true,
      },
      ["a.0 value; a.1 killed; c starved; VMM stopped(efault)"],
    ],
    [
      "each entry is a work item of its own, and page-ready keeps their order: none waits for ever",
      {
        pages: ["on-disk", "no-space"],
        tasks: [task("slow", load(0)), task("lost", load(1))],
        guest: "apf",
        preempt: true,
      },
      ["lost.0 hung; slow.0 value; VMM looping"],
    ],
    [
      "before 5.8, too, though no acknowledgement asks for the next one",
      {
        pages: ["on-disk", "on-disk"],
        tasks: [task("first", load(0)), task("second", load(1))],
        guest: "apf",
        kvm: "legacy-pf",
      },
      ["first.0 value; second.0 value; VMM running"],
    ],
    [
      "without a timer a task that awaits a signal yields: any that got it is next",
      {
        pages: ["no-space"],
        tasks: [
          task("a", { op: "signal", name: "up" }, awaits("go"), load(0)),
          task("b", awaits("go"), load(0)),
        ],
        host: [
          { op: "await", name: "up" },
          { op: "signal", name: "go" },
        ],
        lapic: "user",
      },
      [
        "a.2 killed; b.1 not-reached; host.0 done; host.1 done; VMM stopped(efault)",
        "a.2 not-reached; b.1 killed; host.0 done; host.1 done; VMM stopped(efault)",
      ],
    ],
    [
      "... and one that counts after each count",
      { pages: ["resident"], tasks: [task("bystander", { op: "count" }), task("a", load(0))] },
      ["a.0 value; bystander progress; VMM running"],
    ],
  ])("%s", (_what, given, texts) => {
    expect(outcomes(given)).toEqual(texts);
  });
});
