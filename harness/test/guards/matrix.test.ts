import { describe, expect, it } from "vitest";
import type { Evidence, Scenario, ServerPart, TraceEvent } from "../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../language/test/support/cases.ts";
import { evidenceWith } from "../../../language/test/support/evidence.ts";
import { type Cell, cellOf, cellText, matrixScenarios, modelsWord } from "../../src/guards/matrix.ts";

const event = (kind: TraceEvent["kind"], atMs: number, detail = "", tookMs?: number): TraceEvent => ({
  kind,
  actor: "host",
  atMs,
  gpa: null,
  detail,
  ...(tookMs === undefined ? {} : { tookMs }),
});
const running = { vmm: [{ kind: "running" }] } as const;
const scenario = scenarioWith({});
const cellUnder =
  (guard: ServerPart) =>
  (of: Scenario, evidence: Evidence): Cell =>
    cellOf(of, evidence, guard);
const guarded = cellUnder("pre-content");
const notified = cellUnder("notify");

describe("a cell of the matrix", () => {
  it("says prevented where the recall came first, with what the host waited", () => {
    const trace = [event("lease-break", 1), event("lease-release", 1.2), event("truncate", 2, "", 1.5)];
    const cell = guarded(scenario, evidenceWith({ observations: running, trace }));
    expect([cell, cellText(cell)]).toEqual([{ kind: "prevented", hostMs: 1.5 }, "prevented, +1.5 ms"]);
  });

  it("says late where it came after the fact", () => {
    const trace = [
      event("truncate", 2, "", 0.5),
      event("lease-break", 2.6, "from 0 on: a truncation that has happened"),
      event("lease-release", 3),
    ];
    expect(cellText(notified(scenario, evidenceWith({ observations: running, trace })))).toBe("late, 1.5 ms");
  });

  it("says missed where the VM is lost, and whether the guard was armed at all", () => {
    const trace = [event("guard-refused", 0), event("truncate", 2, "", 0.5)];
    expect(cellText(guarded(scenario, evidenceWith({ trace })))).toBe("missed: stopped(efault) (not armed)");
  });

  it("says missed where the VM lives but nobody was told", () => {
    const trace = [event("truncate", 2, "", 0.5)];
    expect(guarded(scenario, evidenceWith({ observations: running, trace })).kind).toBe("missed");
  });

  it("says denied, and untouched with and without a delay", () => {
    const host = { host: { "truncate#1": { kind: "denied", errno: "EPERM" } } } as const;
    expect(cellText(guarded(scenario, evidenceWith({ observations: { ...running, host } })))).toBe(
      "denied EPERM",
    );
    const unlinks = scenarioWith({
      actors: {
        ...scenario.actors,
        host: { in: "host-process", through: "file", steps: [{ verb: "unlink" }] },
      },
    });
    const quiet = evidenceWith({ observations: running, trace: [event("unlink", 1, "", 0.2)] });
    expect(cellText(guarded(unlinks, quiet))).toBe("untouched");
    const recalled = evidenceWith({
      observations: running,
      trace: [event("lease-break", 0.5), event("lease-release", 0.6), event("unlink", 1, "", 12)],
    });
    expect(cellText(guarded(unlinks, recalled))).toBe("untouched, +12 ms");
  });
});

describe("the matrix", () => {
  it("has every way in every state of the guest", () => {
    const all = matrixScenarios();
    const ways = new Set(all.map(({ way }) => way));
    const states = new Set(all.map(({ state }) => state));
    expect([ways.size, [...states].sort()]).toEqual([13, ["idle", "loads", "stores", "two-vcpus"]]);
    expect(all).toHaveLength(ways.size * states.size);
  });

  it("holds what was seen against the model", () => {
    const one = matrixScenarios().find(({ scenario: { id } }) => id === "guards/truncate/idle");
    if (one === undefined) throw new Error("no such scenario");
    const seen = (kind: "sigbus" | "zero") =>
      evidenceWith({
        observations: {
          ...running,
          accesses: {
            victim: {
              "load#1": { kind: "value", value: 1n },
              "load#2": kind === "zero" ? { kind } : { kind, code: "BUS_ADRERR" },
            },
          },
        },
      });
    const proposal = proposalOf("lease-kernel");
    expect(modelsWord(one.scenario, proposal, seen("sigbus")).kind).toBe("allowed");
    expect(modelsWord(one.scenario, proposal, seen("zero")).kind).toBe("not-allowed");
  });
});
