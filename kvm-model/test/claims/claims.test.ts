import { describe, expect, it } from "vitest";
import { presetOf } from "../../../language/src/index.ts";
import {
  caughtBy,
  checks,
  claims,
  decideClaim,
  decideMutation,
  guestModel,
  type Property,
  parseToken,
  replay,
  scorecardOf,
} from "../../src/index.ts";

describe("claims of the talk and of the threads around it", () => {
  it.each(claims.map((claim) => [claim.id, claim.says, claim] as const))("%s: %s", (_id, _says, claim) => {
    const decided = decideClaim(claim);
    expect(decided.missing).toEqual([]);
    expect(decided.verdict).toBe("confirmed");
    expect(decided.facts.exhaustiveness.kind).toBe("exhaustive");
    const { model } = guestModel(claim.of);
    for (const token of Object.values(decided.tokens))
      expect(() => replay(model, parseToken(token))).not.toThrow();
  });

  it("under a bound, what was not found is left open", () => {
    const claim = claims.find((candidate) => candidate.id === "loop");
    if (claim === undefined) throw new Error("claim loop is gone");
    expect(decideClaim(claim, { maxStates: 20 }).verdict).toBe("open");
  });

  it("a lasso comes back to the state it started from", () => {
    for (const claim of claims) {
      for (const token of Object.values(decideClaim(claim).tokens)) {
        const { stem, cycle } = parseToken(token);
        if (cycle.length === 0) continue;
        const { model } = guestModel(claim.of);
        const before = replay(model, { stem, cycle: [] }).state;
        expect(replay(model, { stem, cycle }).state).toEqual(before);
      }
    }
  });
});

describe("mutations", () => {
  it.each(checks.map((check) => [check, caughtBy[check]] as const))(
    "without %s, %s is no longer confirmed",
    (check) => {
      expect(decideMutation(check).verdict).not.toBe("confirmed");
    },
  );
});

describe("the scorecard", () => {
  const row = (id: string): Record<Property, string> => {
    const preset = presetOf(id);
    if (preset === null) throw new Error(`no preset ${id}`);
    return Object.fromEntries(scorecardOf(preset).map((cell) => [cell.property, cell.holds])) as Record<
      Property,
      string
    >;
  };

  it("of today's kernel with async page faults", () => {
    expect(row("apf-guest")).toMatchInlineSnapshot(`
      {
        "any-backing": "no",
        "contained": "yes",
        "host-truncation": "no",
        "host-unharmed": "no",
        "keeps-apf": "yes",
        "kernel-access": "no",
        "nested": "no",
        "nmi-safe": "no",
        "no-silent-data": "yes",
        "precise-load": "no",
        "precise-store": "no",
        "reversible": "yes",
        "right-victim": "no",
        "terminates": "partly",
      }
    `);
  });

  it("of an error in page-ready", () => {
    expect(row("sigbus-injection")).toMatchInlineSnapshot(`
      {
        "any-backing": "yes",
        "contained": "yes",
        "host-truncation": "yes",
        "host-unharmed": "yes",
        "keeps-apf": "yes",
        "kernel-access": "no",
        "nested": "no",
        "nmi-safe": "no",
        "no-silent-data": "yes",
        "precise-load": "yes",
        "precise-store": "yes",
        "reversible": "yes",
        "right-victim": "yes",
        "terminates": "yes",
      }
    `);
  });

  it("of a machine check", () => {
    expect(row("kvm-mce-injection")).toMatchInlineSnapshot(`
      {
        "any-backing": "yes",
        "contained": "yes",
        "host-truncation": "yes",
        "host-unharmed": "yes",
        "keeps-apf": "yes",
        "kernel-access": "partly",
        "nested": "yes",
        "nmi-safe": "no",
        "no-silent-data": "yes",
        "precise-load": "yes",
        "precise-store": "yes",
        "reversible": "no",
        "right-victim": "yes",
        "terminates": "yes",
      }
    `);
  });

  it("of #VE", () => {
    expect(row("kvm-ve-injection")).toMatchInlineSnapshot(`
      {
        "any-backing": "yes",
        "contained": "yes",
        "host-truncation": "yes",
        "host-unharmed": "yes",
        "keeps-apf": "yes",
        "kernel-access": "yes",
        "nested": "yes",
        "nmi-safe": "no",
        "no-silent-data": "yes",
        "precise-load": "yes",
        "precise-store": "yes",
        "reversible": "yes",
        "right-victim": "yes",
        "terminates": "yes",
      }
    `);
  });

  it("knows no verdict under a bound", () => {
    const preset = presetOf("kvm-ve-injection");
    if (preset === null) throw new Error("no preset ve-injection");
    const [cell] = scorecardOf(preset, ["terminates"], { maxStates: 10 });
    expect(cell).toMatchObject({ holds: "unknown", exhaustive: false, boundedBy: "10 states" });
  });
});
