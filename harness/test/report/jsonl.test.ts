/** The JSON lines against the published schema, by an independent validator. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { countVerdicts, scorecard } from "../../../language/src/index.ts";
import { evidenceWith, place, vmFacts } from "../../../language/test/support/evidence.ts";
import {
  caseRecord,
  engineRecord,
  type JsonRecord,
  recordSchema,
  runRecord,
  scoreRecord,
  summaryRecord,
} from "../../src/report/jsonl.ts";
import { infoWith, resultWith } from "../support/results.ts";

const validate = new Ajv2020({ allErrors: true, strict: false, validateFormats: false }).compile(
  z.toJSONSchema(recordSchema),
);

/** As it is read: written and parsed again. */
function roundTrip(record: JsonRecord): Record<string, unknown> {
  const line = JSON.stringify(record);
  expect(line.startsWith('{"type":"')).toBe(true);
  const parsed = JSON.parse(line) as Record<string, unknown>;
  validate(parsed);
  expect(validate.errors).toBeNull();
  return parsed;
}

describe("caseRecord", () => {
  it("writes words as texts and 64-bit numbers as hexadecimal", () => {
    const big = 2n ** 64n - 1n;
    const record = roundTrip(
      caseRecord(
        resultWith({
          evidence: evidenceWith({
            counters: { pf_taken: big },
            observations: {
              accesses: {
                victim: { "load#1": { kind: "value", value: 2n ** 53n + 1n }, "load#2": { kind: "hung" } },
              },
              vmm: [
                { kind: "looping", faultsPerSecond: 22134.5, at: { ...place, hva: big } },
                { kind: "running" },
              ],
            },
          }),
        }),
      ),
    );
    expect(record).toMatchObject({
      type: "case",
      scenario: "load-after-truncate",
      scenarioHash: "0123456789ab",
      proposal: "efault-exit",
      engine: "kvm",
      verdict: { kind: "pass", reason: "as expected" },
      observations: {
        accesses: { victim: { "load#1": "value(0x20000000000001)", "load#2": "hung" } },
        host: { host: { "truncate#1": "done" } },
        vmm: [
          {
            state: "looping",
            faultsPerSecond: 22134.5,
            at: { rip: "0x41000", cpl: 3, hva: "0xffffffffffffffff" },
          },
          { state: "running", faultsPerSecond: null, at: null },
        ],
      },
      events: { truncate: 1 },
      counters: { pf_taken: "0xffffffffffffffff" },
      replay: "daxfault run load-after-truncate --proposal efault-exit --engine kvm",
    });
  });

  it.each([
    { kind: "skip", reason: "no KVM" },
    { kind: "inconclusive", cause: "timeout", reason: "too long" },
  ] as const)("has every member where there is no evidence: $kind", (verdict) => {
    const record = roundTrip(caseRecord(resultWith({ verdict, evidence: null, expectation: null })));
    expect(record).toMatchObject({
      verdict,
      observations: null,
      attestation: null,
      exhaustiveness: null,
      events: {},
    });
  });
});

describe("the other records", () => {
  it("follow the schema", () => {
    roundTrip(runRecord(infoWith()));
    const attestation = evidenceWith({ attestation: { vm: vmFacts } }).attestation;
    roundTrip(engineRecord({ name: "kernel:debian:6.1", attestation, openedMs: 9000 }));
    roundTrip(engineRecord({ name: "kernel:broken", attestation: null, openedMs: 1 }));
    for (const cell of scorecard(["native"], { cases: [], documented: [] })) roundTrip(scoreRecord(cell));
    roundTrip(
      summaryRecord({
        counts: countVerdicts([]),
        exitCode: 3,
        interrupted: false,
        defects: [],
        durationMs: 1,
      }),
    );
  });

  it("with anything else are refused", () => {
    expect(validate({ type: "score" })).toBe(false);
    expect(validate({ type: "verdict" })).toBe(false);
    expect(validate({ ...caseRecord(resultWith()), extra: 1 })).toBe(false);
  });
});
