import { describe, expect, it } from "vitest";
import { gentlyMutated, grammarOf } from "../../fuzz/gentle.ts";
import { sizeOf, textOf, treeOf } from "../../fuzz/json.ts";
import { Random } from "../../fuzz/random.ts";

const first = {
  id: "a",
  size: 4096,
  actors: { victim: { in: "guest-task", steps: ["load 0x1000 8", "signal touched"] } },
};
const second = {
  id: "b",
  size: 8192,
  actors: { host: { in: "host-process", steps: ["truncate 0", "load 0x2000 4"] } },
};
const grammar = grammarOf([treeOf(first), treeOf(second)]);

function madeOf(seed: object, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) =>
    textOf(gentlyMutated(Random.of(3, index), treeOf(seed), grammar)),
  );
}

describe("grammarOf", () => {
  it("takes what stands in one place together, whatever name the author gave to the actor", () => {
    const textsAt = (place: string): readonly string[] => (grammar.get(place) ?? []).map(textOf);
    expect(textsAt("*.in")).toEqual(['"guest-task"', '"host-process"']);
    expect(textsAt("*.steps[]")).toHaveLength(4);
    expect(textsAt("size")).toEqual(["4096", "8192"]);
  });
});

describe("gentlyMutated", () => {
  it("makes JSON with words that the seeds have in this place", () => {
    const words = new Set(madeOf(first, 500).flatMap((text) => JSON.parse(text).actors?.victim?.in ?? []));
    expect([...words].sort()).toEqual(["guest-task", "host-process"]);
  });

  it("replaces one word of a sentence by that of another sentence that begins alike", () => {
    const steps = new Set(
      madeOf(first, 2000).flatMap((text) => JSON.parse(text).actors?.victim?.steps ?? []),
    );
    expect(steps).toContain("load 0x2000 8");
    expect(steps).toContain("load 0x1000 4");
    expect([...steps].filter((step) => String(step).startsWith("load 0 "))).toEqual([]);
  });

  it("depends on the random choices alone, and ends on what has nothing in it", () => {
    expect(madeOf(first, 50)).toEqual(madeOf(first, 50));
    expect(madeOf({}, 20).every((text) => sizeOf(treeOf(JSON.parse(text))) <= 4)).toBe(true);
  });
});
