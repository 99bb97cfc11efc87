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

type Given = Omit<Partial<ModelCase>, "name"> & Pick<ModelCase, "tasks" | "pages">;

const task = (name: string, ...steps: readonly TaskStep[]) => ({ name, vcpu: 0, steps });
const load = (page: number): TaskStep => ({ op: "load", page });

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
  ])("%s", (_what, given, texts) => {
    expect(outcomes(given)).toEqual(texts);
  });
});
