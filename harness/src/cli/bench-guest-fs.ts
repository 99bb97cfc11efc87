/** `daxfault bench guest-fs`: outside suites and fio in a Linux guest, over virtio-fs with DAX and without. */
import { suites as allSuites, type Comparison } from "../../../fs-server/src/index.ts";
import { exitCodes } from "../../../language/src/index.ts";
import { benchGuestFs, type FioRow, type GuestFsResult } from "../bench/guest-fs.ts";
import { KernelError } from "../kernel/error.ts";
import { findQemu, QEMU_FIX } from "../kernel/qemu.ts";
import { renderGrid } from "../report/grid.ts";
import type { Style } from "../report/style.ts";
import { liveInFolder } from "./life.ts";
import type { BenchGuestFsLine } from "./lines/bench.ts";
import { openJson, openStatusLine } from "./output.ts";
import { checkedSpec, parseCount, UsageError } from "./usage.ts";

export type BenchGuestFsCommand = {
  readonly kernel: string;
  readonly guestKernel?: string;
  readonly suite?: readonly string[];
  readonly whole?: true;
  readonly size: string;
  readonly rounds: string;
  readonly window: string;
  readonly json?: string;
};

const MAX_SIZE_MIB = 256;
const MAX_ROUNDS = 100;
const MAX_WINDOW_MIB = 1024;
/** What is not run unless it is named: hundreds of processes, each of which takes seconds under emulation. */
const leftOut: readonly string[] = ["git and make", "stress-ng"];

function checkedSuites(names: readonly string[] | undefined): readonly string[] {
  const known = allSuites(null).map(({ name }) => name);
  if (names === undefined) return known.filter((name) => !leftOut.includes(name));
  const strange = names.find((name) => name !== "none" && !known.includes(name));
  if (strange !== undefined) {
    throw new UsageError(`--suite ${JSON.stringify(strange)}: none, or some of: ${known.join(", ")}`);
  }
  return names.filter((name) => name !== "none");
}

/** Exit code 1 for a difference that is not known, or anything else that went wrong; 2 if nothing came out. */
function exitCodeOf({ comparisons, goneErrata, rows, problems }: GuestFsResult): number {
  const isWrong = comparisons.some(({ differences }) => differences.length > 0) || goneErrata.length > 0;
  if (isWrong) return exitCodes.unexpected;
  if (problems.length > 0)
    return rows.length + comparisons.length === 0 ? exitCodes.inconclusive : exitCodes.unexpected;
  return exitCodes.ok;
}

export async function benchGuestFsCommand(options: BenchGuestFsCommand, style: Style): Promise<number> {
  const spec = checkedSpec("--kernel", options.kernel);
  const guestSpec = checkedSpec("--guest-kernel", options.guestKernel ?? options.kernel);
  const suites = checkedSuites(options.suite);
  const size = parseCount("--size", options.size, 0, MAX_SIZE_MIB);
  const rounds = parseCount("--rounds", options.rounds, 1, MAX_ROUNDS);
  const half = parseCount("--window", options.window, 2, MAX_WINDOW_MIB);
  if (half % 2 !== 0) throw new UsageError(`--window ${half}: a multiple of 2 MiB, the size of a mapping`);
  if (findQemu() === null) {
    console.error(
      `daxfault bench guest-fs: there is no qemu-system-x86_64 to boot a kernel in (${QEMU_FIX})`,
    );
    return exitCodes.nothingRan;
  }
  const json = openJson<BenchGuestFsLine>(options.json);
  const status = openStatusLine();
  return liveInFolder({ command: "daxfault bench guest-fs" }, async ({ directory, signal }) => {
    try {
      const result = await benchGuestFs({
        spec,
        guestSpec,
        suites,
        effort: options.whole === true ? "whole" : "short",
        fio: size === 0 ? null : { fileBytes: size * 2 ** 20, rounds },
        windowMiB: half,
        directory,
        signal,
        progress: status.show,
      });
      status.clear();
      json.write({ type: "bench", name: "guest-fs", ...result });
      if (!json.isStdout) console.log(guestFsText(result, style));
      return exitCodeOf(result);
    } catch (error) {
      // A kernel that cannot be had, or that did not come so far as the guest.
      if (!(error instanceof KernelError)) throw error;
      status.clear();
      console.error(`daxfault bench guest-fs: ${error.message}`);
      return exitCodes.inconclusive;
    } finally {
      status.clear();
    }
  });
}

function fioLine({ engine, pattern, cache, dax, plain, ratio }: FioRow): readonly (readonly string[])[] {
  const figure = (value: number | null, digits: number): readonly string[] =>
    value === null ? ["none"] : [value.toFixed(digits)];
  return [[engine], [pattern], [cache], figure(dax, 0), figure(plain, 0), figure(ratio, 2)];
}

function comparisonLines({
  suite,
  transport,
  underneath,
  known,
  differences,
}: Comparison): readonly string[] {
  const counts = `${differences.length} differences, ${known.length} known, ${underneath.length} underneath, too`;
  return [
    `${transport.padEnd(13)} ${suite}: ${counts}`,
    ...differences.map((difference) => `  DIFFERENT ${difference}`),
  ];
}

/** The result as text. */
export function guestFsText(result: GuestFsResult, style: Style): string {
  const { kernel, guestKernel, accelerator, windowMiB, comparisons, skipped, rows } = result;
  const lines = [
    `guest: ${guestKernel}, in a VM of ${kernel} (${accelerator}); a DAX window of ${windowMiB} MiB`,
    ...(comparisons.length + skipped.length > 0 ? ["", "outside suites, beside the folder underneath"] : []),
    ...comparisons.flatMap(comparisonLines),
    ...skipped.map(({ suite, reason }) => `${suite} skipped: ${reason}`),
    ...result.goneErrata.map((id) => `NO LONGER SEEN: ${id}; take it out of fixtures/fs-errata.json`),
  ];
  if (rows.length > 0) {
    const head = ["engine", "pattern", "caches", "DAX, 4 KiB/s", "no DAX, 4 KiB/s", "DAX / no DAX"];
    const size = (result.fileBytes ?? 0) / 2 ** 20;
    lines.push("", `fio, a file of ${size} MiB by 4 KiB, medians of ${result.rounds} rounds`, "");
    lines.push(renderGrid({ head, rows: rows.map(fioLine) }, style));
  }
  const heading = (title: string, list: readonly string[]): readonly string[] =>
    list.length === 0 ? [] : ["", title, ...list.map((one) => `  ${one}`)];
  lines.push(
    ...heading("the guest's kernel warns", result.messages),
    ...heading("PROBLEMS", result.problems),
  );
  return lines.join("\n");
}
