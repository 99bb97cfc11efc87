/**
 * From recorded runs (`run --engine linux --json FILE`) to a file of fixtures/linux-guest. Entry point of
 * scripts/linux-record.
 */
import { writeFileSync } from "node:fs";
import type { LinuxGuestFile } from "../compare/linux-guest.ts";
import { type LinuxRun, linuxRuns } from "../compare/linux-runs.ts";
import { readRuns } from "./report.ts";
import { exitOnUsageError } from "./usage.ts";

const pairText = ({ host, guest, kvm = "today", guestPatches = [] }: LinuxRun): string =>
  `${[guest, ...guestPatches].join("+")} on ${host} with kvm=${kvm}`;

function main([output, about, microGuest, ...runs]: readonly string[]): void {
  if (output === undefined || about === undefined || microGuest === undefined || runs.length === 0) {
    console.error("usage: scripts/linux-record NAME ABOUT MICRO-GUEST RUN.json...");
    process.exit(64);
  }
  const found = linuxRuns(runs.flatMap((run) => readRuns(run).flatMap(({ results }) => results)));
  const [run] = found;
  if (run === undefined || found.length > 1) {
    console.error(`runs of one host and one guest, not of ${found.map(pairText).join("; ") || "none"}`);
    process.exit(64);
  }
  const { cases, ...kernels } = run;
  const recorded = new Date().toISOString().slice(0, 10);
  const file: LinuxGuestFile = { about, recorded, ...kernels, microGuest, cases };
  writeFileSync(output, JSON.stringify(file));
}

if (process.argv[1]?.endsWith("/linux-record-main.js")) exitOnUsageError(() => main(process.argv.slice(2)));
