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
    [
      "@exits",
      "efault-exit no-hlt-exits-no-apf fence-exit uniform-efault error-gfn error-pending exit-request final-efault",
    ],
    ["today @exits", "efault-exit no-hlt-exits-no-apf fence-exit"],
    ["proposed @loops", "legacy-pf memory-fault-exit"],
    ["today @loops", "apf-guest apf-loop apf-send-always no-hlt-exits"],
    ["@zeros -*-user-apic", "remap-zero"],
    ["*-no-apf", "no-hlt-exits-no-apf pf-injection-no-apf mce-injection-no-apf"],
    ["@zeros poison*", "remap-zero remap-zero-user-apic poison poison-user-apic"],
    ["today @loops -no-hlt-exits -apf-*", ""],
    ["@signals", "native"],
    ["@zeros native", "native remap-zero remap-zero-user-apic"],
    ["poison my-way", "poison my-way"],
  ])("%s", (text, ids) => {
    expect(selectedIds(selector(text)).join(" ")).toBe(ids);
    expect(selectorText(selector(text))).toBe(text);
  });

  it.each([
    ["@lops", 'unknown answer "@lops"; nearest: @loops'],
    ["today", '"today" narrows answers'],
    ["poison -remap-zero", "only what an answer stands for can be left out"],
    ["Poison", '"Poison" is neither an id'],
    ["", '"" is neither an id'],
    ["@loops  @exits", '"" is neither an id'],
  ])("refuses %j", (text, message) => {
    expect(parseSelector(text)).toContain(message);
  });

  it("has an answer for every preset", () => {
    for (const { id } of proposals) expect(answerOf(id), id).not.toBeNull();
    expect(answerOf("my-way")).toBeNull();
    // What is written to records is the proposal as it was.
    for (const proposal of proposals) {
      expect(proposal).not.toHaveProperty("answer");
      expect(proposal).not.toHaveProperty("variantOf");
    }
  });
});

describe("matchOf", () => {
  const injection = { id: "pf-injection-no-apf", kvm: "today" } as const;
  it.each([
    ["*", "all"],
    ["@reports", "answer"],
    ["@reports pf-injection-no-apf", "id"],
    ["@reports *-no-apf", "id"],
    ["@reports *-user-apic", "answer"],
    ["proposed @reports", null],
    ["@reports -pf-injection-no-apf", null],
    ["@reports -*-no-apf", null],
    ["* @reports -pf-*", "all"],
    ["@loops", null],
  ])("%s", (text, match) => {
    expect(matchOf(selector(text), injection, "reports")).toBe(match);
  });
});
