import { describe, expect, it } from "vitest";
import { expand, type Json } from "../../src/scenario/expand.ts";
import { Problems } from "../../src/scenario/problem.ts";

function expanded(file: Json): { scenarios: readonly Json[]; problems: readonly string[] } {
  const problems = new Problems();
  const scenarios = expand(file, problems);
  return { scenarios, problems: problems.list.map(({ at, message }) => `${at}: ${message}`) };
}

describe("expand", () => {
  it("leaves a file without each as it is", () => {
    expect(expanded({ id: "a", purpose: "{b}" }).scenarios).toEqual([{ id: "a", purpose: "{b}" }]);
  });

  it("makes the product, in the order written", () => {
    const { scenarios } = expanded({ id: "{a}-{b}", each: { a: ["1", "2"], b: ["x", "y"] } });
    expect(scenarios).toEqual([{ id: "1-x" }, { id: "1-y" }, { id: "2-x" }, { id: "2-y" }]);
  });

  it("puts names into ids, texts elsewhere", () => {
    const { scenarios } = expanded({
      id: "{access}-after",
      purpose: "A {access.name}: {access}.",
      steps: ["{access}"],
      each: { access: { load: "load 0x1000 8" } },
    });
    expect(scenarios).toEqual([
      { id: "load-after", purpose: "A load: load 0x1000 8.", steps: ["load 0x1000 8"] },
    ]);
  });

  it("appends to the id what the id does not mention", () => {
    const { scenarios } = expanded({ id: "load", size: "{n}", each: { n: ["1", "16"] } });
    expect(scenarios).toEqual([
      { id: "load-1", size: "1" },
      { id: "load-16", size: "16" },
    ]);
  });

  it("gives a text that is one placeholder the value itself, lists and null too", () => {
    const { scenarios } = expanded({
      id: "{p.prefix}a",
      about: "{p.proposals}",
      each: { p: { dax: { prefix: "", proposals: null }, nvdimm: { prefix: "nvdimm/", proposals: ["x"] } } },
    });
    expect(scenarios).toEqual([
      { id: "a", about: null },
      { id: "nvdimm/a", about: ["x"] },
    ]);
  });

  it.each([
    ["an unknown placeholder", { id: "a", purpose: "{x}", each: { y: ["1"] } }, "{x} is defined nowhere"],
    ["an unknown field", { id: "a", purpose: "{y.z}", each: { y: ["1"] } }, "{y.z} is defined nowhere"],
    ["a dimension without values", { id: "a", each: { y: [] } }, "with at least one"],
    ["each that is a list", { id: "a", each: ["y"] }, "must be an object"],
    ["a value that cannot be part of an id", { id: "a", each: { y: ["load 1"] } }, "becomes part of an id"],
    [
      "too many",
      {
        id: "a",
        each: {
          x: Array.from({ length: 17 }, (_, n) => `${n}`),
          y: Array.from({ length: 17 }, (_, n) => `${n}`),
        },
      },
      "stands for 289 scenarios, more than the limit 256",
    ],
  ])("reports %s", (_what, file, message) => {
    expect(expanded(file as Json).problems.join("\n")).toContain(message);
  });
});
