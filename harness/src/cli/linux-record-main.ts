/**
 * From recorded runs (`run --engine linux --json FILE`) to a file of fixtures/linux-guest. Entry point of
 * scripts/linux-record.
 */
import { writeFileSync } from "node:fs";
import type { PatchFacts } from "../../../language/src/index.ts";
import { type LinuxGuestFile, linuxCases } from "../compare/linux-guest.ts";
import { readRuns } from "./report.ts";
import { exitOnUsageError } from "./usage.ts";

const patchNames = (patches: readonly PatchFacts[]): string => patches.map(({ name }) => name).join("+");

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
  const [first] = attested;
  const built = new Set(attested.map(({ vm }) => vm?.kvm ?? "today"));
  const guestPatches = new Set(attested.map(({ guest }) => patchNames(guest?.patches ?? [])));
  if (built.size > 1 || guestPatches.size > 1) {
    console.error(`runs of kernels built alike, not with ${[...built, ...guestPatches].join(", ")}`);
    process.exit(64);
  }
  const [kvm = "today"] = built;
  const patches = first?.guest?.patches ?? [];
  const file: LinuxGuestFile = {
    about,
    recorded: new Date().toISOString().slice(0, 10),
    host,
    guest,
    ...(kvm === "today" ? {} : { kvm }),
    ...(patches.length === 0 ? {} : { guestPatches: patches.map(({ name }) => name) }),
    microGuest,
    cases: [...linuxCases(results)],
  };
  writeFileSync(output, JSON.stringify(file));
}

if (process.argv[1]?.endsWith("/linux-record-main.js")) exitOnUsageError(() => main(process.argv.slice(2)));
