/** Recorded runs as runs of Linux guests: one a pair of kernels. */
import { describe, expect, it } from "vitest";
import type { LinuxGuestFacts } from "../../../language/src/index.ts";
import { evidenceWith } from "../../../language/test/support/evidence.ts";
import { linuxRuns } from "../../src/compare/linux-runs.ts";
import type { CaseResult } from "../../src/run/result.ts";
import { resultWith } from "../support/results.ts";

type Kernels = { readonly host: string; readonly guest: string | null; readonly scenario?: string };

const linuxFacts = (release: string): LinuxGuestFacts => ({
  kernel: "debian:6.1",
  origin: "an image",
  imageSha256: "a".repeat(64),
  patches: [],
  release,
  commandLine: "",
  cpus: 1,
  bootCase: 1,
  asyncPageFaults: "offered",
  machineCheckRecovery: "hidden",
  mount: "virtiofs dax=always",
});

function resultOn({ host, guest, scenario = "s" }: Kernels): CaseResult {
  const evidence = evidenceWith();
  const attestation = {
    ...evidence.attestation,
    kernel: host,
    guest: guest === null ? null : linuxFacts(guest),
  };
  const result = resultWith({ scenario: { id: scenario }, evidence: { ...evidence, attestation } });
  return {
    ...result,
    planned: { ...result.planned, nature: { isReal: true, runsKvm: true, isLinuxGuest: true } },
  };
}

describe("linuxRuns", () => {
  it("makes a run a pair of kernels, and keeps a case's last result", () => {
    const first = resultOn({ host: "6.12", guest: "6.1" });
    const results = [
      first,
      resultOn({ host: "6.12", guest: "7.2" }),
      resultOn({ host: "6.12", guest: "6.1" }),
    ];
    const runs = linuxRuns(results);
    expect(runs.map(({ host, guest, cases }) => [host, guest, cases.length])).toEqual([
      ["6.12", "6.1", 1],
      ["6.12", "7.2", 1],
    ]);
    expect(runs[0]?.cases[0]).toMatchObject({ scenario: "s", proposal: "efault-exit", lastWords: null });
  });

  it("leaves out what had no Linux guest, and what has no evidence", () => {
    const micro = resultWith();
    const none = { ...resultOn({ host: "6.12", guest: "6.1" }), result: null };
    expect(linuxRuns([micro, none, resultOn({ host: "6.12", guest: null })])).toEqual([]);
  });
});
