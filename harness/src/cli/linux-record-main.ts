/**
 * From recorded runs (`run --engine linux --json FILE`) to a file of fixtures/linux-guest. Entry point of
 * scripts/linux-record.
 */
import { writeFileSync } from "node:fs";
import { type LinuxGuestFile, readLinuxGuests } from "../compare/linux-guest.ts";
import { type LinuxCase, type LinuxRun, linuxRuns } from "../compare/linux-runs.ts";
import { readRuns } from "./report.ts";
import { exitOnUsageError } from "./usage.ts";

const pairText = ({ host, guest, kvm = "today", guestPatches = [] }: LinuxRun): string =>
  `${[guest, ...guestPatches].join("+")} on ${host} with kvm=${kvm}`;

/** Those of earlier runs that have not been run again. */
export function kept(before: readonly LinuxCase[], now: readonly LinuxCase[]): readonly LinuxCase[] {
  return before.filter((one) =>
    now.every(({ scenario, proposal }) => scenario !== one.scenario || proposal !== one.proposal),
  );
}

function refuse(message: string): never {
  console.error(message);
  process.exit(64);
}

function main([output, about, ...rest]: readonly string[]): void {
  const before = output !== undefined && about === "--add" ? readLinuxGuests(output) : null;
  const [microGuest, ...runs] = before === null ? rest : [before.microGuest, ...rest];
  if (output === undefined || about === undefined || microGuest === undefined || runs.length === 0) {
    refuse("usage: scripts/linux-record NAME ABOUT MICRO-GUEST|--add RUN.json...");
  }
  const found = linuxRuns(runs.flatMap((run) => readRuns(run).flatMap(({ results }) => results)));
  const pairs = new Set([...(before === null ? [] : [before]), ...found].map(pairText));
  const [run] = found;
  if (run === undefined || pairs.size > 1) {
    refuse(`runs of one host and one guest, not of ${[...pairs].join("; ") || "none"}`);
  }
  const { cases, ...kernels } = run;
  // The first day of several: nothing is said to be newer than it is.
  const recorded = before?.recorded ?? new Date().toISOString().slice(0, 10);
  const file: LinuxGuestFile = {
    about: before?.about ?? about,
    recorded,
    ...kernels,
    microGuest,
    cases: [...kept(before?.cases ?? [], cases), ...cases],
  };
  writeFileSync(output, JSON.stringify(file));
}

if (process.argv[1]?.endsWith("/linux-record-main.js")) exitOnUsageError(() => main(process.argv.slice(2)));
