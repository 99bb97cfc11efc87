/**
 * Our file server under a real client with a DAX window: outside suites and fio in a Linux guest on our VMM, over virtio-fs
 * with DAX and without, beside the folder underneath. Runs inside a VM that boots a kernel with KVM.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Comparison,
  compare,
  type Effort,
  type Erratum,
  unmatched,
} from "../../../fs-server/src/index.ts";
import { onAbort } from "../abort.ts";
import { obtainKernel } from "../kernel/cache.ts";
import { KernelError } from "../kernel/error.ts";
import { obtainGuestOnRoot } from "../kernel/guest.ts";
import { GUEST_TEMPORARY } from "../kernel/initramfs.ts";
import { type Qemu, requireQemu, slownessOf } from "../kernel/qemu.ts";
import type { KernelSpec } from "../kernel/spec.ts";
import { insideEnvironment, startKernelVm } from "../kernel/vm.ts";
import { builtPath, packagePath } from "../paths.ts";
import type { RunDirectory } from "../run/directory.ts";
import {
  type FioJob,
  type FromGuestFs,
  type GuestFsPlan,
  type InsideResult,
  PLAN_FILE,
  ROOT_TAG,
  SHARES,
} from "./guest-fs-messages.ts";
import { quantile } from "./quantile.ts";

export type GuestFsOptions = {
  /** Has KVM. */
  readonly spec: KernelSpec;
  /** Of the guest. */
  readonly guestSpec: KernelSpec;
  readonly suites: readonly string[];
  readonly effort: Effort;
  readonly fio: GuestFsPlan["fio"];
  readonly windowMiB: number;
  readonly directory: RunDirectory;
  readonly signal: AbortSignal;
  readonly progress: (text: string) => void;
};

export type FioRow = FioJob & {
  /** Operations a second, medians; null: a round has failed. */
  readonly dax: number | null;
  readonly plain: number | null;
  /** With DAX as many times as without; null: one of them has none. */
  readonly ratio: number | null;
};

export type GuestFsResult = {
  /** Origins of the two kernels. */
  readonly kernel: string;
  readonly guestKernel: string;
  readonly accelerator: Qemu["accelerator"];
  readonly windowMiB: number;
  readonly fileBytes: number | null;
  readonly rounds: number;
  readonly comparisons: readonly Comparison[];
  readonly skipped: readonly { readonly suite: string; readonly reason: string }[];
  /** Entries of fixtures/fs-errata.json that nothing matched. */
  readonly goneErrata: readonly string[];
  readonly rows: readonly FioRow[];
  /** Of the guest's kernel: its messages of level warning and above. */
  readonly messages: readonly string[];
  /** What was wrong, one sentence each: a file server's defect, a broken ring, a guest that died. */
  readonly problems: readonly string[];
};

const RAM_MIB = 640;
/** On a machine with KVM. */
const LIFE_MS = 240_000;
const BOOT_MS = 30_000;
const ERRATA = "fixtures/fs-errata.json";
const POWER_OFF = "power-off";

function median(values: readonly number[]): number | null {
  return values.length === 0
    ? null
    : quantile(
        [...values].sort((a, b) => a - b),
        0.5,
      );
}

type FioResult = Extract<InsideResult, { type: "fio" }>;

/** The median of all rounds of a job, each place by itself. */
export function fioRows(results: readonly FioResult[]): readonly FioRow[] {
  const keyOf = ({ engine, pattern, cache }: FioJob): string => `${engine} ${pattern} ${cache}`;
  const firsts = new Map<string, FioJob>();
  for (const one of results) if (!firsts.has(keyOf(one))) firsts.set(keyOf(one), one);
  return [...firsts].map(([key, { engine, pattern, cache }]) => {
    const figure = (place: FioResult["place"]): number | null => {
      const rounds = results.filter((one) => keyOf(one) === key && one.place === place);
      const figures = rounds.flatMap(({ operationsPerSecond }) => operationsPerSecond ?? []);
      return figures.length < rounds.length ? null : median(figures);
    };
    const [dax, plain] = [figure("virtio-fs-dax"), figure("virtio-fs")];
    const ratio = dax === null || plain === null || plain === 0 ? null : dax / plain;
    return { engine, pattern, cache, dax, plain, ratio };
  });
}

/** The suites on each mount beside the folder underneath. */
export function suiteComparisons(
  results: readonly InsideResult[],
  errata: readonly Erratum[],
): readonly Comparison[] {
  const runs = results.flatMap((one) => (one.type === "suite" && one.skipped === null ? [one] : []));
  return runs.flatMap(({ suite, place, complaints }) => {
    const underneath = runs.find((one) => one.suite === suite && one.place === "folder");
    if (place === "folder" || underneath === undefined) return [];
    return [compare({ suite, transport: place }, underneath.complaints, complaints, errata)];
  });
}

