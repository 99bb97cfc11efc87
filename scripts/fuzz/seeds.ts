/**
 * The inputs that mutation begins from: the real files of the repository, and what small runs record. Read once by the
 * parent, made again by nobody: workers get it as a file, so that all of them begin from the same.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "jsonc-parser";

export type Seeds = {
  readonly scenarios: readonly unknown[];
  readonly kinds: readonly unknown[];
  readonly proposals: readonly unknown[];
  readonly errata: unknown;
  readonly documented: unknown;
  readonly observed: readonly unknown[];
  readonly traces: readonly { readonly lines: readonly string[] }[];
  /** Recorded runs: lines of JSON. */
  readonly records: readonly (readonly unknown[])[];
  readonly guards: readonly unknown[];
  readonly faults: readonly unknown[];
  readonly tokens: readonly string[];
  /** By command: its options, as the reference has them. */
  readonly commands: readonly CommandSeed[];
  readonly bundle: Readonly<Record<string, string>>;
};

export type CommandSeed = {
  /** `bench guards` */
  readonly name: string;
  readonly options: readonly { readonly name: string; readonly takesValue: boolean }[];
};

type Line = { readonly [member: string]: unknown };

function readJson(path: string): unknown {
  return parse(readFileSync(path, "utf8")) as unknown;
}

function folderOf(path: string): readonly unknown[] {
  return readdirSync(path)
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => readJson(join(path, name)));
}

type OptionSeed = CommandSeed["options"][number];

/** What the reference says of a command with commands of its own is their names. */
const usualOptions: readonly OptionSeed[] = ["--json", "--rounds"].map((name) => ({
  name,
  takesValue: true,
}));

