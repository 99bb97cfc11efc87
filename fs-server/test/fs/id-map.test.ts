import { describe, expect, it } from "vitest";
import { failure } from "../../src/fs/errors.ts";
import { IdMap } from "../../src/fs/id-map.ts";

describe("ids are translated by rules", () => {
  it.each([
    { rules: [], client: 7, host: 7, back: 7 },
    { rules: ["map:0:100000:65536"], client: 5, host: 100_005, back: 5 },
    { rules: ["map:0:100000:65536"], client: 65_536, host: 65_536, back: 65_536 },
    { rules: ["guest:10:20:5"], client: 12, host: 22, back: 22 },
    { rules: ["host:20:10:5"], client: 12, host: 12, back: 12 },
    { rules: ["squash-guest:0:1000:100"], client: 42, host: 1000, back: 1000 },
    { rules: ["squash-guest:0:1000:100", "squash-host:1000:0:1"], client: 42, host: 1000, back: 0 },
    { rules: ["guest:0:1:1", "squash-guest:0:9:100"], client: 0, host: 1, back: 1 },
    { rules: ["squash-guest:0:9:4294967295"], client: 4_294_967_294, host: 9, back: 9 },
  ])("$rules: $client is $host, and seen as $back", ({ rules, client, host, back }) => {
    const map = IdMap.of(rules);
    expect([map.toHost(client), map.toClient(map.toHost(client))]).toEqual([host, back]);
  });

  it("forbidden ids are EPERM", () => {
    const map = IdMap.of(["forbid-guest:0:10"]);
    expect(() => map.toHost(9)).toThrow(failure("EPERM"));
    expect(map.toHost(10)).toBe(10);
  });

  it.each([
    "",
    "map",
    "map:1:2",
    "map:1:2:3:4",
    "map:a:2:3",
    "map:1:2:0",
    "map:0:1:4294967295",
    "swap:1:2:3",
    "guest:-1:2:3",
  ])("%j is refused", (rule) => {
    expect(() => IdMap.of([rule])).toThrow(JSON.stringify(rule));
  });
});
