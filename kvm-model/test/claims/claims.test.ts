import { describe, expect, it } from "vitest";

import {
  caughtBy,
  checks,
  claims,
  decideClaim,
  decideMutation,
  guestModel,
  parseToken,
  replay,
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
