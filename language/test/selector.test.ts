/** Selectors: which proposals a key, or a scenario, means. */
import { describe, expect, it } from "vitest";
import { answerOf, proposals } from "../src/presets.ts";
import { matchOf, parseSelector, selectedIds, selectorText } from "../src/selector.ts";

function selector(text: string) {
  const parsed = parseSelector(text);
  if (typeof parsed === "string") throw new Error(parsed);
  return parsed;
}

describe("parseSelector", () => {
  it.each([
    ["@exits", "efault-exit no-hlt-exits uniform-efault error-gfn error-pending exit-request final-efault"],
    ["today @exits", "efault-exit no-hlt-exits"],
    ["proposed @loops", "legacy-pf memory-fault-exit"],
    ["today @loops @zeros", "apf-loop apf-guest remap-zero"],
    ["today @exits @loops -apf-loop", "efault-exit apf-guest no-hlt-exits"],
    ["@signals", "native"],
    ["@zeros native", "native remap-zero"],
    ["fence my-way", "fence my-way"],
  ])("%s", (text, ids) => {
    expect(selectedIds(selector(text)).join(" ")).toBe(ids);
    expect(selectorText(selector(text))).toBe(text);
  });

  it.each([
    ["@lops", 'unknown answer "@lops"; nearest: @loops'],
    ["today", '"today" narrows answers'],
    ["fence -poison", "only what an answer stands for can be left out"],
    ["Fence", '"Fence" is neither an id'],
    ["", '"" is neither an id'],
    ["@loops  @exits", '"" is neither an id'],
  ])("refuses %j", (text, message) => {
    expect(parseSelector(text)).toContain(message);
  });

  it("has an answer for every preset", () => {
    for (const { id } of proposals) expect(answerOf(id), id).not.toBeNull();
    expect(answerOf("my-way")).toBeNull();
    // What is written to records is the proposal as it was.
    for (const proposal of proposals) expect(proposal).not.toHaveProperty("answer");
  });
});

describe("matchOf", () => {
  const fence = { id: "fence", kvm: "today" } as const;
  it.each([
    ["*", "all"],
    ["@reports", "answer"],
    ["@reports fence", "id"],
    ["proposed @reports", null],
    ["@reports -fence", null],
    ["* @reports -fence", "all"],
    ["@loops", null],
  ])("%s", (text, match) => {
    expect(matchOf(selector(text), fence, "reports")).toBe(match);
  });
});
