import { describe, expect, it } from "vitest";
import { isBefore, stepsBefore } from "../../src/scenario/order.ts";
import { parseScenarios } from "../../src/scenario/parse.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";

function scenarioOf(actors: Readonly<Record<string, readonly string[]>>): Scenario {
  const source = {
    id: "x",
    purpose: "x",
    backing: { size: "4MiB" },
    actors: Object.fromEntries(
      Object.entries(actors).map(([name, steps]) => [
        name,
        { in: name.startsWith("host") ? "host-process" : "guest-task", steps },
      ]),
    ),
    witness: [],
    properties: [],
  };
  return parseScenarios(JSON.stringify(source), "x")[0] as Scenario;
}

const at = (text: string) => {
  const [actor = "", index] = text.split("/");
  return { actor, index: Number(index) };
};

describe("the order of steps", () => {
  const scenario = scenarioOf({
    a: ["load 0x1000 8", "signal touched", "await cut", "load 0x1000 8"],
    b: ["load 0x2000 8 until cut", "load 0x2000 8"],
    host: ["await touched", "truncate 0", "signal cut", "truncate 4MiB"],
  });

  it.each([
    ["a/0", "a/3", true],
    ["a/3", "a/0", false],
    ["a/0", "host/1", true],
    ["host/1", "a/3", true],
    ["host/3", "a/3", false],
    ["host/1", "b/0", true],
    ["b/0", "host/1", false],
    ["a/0", "b/1", true],
    ["a/3", "b/1", false],
  ])("%s before %s: %s", (first, second, expected) => {
    expect(isBefore(scenario, at(first), at(second))).toBe(expected);
  });

  it("is not made by a signal that two steps raise, nor by the engine's own", () => {
    const two = scenarioOf({
      a: ["load 0x1000 8", "signal done"],
      b: ["load 0x1000 8", "signal done"],
      host: ["await done", "truncate 0", "await stuck", "truncate 4MiB"],
    });
    expect(stepsBefore(two, at("host/3")).map(({ actor }) => actor)).toEqual(["host", "host", "host"]);
  });
});
