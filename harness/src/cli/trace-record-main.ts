/**
 * From recorded runs (`run --kernel SPEC --json FILE`) to a file of fixtures/traces: the beginning of the tracepoints of
 * each case. Entry point of scripts/trace-record.
 */
import { writeFileSync } from "node:fs";
import { type KvmPart, kvmParts } from "../../../language/src/index.ts";
import type { Recorded } from "../compare/recorded.ts";
import { tracesSptes } from "../compare/tracepoints.ts";
import { readRecorded } from "./compare.ts";
import { exitOnUsageError } from "./usage.ts";

/** More than three turns of the slowest loop. */
const LINES_MAX = 48;

/** A case and the kernel's tracepoints in it. */
export type RecordedTrace = Pick<Recorded, "scenario" | "scenarioHash" | "proposal"> & {
  /** uname -r */
  readonly kernel: string;
  /** `tracesSptes` of the kernel. */
  readonly tellsMappings: boolean;
  readonly lines: readonly string[];
};

export function recordedTraces(recorded: readonly Recorded[]): readonly RecordedTrace[] {
  return recorded.flatMap(({ scenario, scenarioHash, proposal, traced, definition }) => {
    if (traced?.kvmTrace.kind !== "trace") return [];
    const { attestation, kvmTrace } = traced;
    const lines = kvmTrace.lines.slice(0, LINES_MAX);
    const kernel = attestation.kernel;
    return [
      {
        scenario,
        scenarioHash,
        proposal,
        kernel,
        tellsMappings: tracesSptes(attestation, definition.scenario),
        lines,
      },
    ];
  });
}

/** A file of fixtures/traces. */
export type TraceFile = {
  readonly about: string;
  /** The proposal that these kernels have built in: a value of the model's `kvm` axis. */
  readonly kvm: KvmPart;
  readonly traces: readonly RecordedTrace[];
};

function main([output, kvm, about, ...runs]: readonly string[]): void {
  const part = kvmParts.find((known) => known === kvm);
  if (output === undefined || part === undefined || about === undefined || runs.length === 0) {
    console.error("usage: scripts/trace-record NAME today|final-efault|.. ABOUT RUN.json...");
    process.exit(64);
  }
  const traces = recordedTraces(runs.flatMap((run) => readRecorded(run).observed));
  writeFileSync(output, JSON.stringify({ about, kvm: part, traces } satisfies TraceFile));
}

if (process.argv[1]?.endsWith("trace-record-main.js")) exitOnUsageError(() => main(process.argv.slice(2)));
