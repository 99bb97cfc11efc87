/** Recorded races with Linux guests (fixtures/guards/linux-races.jsonl) as a table of docs/guards.md. */
import { readFileSync } from "node:fs";
import { packagePath } from "../paths.ts";
import type { LinuxRaceFacts } from "./race.ts";
import { promiseOf } from "./race-ways.ts";
import { guardRecordSchema, type RaceRecord } from "./records.ts";

type LinuxRecord = RaceRecord & { readonly linux: LinuxRaceFacts };

export function recordedLinuxRaces(): readonly LinuxRecord[] {
  const lines = readFileSync(packagePath("fixtures/guards/linux-races.jsonl"), "utf8").split("\n");
  return lines
    .filter((line) => line !== "")
    .map((line) => {
      const record = guardRecordSchema.parse(JSON.parse(line));
      if (record.type !== "race" || record.linux === null) throw new Error("not a race with a Linux guest");
      return { ...record, linux: record.linux };
    });
}

const count = (value: number): string => Math.round(value).toLocaleString("en-US");

const ms = (us: number): string => `${(us / 1000).toLocaleString("en-US", { maximumFractionDigits: 0 })} ms`;

/** A guard that denies holds what it denies; the others hold a round whose mapping was gone first. */
function heldText({ guard, done, denied, late }: LinuxRecord): string {
  if (promiseOf(guard) === "nothing") return "";
  return `${count(promiseOf(guard) === "denies" ? denied : done - late)} of ${count(done)}`;
}

function rowOf(race: LinuxRecord): readonly string[] {
  const { guard, done, lost, staleLoads, loads, stores, sigbus, hostUs, faults, linux } = race;
  const wrongStores = race.changedAfterAcknowledgement + race.dirtyAfterRegrow;
  return [
    guard === "none" ? "none" : `\`${guard}\``,
    linux.host,
    heldText(race),
    `${count(lost)} of ${count(done)}`,
    `${count(staleLoads)} of ${count(loads)}`,
    `${count(wrongStores)} of ${count(stores)}`,
    count(sigbus),
    race.stuck || linux.oopses > 0 ? `stuck, ${linux.oopses} oopses` : "",
    faults === null ? "" : `${faults.p50}, ${faults.max}`,
    hostUs === null ? "" : `${ms(hostUs.p50)}, ${ms(hostUs.max)}`,
  ];
}

const head: readonly string[] = [
  "guard",
  "host",
  "held",
  "lost",
  "stale loads",
  "wrong stores",
  "signals",
  "guest",
  "KVM's faults: p50, max",
  "host's call: p50, max",
];

/** As Prettier aligns it. */
export function linuxRaceTable(races: readonly LinuxRecord[]): string {
  const rows = [head, ...races.map(rowOf)];
  const widths = head.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [line(head), rule, ...races.map((race) => line(rowOf(race)))].join("\n");
}
