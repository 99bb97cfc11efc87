/** `daxfault bench virtiofsd`: the server for a VMM beside Debian's virtiofsd, in one guest. */
import { getuid } from "node:process";
import { exitCodes } from "../../../language/src/index.ts";
import { benchVirtiofsd, type VirtiofsdResult, type VirtiofsdRow } from "../bench/virtiofsd.ts";
import { PLACES, type RowName } from "../bench/virtiofsd-turns.ts";
import { KernelError } from "../kernel/error.ts";
import { renderGrid } from "../report/grid.ts";
import type { Style } from "../report/style.ts";
import { liveInFolder } from "./life.ts";
import type { BenchVirtiofsdLine } from "./lines.ts";
import { openJson, openStatusLine } from "./output.ts";
import { checkedSpec, parseCount } from "./usage.ts";

export type BenchVirtiofsdCommand = {
  readonly guestKernel: string;
  readonly qemu?: string;
  readonly accel: "kvm" | "tcg";
  readonly size: string;
  readonly files: string;
  readonly operations: string;
  readonly rounds: string;
  readonly json?: string;
};

const MAX_SIZE_MIB = 64;
const MAX_FILES = 10_000;
const MAX_OPERATIONS = 100_000;
const MAX_ROUNDS = 100;

/** Returns the exit code: measurements are not verdicts, so 0 once they are made; 2 where nothing came out. */
export async function benchVirtiofsdCommand(options: BenchVirtiofsdCommand, style: Style): Promise<number> {
  const guestSpec = checkedSpec("--guest-kernel", options.guestKernel);
  const size = parseCount("--size", options.size, 1, MAX_SIZE_MIB);
  const files = parseCount("--files", options.files, 1, MAX_FILES);
  const operations = parseCount("--operations", options.operations, 1, MAX_OPERATIONS);
  const rounds = parseCount("--rounds", options.rounds, 1, MAX_ROUNDS);
  if (getuid?.() !== 0) {
    console.error("daxfault bench virtiofsd: it needs root: both servers act as the guest's users");
    return exitCodes.nothingRan;
  }
  const json = openJson<BenchVirtiofsdLine>(options.json);
  const status = openStatusLine();
  return liveInFolder({ command: "daxfault bench virtiofsd" }, async ({ directory, signal }) => {
    try {
      const result = await benchVirtiofsd({
        guestSpec,
        accelerator: options.accel,
        qemuPath: options.qemu ?? null,
        fileBytes: size * 2 ** 20,
        files,
        operations,
        rounds,
        directory,
        signal,
        progress: status.show,
      });
      status.clear();
      json.write({ type: "bench", name: "virtiofsd", ...result });
      if (!json.isStdout) console.log(virtiofsdText(result, style));
      return exitCodes.ok;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      status.clear();
      console.error(`daxfault bench virtiofsd: ${error.message}`);
      return exitCodes.inconclusive;
    } finally {
      status.clear();
    }
  });
}

const TITLES: Readonly<Record<RowName, string>> = {
  "read-sequential": "read(2), sequential (MiB/s)",
  "read-random": "pread(2), 4 KiB at random (1/s)",
  "mmap-sequential": "mmap, sequential (MiB/s)",
  "mmap-random": "mmap, pages at random (1/s)",
  "write-sequential": "write(2), sequential, fsync (MiB/s)",
  "write-random": "pwrite(2), 4 KiB at random (1/s)",
  create: "create (1/s)",
  stat: "stat (1/s)",
  unlink: "unlink (1/s)",
  find: "find of a tree (files/s)",
  tar: "tar of a tree (MiB/s)",
};

function line({ row, ours, theirs, dax, ratio, daxRatio }: VirtiofsdRow): readonly (readonly string[])[] {
  const isBytes = TITLES[row].includes("MiB/s");
  const figure = (value: number): readonly string[] => [
    isBytes ? (value / 2 ** 20).toFixed(1) : value.toFixed(0),
  ];
  return [
    [TITLES[row]],
    figure(theirs),
    figure(ours),
    [ratio.toFixed(2)],
    figure(dax),
    [daxRatio.toFixed(2)],
  ];
}

/** The result as text. */
export function virtiofsdText(result: VirtiofsdResult, style: Style): string {
  const { peer, qemu, accelerator, guestKernel, fileBytes, files, operations, rounds } = result;
  const head = ["", "virtiofsd", "ours", "ours / virtiofsd", "ours, DAX", "DAX / virtiofsd"];
  const peaks = PLACES.map((place) => `${place} ${Math.round(result.peakRssBytes[place] / 2 ** 20)} MiB`);
  return [
    `${peer}; guest: ${guestKernel}; ${qemu} (${accelerator})`,
    `a file of ${fileBytes / 2 ** 20} MiB, ${files} files, ${operations} operations at random; caches dropped before each turn; ` +
      `medians of ${rounds} rounds`,
    "",
    renderGrid({ head, rows: result.rows.map(line) }, style),
    `most memory of each server: ${peaks.join(", ")}`,
  ].join("\n");
}
