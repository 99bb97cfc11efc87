/**
 * From recorded runs (`run --engine linux --json FILE`) to a file of fixtures/linux-guest. Entry point of
 * scripts/linux-record.
 */
import { writeFileSync } from "node:fs";
import { type LinuxGuestFile, linuxCases } from "../compare/linux-guest.ts";
import { readRuns } from "./report.ts";
import { exitOnUsageError } from "./usage.ts";

function main([output, about, microGuest, ...runs]: readonly string[]): void {
  if (output === undefined || about === undefined || microGuest === undefined || runs.length === 0) {
    console.error("usage: scripts/linux-record NAME ABOUT MICRO-GUEST RUN.json...");
    process.exit(64);
  }
  const results = runs.flatMap((run) => readRuns(run).flatMap((one) => one.results));
  const attested = results.flatMap(({ result }) =>
    result?.kind === "evidence" && result.evidence.attestation.guest !== null
      ? [result.evidence.attestation]
      : [],
  );
  const hosts = new Set(attested.map(({ kernel }) => kernel));
  const guests = new Set(attested.map(({ guest }) => guest?.release ?? ""));
  const [host] = hosts;
  const [guest] = guests;
  if (host === undefined || guest === undefined || hosts.size > 1 || guests.size > 1) {
    console.error(
      `runs of one host and one guest, not of ${[...hosts].join(", ")} and ${[...guests].join(", ")}`,
    );
    process.exit(64);
  }
  const file: LinuxGuestFile = {
    about,
    recorded: new Date().toISOString().slice(0, 10),
    host,
    guest,
    microGuest,
    cases: [...linuxCases(results)],
  };
  writeFileSync(output, JSON.stringify(file));
}

if (process.argv[1]?.endsWith("/linux-record-main.js")) exitOnUsageError(() => main(process.argv.slice(2)));
