import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Action,
  type FollowOptions,
  follow,
  Layout,
  type Model,
  type ModelEvent,
  type Observed,
  parseToken,
  replay,
  tableModel,
} from "../../src/index.ts";

/** One actor that shows a, then b and c in one step, then d; a second that ticks unseen at any time, once. */
function letters(): Model {
  const layout = new Layout();
  const at = layout.field("at");
  const ticked = layout.field("ticked");
  const step = (from: number, shown: string): Action => ({
    name: `shows ${shown}`,
    actor: "speaker",
    guard: (s) => s[at] === from,
    apply: (s, events) => {
      s[at] = from + 1;
      for (const detail of shown) events?.({ kind: "letter", from: "", to: "", detail });
    },
  });
  const tick: Action = {
    name: "ticks",
    actor: "clock",
    guard: (s) => s[ticked] === 0,
    apply: (s) => {
      s[ticked] = 1;
    },
  };
  return tableModel({
    name: "letters",
    layout,
    actions: [tick, step(0, "a"), step(1, "bc"), step(2, "d")],
    unfairActors: [],
    initial: (s) => s.fill(0),
  });
}

const options: FollowOptions = {
  visibleOf: (_before, _after, events: readonly ModelEvent[]) => events.map(({ detail }) => detail),
  maxPairs: 1000,
};

const seen = (text: string): Observed[] => [...text].map((event) => ({ event, optional: false }));

describe("follow", () => {
  it("finds the path, and its token replays to it", () => {
    const model = letters();
    const followed = follow(model, seen("abcd"), options);
    expect(followed.kind).toBe("followed");
    const { steps } = replay(model, parseToken(followed.kind === "followed" ? followed.token : ""));
    expect(steps.map(({ name }) => name)).toEqual(["shows a", "shows bc", "shows d"]);
  });

  it("takes a list that ends anywhere, also within a step", () => {
    for (const text of ["", "a", "ab", "abc"])
      expect(follow(letters(), seen(text), options).kind).toBe("followed");
  });

  it("names the first event that no path has, and what it would have been", () => {
    expect(follow(letters(), seen("abd"), options)).toMatchObject({
      kind: "diverges",
      at: 2,
      instead: ["c"],
    });
    expect(follow(letters(), seen("abcda"), options)).toMatchObject({ kind: "diverges", at: 4, instead: [] });
    expect(follow(letters(), seen("b"), options)).toMatchObject({ kind: "diverges", at: 0, instead: ["a"] });
  });

  it("passes over an optional event that fits nowhere, and takes one that fits", () => {
    const optional = (text: string): Observed[] => [...text].map((event) => ({ event, optional: true }));
    const list = [...seen("a"), ...optional("x"), ...seen("bc"), ...optional("d")];
    const followed = follow(letters(), list, options);
    expect(followed.kind).toBe("followed");
    expect(follow(letters(), [...seen("a"), ...optional("x"), ...seen("d")], options)).toMatchObject({
      kind: "diverges",
      at: 2,
    });
  });

  it("says that it was cut off rather than that there is no path", () => {
    expect(follow(letters(), seen("abcd"), { ...options, maxPairs: 2 }).kind).toBe("bounded");
  });

  it("follows exactly the beginnings of the one story there is", () => {
    const letter = fc.constantFrom("a", "b", "c", "d");
    fc.assert(
      fc.property(fc.array(letter, { maxLength: 6 }), (list) => {
        const isBeginning = "abcd".startsWith(list.join(""));
        expect(follow(letters(), seen(list.join("")), options).kind).toBe(
          isBeginning ? "followed" : "diverges",
        );
      }),
    );
  });
});

/** A door that is open until `shut`: one may go `in` before, shows that with its name, and says `bye` after it. */
function door(): Model {
  const layout = new Layout();
  const isShut = layout.field("shut");
  const guest = layout.field("guest");
  const step = (
    name: string,
    actor: string,
    guard: (s: Uint8Array) => boolean,
    apply: (s: Uint8Array) => void,
  ): Action => ({
    name,
    actor,
    guard,
    apply: (s, events) => {
      apply(s);
      events?.({ kind: "word", from: "", to: "", detail: name });
    },
  });
  return tableModel({
    name: "door",
    layout,
    actions: [
      step(
        "shut",
        "porter",
        (s) => s[isShut] === 0,
        (s) => s.fill(1, isShut, isShut + 1),
      ),
      step(
        "in",
        "guest",
        (s) => s[isShut] === 0 && s[guest] === 0,
        (s) => s.fill(1, guest, guest + 1),
      ),
      step(
        "bye",
        "guest",
        (s) => s[guest] === 1,
        (s) => s.fill(2, guest, guest + 1),
      ),
    ],
    unfairActors: [],
    initial: (s) => s.fill(0),
  });
}

describe("what is written down late", () => {
  const words = (...events: string[]): Observed[] => events.map((event) => ({ event, optional: false }));
  const late: FollowOptions["late"] = {
    mayBe: (event) => event === "in",
    writerOf: (_event, actor) => actor,
  };
  const kinds = (list: readonly Observed[]): readonly string[] =>
    [options, { ...options, late }].map((how) => follow(door(), list, how).kind);

  it("may come behind what others did meanwhile", () => {
    expect(kinds(words("in", "shut", "bye"))).toEqual(["followed", "followed"]);
    expect(kinds(words("shut", "in", "bye"))).toEqual(["diverges", "followed"]);
  });

  it("comes before anything else of the same writer's, and is not left out", () => {
    expect(kinds(words("bye", "in"))).toEqual(["diverges", "diverges"]);
    expect(kinds(words("shut", "bye", "in"))).toEqual(["diverges", "diverges"]);
    expect(kinds(words("shut", "bye"))).toEqual(["diverges", "diverges"]);
    expect(kinds(words("shut", "in", "in"))).toEqual(["diverges", "diverges"]);
  });
});
