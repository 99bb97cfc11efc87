import { describe, expect, it } from "vitest";
import { lossEver, zerosAt } from "../../src/scenario/losses.ts";
import { parseScenarios } from "../../src/scenario/parse.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";
import { isIoAnswered } from "../../src/scenario/served.ts";

/** Those kinds are mapped whole. */
const needsNvdimm = (backing: object): boolean =>
  "kind" in backing && (backing.kind === "userfaultfd" || backing.kind === "hugetlb");

function scenario(backing: object, ...host: string[]): Scenario {
  const [parsed] = parseScenarios(
    JSON.stringify({
      id: "x",
      purpose: "x",
      layout: needsNvdimm(backing) ? "nvdimm" : "dax-window",
      backing: { size: "4MiB", ...backing },
      actors: {
        victim: { in: "guest-task", steps: ["load 0x1000 8"] },
        ...(host.length === 0 ? {} : { host: { in: "host-process", steps: host } }),
      },
      witness: [],
      properties: [],
    }),
    "x.json",
  );
  if (parsed === undefined) throw new Error("no scenario");
  return parsed;
}
/** The guest reads page 1, waits, and reads pages 1 and 0x300; the host does something to the server meanwhile. */
function withServer(...host: string[]): Scenario {
  const [parsed] = parseScenarios(
    JSON.stringify({
      id: "x",
      purpose: "x",
      backing: { size: "4MiB", mount: {} },
      actors: {
        victim: {
          in: "guest-task",
          steps: ["load 0x1000 8", "signal touched", "await changed", "load 0x1008 8", "load 0x300000 8"],
        },
        host: { in: "host-process", steps: host },
      },
      witness: [],
      properties: [],
    }),
    "x.json",
  );
  if (parsed === undefined) throw new Error("no scenario");
  return parsed;
}
const kill = withServer("await touched", "kill-server", "signal changed");
const stop = withServer("await touched", "stop-server", "signal changed");
const late = withServer("await touched", "stop-server", "signal changed", "await stuck", "continue-server");
const anyTime = withServer("signal changed", "kill-server");

const handled = (handler: object): Scenario => scenario({ kind: "userfaultfd", handler });
const huge = scenario({ kind: "hugetlb", size: "8MiB" });
const served = (...faults: string[]): Scenario => scenario({ mount: { faults } });

describe("the server of a mount", () => {
  it.each([
    ["that is killed fails every READ", kill, true],
    ["that is stopped answers none", stop, false],
    ["that goes on answers in the end, and may be waited for meanwhile", late, false],
    ["whose rules hang a READ answers not all", served("read at 0x300000 hang"), false],
    ["whose rules fail a READ answers it", served("read fail EIO"), true],
  ] as const)("%s", (_what, one, answered) => {
    expect(isIoAnswered(one)).toBe(answered);
  });

  it("is needed where something is done to it", () => {
    expect(() => scenario({}, "kill-server")).toThrow("kill-server needs backing.mount");
  });
});

describe("what a scenario takes away", () => {
  it.each([
    ["nothing", scenario({}), 0x1000n, "kept", "held"],
    ["behind a truncation", scenario({}, "truncate 0"), 0x1000n, "lost", "silent"],
    ["in the page of the end", scenario({}, "truncate 0x1800"), 0x1900n, "kept", "held"],
    ["behind the page of the end", scenario({}, "truncate 0x1800"), 0x2000n, "lost", "silent"],
    ["grown again", scenario({}, "truncate 0", "truncate 4MiB"), 0x1000n, "lost", "held"],
    ["a hole of a full tmpfs", scenario({ kind: "tmpfs-full" }), 0x300000n, "lost", "held"],
    ["the first half of a full tmpfs", scenario({ kind: "tmpfs-full" }), 0x1000n, "kept", "held"],
    ["a READ that fails", served("read at 0x300000 fail EIO"), 0x300008n, "lost", "silent"],
    ["another page than it fails for", served("read at 0x300000 fail EIO"), 0x1000n, "kept", "held"],
    ["a READ that fails once", served("read times 1 fail EIO"), 0x1000n, "unknown", "unknown"],
    ["a READ that takes time", served("read delay 200"), 0x1000n, "kept", "held"],
    ["a WRITE that fails", served("write fail EIO"), 0x1000n, "kept", "held"],
    ["a short READ", served("read short 16"), 0x1000n, "unknown", "unknown"],
    ["a READ that ends at the page", served("read at 0x300000 short 0"), 0x300008n, "lost", "silent"],
    ["in front of a READ's end", served("read at 0x300000 short 16"), 0x300008n, "kept", "held"],
    ["in the page of a READ's end", served("read at 0x300000 short 16"), 0x300800n, "kept", "held"],
    ["behind the page of a READ's end", served("read at 0x300000 short 16"), 0x301000n, "unknown", "unknown"],
    [
      "a READ that ends at the page once",
      served("read at 0x300000 times 1 short 0"),
      0x300000n,
      "unknown",
      "unknown",
    ],
    ["a READ that is never answered", served("read at 0x300000 hang"), 0x300000n, "unknown", "unknown"],
    ["beside a READ that is never answered", served("read at 0x300000 hang"), 0x1000n, "kept", "held"],
    ["a truncation by the server", served("read truncate 0"), 0x1000n, "unknown", "unknown"],
    ["never read before the server's death", kill, 0x300000n, "lost", "silent"],
    ["read before the server's death", kill, 0x1000n, "kept", "held"],
    ["never read before the server stopped", stop, 0x300000n, "unknown", "unknown"],
    ["read before the server stopped", stop, 0x1000n, "kept", "held"],
    ["read from a server that goes on", late, 0x300000n, "kept", "held"],
    ["of a server that dies at any time", anyTime, 0x300000n, "unknown", "unknown"],
    ["a page that a handler fills", handled({}), 0x300000n, "kept", "held"],
    ["filled late", handled({ rules: ["missing at 0x300000 delay 9"] }), 0x300000n, "kept", "held"],
    ["never filled", handled({ rules: ["missing at 0x300000 hang"] }), 0x300000n, "unknown", "unknown"],
    [
      "whose handler has died",
      handled({ rules: ["missing at 0x300000 die"] }),
      0x300000n,
      "unknown",
      "unknown",
    ],
    ["that is zeros now", handled({ rules: ["missing at 0x300000 close"] }), 0x300000n, "lost", "silent"],
    ["filled with poison", handled({ rules: ["missing at 0x300000 poison"] }), 0x300000n, "lost", "silent"],
    ["beside it", handled({ rules: ["missing at 0x300000 poison"] }), 0x1000n, "kept", "held"],
    ["for user faults only", handled({ faults: "user", prefault: "0x2000" }), 0x300000n, "lost", "silent"],
    ["prefaulted", handled({ faults: "user", prefault: "0x2000" }), 0x1000n, "kept", "held"],
    ["of a pool that is dry", huge, 0x400000n, "lost", "held"],
    ["of its first half", huge, 0x3ff000n, "kept", "held"],
    ["in front of the server's new end", served("read truncate 1MiB"), 0x1000n, "kept", "held"],
  ] as const)("%s", (_what, one, fileOffset, loss, zeros) => {
    expect(lossEver(one, fileOffset)).toBe(loss);
    expect(zerosAt(one, fileOffset)).toBe(zeros);
  });
});