/** What did not come out although it should have. */
function problemsOf(results: readonly InsideResult[], how: string): readonly string[] {
  const isDone = results.filter(({ type }) => type === "done").length === 2;
  return [
    ...(isDone && how === POWER_OFF ? [] : [`the guest's end: ${how}`]),
    ...results.flatMap((one) =>
      one.type === "fio" && one.problem !== null
        ? [`fio ${one.engine} ${one.pattern} ${one.cache} on ${one.place}: ${one.problem}`]
        : [],
    ),
  ];
}

/** Everything that the VM needs, in a folder that it sees at the same path. */
async function prepare(options: GuestFsOptions, folder: string, life: number) {
  const path = join(folder, PLAN_FILE);
  const guest = await obtainGuestOnRoot({
    spec: options.guestSpec,
    modulesDirectory: null,
    signal: options.signal,
    rootTag: ROOT_TAG,
    shares: SHARES.map(({ name, options }) => ({ tag: name, name, options })),
    program: {
      command: [
        process.execPath,
        builtPath("harness/src/bench/guest-fs-inside-main.ts"),
        join(GUEST_TEMPORARY, "virtio-fs", PLAN_FILE),
      ],
      environment: insideEnvironment,
    },
  });
  const { suites, effort, fio, windowMiB } = options;
  const [kernel, initrd] = [join(folder, "vmlinux"), join(folder, "initrd")];
  writeFileSync(kernel, guest.image);
  writeFileSync(initrd, guest.initrd);
  const plan: GuestFsPlan = { kernel, initrd, ramMiB: RAM_MIB, windowMiB, lifeMs: life, suites, effort, fio };
  writeFileSync(path, JSON.stringify(plan));
  return { path, origin: guest.kernel.origin };
}

type Heard = { readonly results: InsideResult[]; readonly problems: string[]; how: string | null };

function hear(message: FromGuestFs, heard: Heard, progress: (text: string) => void): void {
  switch (message.type) {
    case "progress":
    case "line":
      progress(message.text);
      return;
    case "result":
      heard.results.push(message.result);
      return;
    case "ended":
      heard.how = message.how;
      heard.problems.push(...message.defects);
      return;
    default:
      message satisfies never;
  }
}

/** Throws a KernelError where a kernel cannot be had or the outer VM did not come so far. */
export async function benchGuestFs(options: GuestFsOptions): Promise<GuestFsResult> {
  const { signal, progress, fio } = options;
  const qemu = requireQemu();
  const life = LIFE_MS * (fio?.rounds ?? 1) * slownessOf(qemu.accelerator);
  progress("kernels");
  const kernel = await obtainKernel(options.spec, null, signal);
  const { path, origin } = await prepare(options, options.directory.caseDirectory("guest"), life);
  const heard: Heard = { results: [], problems: [], how: null };
  const vm = startKernelVm({
    kernel,
    qemu,
    directory: options.directory.caseDirectory("vm"),
    // See `KernelVmOptions`: a guest with interrupts runs inside.
    cpus: 1,
    program: {
      command: [process.execPath, builtPath("harness/src/bench/guest-fs-main.ts"), path],
      environment: insideEnvironment,
    },
    onMessage: (message) => hear(message as FromGuestFs, heard, progress),
  });
  const stopListening = onAbort(signal, () => void vm.kill());
  // The life of the guest, once more for the suites on the folder underneath.
  const limit = setTimeout(() => void vm.kill(), 2 * life + BOOT_MS * slownessOf(qemu.accelerator));
  const end = await vm.ended;
  clearTimeout(limit);
  stopListening();
  signal.throwIfAborted();
  if (heard.how === null) throw new KernelError(`${kernel.name}: ${end.message}`);
  const { errata } = JSON.parse(readFileSync(packagePath(ERRATA), "utf8")) as { errata: readonly Erratum[] };
  const { results } = heard;
  const comparisons = suiteComparisons(results, errata);
  return {
    kernel: kernel.origin,
    guestKernel: origin,
    accelerator: qemu.accelerator,
    windowMiB: options.windowMiB,
    fileBytes: fio?.fileBytes ?? null,
    rounds: fio?.rounds ?? 0,
    comparisons,
    skipped: results.flatMap((one) =>
      one.type === "suite" && one.place === "folder" && one.skipped !== null
        ? [{ suite: one.suite, reason: one.skipped }]
        : [],
    ),
    goneErrata: unmatched(comparisons, errata),
    rows: fioRows(results.flatMap((one) => (one.type === "fio" ? [one] : []))),
    messages: results.flatMap((one) => (one.type === "kernel" && one.place !== "folder" ? one.messages : [])),
    problems: [...heard.problems, ...problemsOf(results, heard.how)],
  };
}
