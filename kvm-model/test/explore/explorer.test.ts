import { describe, expect, it } from "vitest";
import {
  checkDeterminism,
  checkLocalActions,
  explore,
  findDeadlock,
  findLivelock,
  findState,
  Layout,
  mermaidDiagram,
  parseToken,
  randomScheduler,
  replay,
  runSchedule,
  tableModel,
  textDiagram,
} from "../../src/index.ts";
import { counters, philosophers, retry } from "./toys.ts";

describe("explore", () => {
  it.each([
    [1, 9, 10],
    [2, 9, 100],
    [3, 20, 9261],
    [4, 12, 28561],
  ])("%i counters up to %i have %i states", (actors, limit, states) => {
    const graph = explore(counters(actors, limit));
    expect(graph.exhaustiveness).toEqual({ kind: "exhaustive", states });
    expect(graph.transitions).toBe(actors * limit * (limit + 1) ** (actors - 1));
    expect(graph.terminalCount).toBe(1);
    expect(graph.pathTo(graph.terminals[0] ?? -1)).toHaveLength(actors * limit);
  });

  it("keeps its overhead under 64 bytes a state, edges included", () => {
    const graph = explore(counters(4, 17), { edges: true });
    expect(graph.states).toBe(18 ** 4);
    expect(graph.overheadBytesPerState).toBeLessThan(64);
  });

  it("says bounded when it stops early, by states and by memory", () => {
    expect(explore(counters(4, 30), { maxStates: 5000 }).exhaustiveness).toMatchObject({
      kind: "bounded",
      by: "5000 states",
    });
    expect(explore(counters(4, 30), { maxBytes: 2 ** 20 }).exhaustiveness).toMatchObject({
      kind: "bounded",
      by: "memory: 1 MiB",
    });
  });

  it("finds the philosophers' deadlock by the shortest path", () => {
    for (const seats of [2, 3, 5]) {
      const finding = findDeadlock(explore(philosophers(seats)), () => false);
      expect(finding?.steps).toBe(seats);
      const { state } = replay(philosophers(seats), parseToken(finding?.token ?? ""));
      expect([...state.subarray(0, seats)]).toEqual(new Array(seats).fill(1));
    }
  });

  it("reduces where steps are local, keeping the ends", () => {
    const full = explore(counters(3, 20));
    const reduced = explore(counters(3, 20), { reduce: true });
    expect(reduced.states).toBeLessThan(full.states / 10);
    expect(reduced.state(reduced.terminals[0] ?? -1)).toEqual(full.state(full.terminals[0] ?? -1));
    expect(checkLocalActions(explore(counters(3, 5)), () => 0)).toBeGreaterThan(100);
  });

  it("refuses a local action that does not commute", () => {
    const layout = new Layout();
    const at = layout.field("x");
    const model = tableModel({
      name: "wrong",
      layout,
      unfairActors: [],
      initial: (s) => s.fill(0),
      actions: [
        {
          name: "a",
          actor: "a",
          local: true,
          guard: (s) => s[at] === 0,
          apply: (s) => s.fill(1, at, at + 1),
        },
        { name: "b", actor: "b", guard: (s) => s[at] === 0, apply: (s) => s.fill(2, at, at + 1) },
      ],
    });
    expect(() => checkLocalActions(explore(model), () => 0)).toThrow(/declared local/);
  });
});

describe("lassos", () => {
  const notDone = { states: (s: Uint8Array): boolean => s[1] === 0 };

  it("an actor that stays enabled ends the retrying", () => {
    expect(findLivelock(explore(retry(true), { edges: true }), notDone)).toBeNull();
  });

  it("an actor that is enabled only now and then may be passed over for ever", () => {
    const finding = findLivelock(explore(retry(false), { edges: true }), notDone);
    expect(finding?.token).toBe("//0/1");
    const { state } = replay(retry(false), parseToken(finding?.token ?? ""));
    expect([...state]).toEqual([0, 0, 0, 0]);
  });

  it.each([31, 32, 40, 100])("fairness is owed to an actor behind %i others, too", (idle) => {
    expect(findLivelock(explore(retry(true, idle), { edges: true }), notDone)).toBeNull();
    const finding = findLivelock(explore(retry(false, idle), { edges: true }), notDone);
    expect(finding?.token).toBe(`//${idle}/${idle + 1}`);
  });

  it("a cycle can be asked for without some actions", () => {
    const graph = explore(retry(false), { edges: true });
    expect(findLivelock(graph, { ...notDone, withoutActions: new Set([1]) })).toBeNull();
  });
});

describe("paths", () => {
  it("are deterministic, and a walk is reproducible from its seed", () => {
    checkDeterminism(philosophers(4), 7, 20, 50);
    const walk = (): string[] =>
      runSchedule(philosophers(3), randomScheduler(42, 30)).steps.map((step) => step.name);
    expect(walk()).toEqual(walk());
  });

  it("uncontrolled nondeterminism is found", () => {
    const layout = new Layout();
    const at = layout.field("x");
    let calls = 0;
    const model = tableModel({
      name: "impure",
      layout,
      unfairActors: [],
      initial: (s) => s.fill(0),
      actions: [
        {
          name: "count calls",
          actor: "a",
          guard: (s) => (s[at] as number) < 9,
          apply: (s) => {
            s[at] = (s[at] as number) + 1 + (calls++ % 3);
          },
        },
      ],
    });
    expect(() => checkDeterminism(model, 1, 3, 50)).toThrow(/ran differently at step/);
  });

  it("a token of another model is a clear error", () => {
    expect(() => replay(philosophers(2), parseToken("0/0"))).toThrow(/not enabled there/);
    expect(() => parseToken("0/x")).toThrow(/no action index/);
  });

  it("are drawn", () => {
    const finding = findDeadlock(explore(philosophers(2)), () => false);
    const { steps } = replay(philosophers(2), parseToken(finding?.token ?? ""));
    expect(textDiagram(steps)).toMatchInlineSnapshot(`
      "      philosopher0  philosopher1
         1  o             |               0 takes left
         2  |             o               1 takes left"
    `);
    expect(mermaidDiagram(steps, 1)).toMatchInlineSnapshot(`
      "sequenceDiagram
        participant L0 as philosopher0
        participant L1 as philosopher1
        Note over L0: 0 takes left
        loop for ever
        Note over L1: 1 takes left
        end"
    `);
  });
});

describe("findState", () => {
  it("finds the shortest way, or nothing", () => {
    const graph = explore(counters(2, 5));
    expect(findState(graph, (s) => s[0] === 2 && s[1] === 1)?.steps).toBe(3);
    expect(findState(graph, (s) => s[0] === 6)).toBeNull();
  });
});