/** The commands of docs/reference.md, which is generated from what the program says of itself. */
export function commandsOf(reference: string): readonly CommandSeed[] {
  const sections = reference.split(/^### daxfault /m).slice(1);
  return sections.flatMap((section) => {
    const name = section.split("\n")[0] ?? "";
    const options = [...section.matchAll(/^ {2}(?:-[a-z], )?(--[a-z-]+)( <)?/gm)].map(
      ([, option = "", value]) => ({ name: option, takesValue: value !== undefined }),
    );
    const below = [...section.matchAll(/^ {2}([a-z-]+) \[options\]/gm)].map(([, one = ""]) => ({
      name: `${name} ${one}`,
      options: usualOptions,
    }));
    return [{ name, options }, ...below];
  });
}

function linesOf(text: string): readonly Line[] {
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

/** Of a record that is rendered again and again. */
const TRACE_LINES = 12;
const SCORES = 8;

/** The lines with a few of the scorecard only: they are read for their shape, and counted again. */
function withFewScores(lines: readonly Line[]): readonly Line[] {
  let scores = 0;
  return lines.filter(({ type }) => {
    if (type === "score") scores += 1;
    return type !== "score" || scores <= SCORES;
  });
}

/**
 * A run as a booted kernel would have recorded it: the cases of a model's run, said to be of `kvm`, with tracepoints of
 * fixtures/traces. No real run is needed to have the reader's every branch in the seeds.
 */
function asKernelRun(lines: readonly Line[], trace: readonly string[]): readonly Line[] {
  const vm = {
    kernel: "6.12.117",
    origin: "linux-image-6.12.117 6.12.117-1",
    imageSha256: "0".repeat(64),
    imageRelease: "6.12.117",
    bootId: "a-boot",
    commandLine: "console=ttyS0",
    qemu: "QEMU emulator version 10.0",
    accelerator: "tcg",
    cpus: 2,
    memoryMiB: 1024,
  };
  const place = "kernel:debian:6.12";
  return lines.flatMap((line): readonly Line[] => {
    if (line.type === "score") return [];
    if (line.type === "summary") {
      return [
        { type: "console", name: place, lines: ["==== boot 1 of 1: a-boot ====", "[ 0.0] Linux"] },
        line,
      ];
    }
    if (line.type !== "case") return [line];
    const attestation = { ...(line.attestation as Line), engine: "kvm", kvmBackend: "kvm_amd", vm };
    const kvmTrace = {
      kind: "trace",
      events: ["kvm_page_fault"],
      lines: trace.slice(0, TRACE_LINES),
      cut: 0,
    };
    const exhaustiveness = { kind: "sampled", runs: 1, seed: null };
    const counters = { pf_taken: "0x10", pf_guest: "0x1" };
    return [
      {
        ...line,
        engine: place,
        machine: place,
        executor: "kvm",
        attestation,
        kvmTrace,
        exhaustiveness,
        counters,
        ends: [],
      },
    ];
  });
}

/** Words that a model never says of an access, and a Linux process does. */
const linuxWords = [
  "sigbus(SI_KERNEL)",
  "sigbus(si_code=77)",
  "sigsegv(SEGV_ACCERR)",
  "sigsegv(unobserved)",
  "errno(EIO)",
  "short(4)",
  "done",
];

/** The accesses of each actor as a Linux process could have seen them. */
function asLinuxRun(lines: readonly Line[]): readonly Line[] {
  let next = 0;
  const worded = (labels: Line): Line =>
    Object.fromEntries(Object.keys(labels).map((label) => [label, linuxWords[next++ % linuxWords.length]]));
  return lines.map((line) => {
    if (line.type !== "case") return line;
    const observations = line.observations as Line;
    const accesses = Object.fromEntries(
      Object.entries(observations.accesses as Readonly<Record<string, Line>>).map(([actor, labels]) => [
        actor,
        worded(labels),
      ]),
    );
    return { ...line, observations: { ...observations, accesses }, ends: [] };
  });
}

const QUANTILES = { p50: 10.5, p99: 100.25, max: 1000 };
const MEASURED = {
  ...QUANTILES,
  histogram: [
    { upToUs: 8, count: 3 },
    { upToUs: null, count: 1 },
  ],
};

/** Lines of `bench guards --json`, which only a machine with KVM writes. */
const guardLines: readonly Line[] = [
  ...["fuse-lease", "notify", "none"].map((guard) => ({
    type: "race",
    guard,
    guest: "one-vcpu",
    rounds: 1000,
    refusal: null,
    done: 1000,
    lost: guard === "none" ? 7 : 0,
    denied: 0,
    stuck: false,
    loads: 100_000,
    stores: 100_000,
    staleLoads: 0,
    zeroLoads: 12,
    sigbus: 0,
    changedAfterAcknowledgement: 0,
    dirtyAfterRegrow: 0,
    seconds: 12.5,
    windowUs: MEASURED,
    hostUs: guard === "none" ? null : MEASURED,
  })),
  {
    type: "guard-price",
    rounds: 500,
    rows: ["open", "truncate"].map((operation) => ({ ...QUANTILES, guard: "notify", operation })),
    refused: { sealed: "no memfd" },
    sealedCopyMs: QUANTILES,
  },
];

const faultRules: readonly Line[] = [
  { operation: "read", at: 3_145_728, after: 0, times: null, action: { kind: "delay", ms: 200 } },
  { operation: "write", action: { kind: "fail", errno: "EIO" } },
  { operation: "read", times: 2, action: { kind: "short", bytes: 512 } },
  { operation: "getattr", action: { kind: "truncate", sizeBytes: 0 } },
];

/** @param folder where the small runs write; @param daxfault the program */
export function collectSeeds(root: string, folder: string, daxfault: string): Seeds {
  const run = (args: readonly string[]): void => {
    try {
      execFileSync(process.execPath, [daxfault, ...args], { cwd: folder, stdio: "ignore", timeout: 120_000 });
    } catch (error) {
      // 1 and 2 are results.
      const { status } = error as { readonly status?: number | null };
      if (status !== 1 && status !== 2) throw error;
    }
  };
  mkdirSync(folder, { recursive: true });
  const model = ["--engine", "model", "--proposal", "native", "apf-loop", "efault-exit"];
  run(["run", "load-after-truncate", ...model, "--json", "small.jsonl"]);
  run(["run", "nmi-before-reading-*", "load-of-slow-page-beside-counter", ...model, "--json", "more.jsonl"]);
  run(["repro", "load-after-truncate", "--engine", "model", "--proposal", "apf-loop", "--out", "bundle"]);
  run(["explore", "apf-loop", "--scenario", "load-after-truncate", "--json", "ends.jsonl"]);
  run(["list", "proposals", "--json", "proposals.jsonl"]);
  const small = linesOf(readFileSync(join(folder, "small.jsonl"), "utf8"));
  const more = linesOf(readFileSync(join(folder, "more.jsonl"), "utf8"));
  const fixtures = (name: string): string => join(root, "fixtures", name);
  const traces = folderOf(fixtures("traces")).flatMap(
    (file) => (file as { readonly traces: readonly { readonly lines: readonly string[] }[] }).traces,
  );
  const proposals = linesOf(readFileSync(join(folder, "proposals.jsonl"), "utf8")).map(
    ({ id, title, kvm, exits, vmm, guest, server, lapic }) => ({
      id: `my-${String(id)}`.slice(0, 32),
      title,
      kvm,
      exits,
      vmm,
      guest,
      server,
      lapic,
    }),
  );
  const bundle = join(folder, "bundle");
  return {
    scenarios: [...folderOf(fixtures("scenarios")), ...folderOf(fixtures("guards"))],
    kinds: folderOf(fixtures("kinds")),
    proposals,
    errata: readJson(fixtures("errata.json")),
    documented: readJson(fixtures("documented.json")),
    observed: folderOf(fixtures("observed")).map((file) => {
      const { cases, ...rest } = file as { readonly cases: readonly unknown[] };
      return { ...rest, cases: cases.slice(0, 12) };
    }),
    traces: traces.slice(0, 40).map(({ lines }) => ({ lines })),
    records: [
      withFewScores(small),
      asKernelRun(small, traces[0]?.lines ?? []),
      asLinuxRun(withFewScores(small)),
      more.slice(0, 24),
    ],
    guards: guardLines,
    faults: faultRules,
    tokens: linesOf(readFileSync(join(folder, "ends.jsonl"), "utf8")).flatMap(({ replay }) =>
      typeof replay === "string" ? (/--replay (\S+)/.exec(replay)?.[1] ?? []) : [],
    ),
    commands: commandsOf(readFileSync(join(root, "docs/reference.md"), "utf8")),
    bundle: Object.fromEntries(
      readdirSync(bundle).map((name) => [name, readFileSync(join(bundle, name), "utf8")]),
    ),
  };
}
