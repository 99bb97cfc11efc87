/**
 * The lines that commands write with `--json`, by command: their types, and the schema that `daxfault schema` publishes.
 * Those of `run`, `report` and `repro` are in `report/jsonl.ts`, those of `bench guards` in `guards/records.ts`. A `type` is unique within a command, not among them.
 * The compiler checks that a schema gives its type, a test that each command writes what its schema says.
 * Commands import types from here and no more: zod takes its time to load.
 */
import { z } from "zod";
import { type BenchResult, type Figure, ROWS, type RowName } from "../../../fs-server/src/index.ts";
import type { Claim, ClaimVerdict, ExploreBench } from "../../../kvm-model/src/index.ts";
import {
  backingKinds,
  type Exhaustiveness,
  exitParts,
  guestParts,
  type Holds,
  holdsWords,
  type KvmPart,
  kvmParts,
  lapicPlaces,
  layouts,
  type Needs,
  type OutcomeWords,
  type PatchFacts,
  type Proposal,
  type Scenario,
  serverParts,
  vmmParts,
} from "../../../language/src/index.ts";
import type { ExitBenchRow } from "../../../vmm/src/index.ts";
import type { ApfResult } from "../bench/apf.ts";
import type { FenceResult, FenceRow, Spread } from "../bench/fence.ts";
import type { GuestFsResult } from "../bench/guest-fs.ts";
import type { VirtiofsdResult } from "../bench/virtiofsd.ts";
import { rowNames as virtiofsdRowNames } from "../bench/virtiofsd-turns.ts";
import type { DivergenceRow } from "../compare/divergence.ts";
import type { PageWorker } from "../diagnose/facts.ts";
import type { Verdict } from "../diagnose/verdict.ts";
import type { LogFailure, LogVerdict } from "../diagnose/vmm-log.ts";
import type { Support } from "../engine.ts";
import type { Cell as GuardCell, ModelsWord } from "../guards/matrix.ts";
import { guardRecordSchema } from "../guards/records.ts";
import type { CachedFolder } from "../kernel/contents.ts";
import type { ProposedKernel } from "../kernel/patches.ts";
import type { Feature, MachineFacts } from "../machine.ts";
import type { Attempt } from "../protect/messages.ts";
import type { ProtectLine } from "../protect/news.ts";
import { type ProtectPrice, priceColumns, priceOperations } from "../protect/price-rows.ts";
import { exhaustivenessShape, recordSchema } from "../report/jsonl.ts";
import type { Done } from "../rescue/act.ts";
import type { RescueKind } from "../rescue/plan.ts";

/** The commands whose lines have a schema of their own; also for `--help`, which does not load this module. */
export type SchemaName =
  | "run"
  | "explore"
  | "compare"
  | "bench"
  | "doctor"
  | "kernels"
  | "list"
  | "guards"
  | "diagnose"
  | "protect"
  | "rescue";

const count = z.number().int().min(0);
const texts = z.array(z.string());
const hash = z.string().regex(/^[0-9a-f]{12}$/);

export type ListLine =
  | ({ readonly type: "scenario"; readonly backing: Scenario["backing"]["kind"] } & Pick<
      Scenario,
      "id" | "purpose" | "hash" | "layout" | "properties" | "proposals"
    >)
  | ({
      readonly type: "proposal";
      /** The row that it is a variant of. */
      readonly variantOf: string | null;
      readonly needs: Needs;
      /** `needs` in one line. */
      readonly needsText: string;
    } & Proposal)
  | {
      readonly type: "engine";
      readonly id: string;
      readonly text: string;
      /** false: a model. */
      readonly real: boolean;
      /** On this machine. */
      readonly available: Support;
    }
  | { readonly type: "property"; readonly id: string; readonly title: string; readonly decided: boolean };

const listLine: z.ZodType<ListLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("scenario"),
    id: z.string(),
    purpose: z.string(),
    hash,
    layout: z.enum(layouts),
    backing: z.enum(backingKinds),
    properties: texts,
    proposals: texts.nullable(),
  }),
  z.strictObject({
    type: z.literal("proposal"),
    id: z.string(),
    title: z.string(),
    kvm: z.enum(["none", ...kvmParts]),
    exits: z.enum(["none", ...exitParts]),
    vmm: z.enum(["none", ...vmmParts]),
    guest: z.enum(["none", ...guestParts]),
    server: z.enum(serverParts),
    lapic: z.enum(lapicPlaces).nullable(),
    variantOf: z.string().nullable(),
    needs: z.strictObject({
      apic: z.enum(lapicPlaces).nullable(),
      asyncPageFaults: z.enum(["off", "on", "send-always"]).nullable(),
      guestUnderstands: z.string().nullable(),
      kernel: z.discriminatedUnion("kind", [
        z.strictObject({ kind: z.literal("stock"), since: z.string().nullable() }),
        z.strictObject({ kind: z.literal("older"), than: z.string() }),
        z.strictObject({ kind: z.literal("patched"), patch: z.string() }),
      ]),
      vmm: texts,
      server: z.string().nullable(),
    }),
    needsText: z.string(),
  }),
  z.strictObject({
    type: z.literal("engine"),
    id: z.string(),
    text: z.string(),
    real: z.boolean(),
    available: z.discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("yes") }),
      z.strictObject({ kind: z.literal("no"), reason: z.string(), fix: z.string().nullable() }),
    ]),
  }),
  z.strictObject({ type: z.literal("property"), id: z.string(), title: z.string(), decided: z.boolean() }),
]);

export type DoctorLine =
  | ({ readonly type: "machine" } & Omit<MachineFacts, "features">)
  | ({
      readonly type: "feature";
      readonly name: string;
      /** `engines`, or the heading under which doctor prints it. */
      readonly group: string;
      readonly purpose: string;
    } & Feature)
  | {
      readonly type: "engine";
      readonly engine: string;
      readonly runs: "yes" | "partly" | "no";
      /** Names of features. */
      readonly missing: readonly string[];
    };

const feature = { type: z.literal("feature"), name: z.string(), group: z.string(), purpose: z.string() };
const doctorLine: z.ZodType<DoctorLine> = z.union([
  z.strictObject({
    type: z.literal("machine"),
    kernel: z.string(),
    node: z.string(),
    pageSize: z.number(),
    kvmBackend: z.string().nullable(),
    kvmParameters: z.record(z.string(), z.string()),
    runDirectory: z.strictObject({ path: z.string(), fileSystem: z.string() }),
  }),
  z.strictObject({ ...feature, kind: z.literal("present"), detail: z.string() }),
  z.strictObject({ ...feature, kind: z.literal("missing"), reason: z.string(), fix: z.string().nullable() }),
  z.strictObject({
    type: z.literal("engine"),
    engine: z.string(),
    runs: z.enum(["yes", "partly", "no"]),
    missing: texts,
  }),
]);

export type ExploreLine =
  /** Without --scenario. */
  | {
      readonly type: "property";
      readonly proposal: string;
      /** The scenario that decides against it, or all that decide. */
      readonly scenario: string;
      readonly property: string;
      readonly holds: Holds;
      readonly exhaustiveness: Exhaustiveness;
      readonly states: number;
      /** The outcome that speaks against it. */
      readonly because: string | null;
      readonly replay: string | null;
    }
  /** With --claims. */
  | ({
      readonly type: "claim";
      readonly exhaustiveness: Exhaustiveness;
    } & Pick<Claim, "id" | "kind" | "says"> &
      Pick<ClaimVerdict, "verdict" | "tokens">)
  /** With --scenario: one for each way in which it can end. */
  | {
      readonly type: "end";
      readonly proposal: string;
      readonly scenario: string;
      readonly words: OutcomeWords;
      readonly states: number;
      readonly boundedBy: string | null;
      readonly replay: string;
    };

const exploreLine: z.ZodType<ExploreLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("property"),
    proposal: z.string(),
    scenario: z.string(),
    property: z.string(),
    holds: z.enum(holdsWords),
    exhaustiveness: exhaustivenessShape,
    states: count,
    because: z.string().nullable(),
    replay: z.string().nullable(),
  }),
  z.strictObject({
    type: z.literal("claim"),
    id: z.string(),
    kind: z.enum(["talk", "disputed", "inferred"]),
    says: z.string(),
    verdict: z.enum(["confirmed", "refuted", "open"]),
    exhaustiveness: exhaustivenessShape,
    tokens: z.record(z.string(), z.string()),
  }),
  z.strictObject({
    type: z.literal("end"),
    proposal: z.string(),
    scenario: z.string(),
    words: z.strictObject({
      steps: z.record(z.string(), z.string()),
      bystanders: z.record(z.string(), z.string()),
      vmm: z.string().nullable(),
      guestKernel: z.string().nullable(),
    }),
    states: count,
    boundedBy: z.string().nullable(),
    replay: z.string(),
  }),
]);

export type CompareLine =
  | {
      readonly type: "difference";
      /** `positive`: seen and not allowed, or two runs differ. `negative`: allowed and not seen. */
      readonly sign: "positive" | "negative";
      readonly scenario: string;
      readonly proposal: string;
      readonly engine: string;
      /** null: this was not seen. */
      readonly observed: string | null;
      /** All ends that the model allows; the one that was not seen; what the other run saw. */
      readonly allowed: readonly string[];
      readonly boundedBy: string | null;
      /** Where it first differs from the nearest end. */
      readonly first: DivergenceRow | null;
      readonly replay: string | null;
    }
  /** A kernel's tracepoints come in an order that the model does not have. */
  | {
      readonly type: "order";
      readonly scenario: string;
      readonly proposal: string;
      readonly engine: string;
      /** The first line of the trace that no path of the model has. */
      readonly line: string | null;
      /** Its text, in the words that model and kernel share. */
      readonly observed: string;
      /** The model's next lines after the same beginning. */
      readonly instead: readonly string[];
      readonly replay: string | null;
    }
  /** The last line, where one side is the model. */
  | {
      readonly type: "comparison";
      readonly same: number;
      /** Recorded cases of the model itself: no observations. */
      readonly own: number;
      readonly positive: number;
      readonly bounded: number;
      readonly unsupported: number;
      readonly negative: number;
      readonly onlyModel: number;
      readonly goneErrata: readonly string[];
      readonly ordersFollowed: number;
      readonly ordersDifferent: number;
    };

const compareLine: z.ZodType<CompareLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("difference"),
    sign: z.enum(["positive", "negative"]),
    scenario: z.string(),
    proposal: z.string(),
    engine: z.string(),
    observed: z.string().nullable(),
    allowed: texts,
    boundedBy: z.string().nullable(),
    first: z.strictObject({ what: z.string(), observed: z.string(), allowed: z.string() }).nullable(),
    replay: z.string().nullable(),
  }),
  z.strictObject({
    type: z.literal("order"),
    scenario: z.string(),
    proposal: z.string(),
    engine: z.string(),
    line: z.string().nullable(),
    observed: z.string(),
    instead: texts,
    replay: z.string().nullable(),
  }),
  z.strictObject({
    type: z.literal("comparison"),
    same: count,
    own: count,
    positive: count,
    bounded: count,
    unsupported: count,
    negative: count,
    onlyModel: count,
    goneErrata: texts,
    ordersFollowed: count,
    ordersDifferent: count,
  }),
]);

type CachedLine = Omit<CachedFolder, "isInUse"> & {
  readonly type: "cached" | "removed" | "kept";
  readonly inUse: boolean;
};

export type KernelsLine =
  | {
      readonly type: "kernel";
      readonly release: string;
      readonly version: string;
      readonly suite: string;
      /** What `--kernel` takes for it; that of a suite is of its newest kernel. */
      readonly specs: readonly string[];
      readonly sizeBytes: number;
      readonly cached: boolean;
    }
  /** What stands behind the + of a SPEC. */
  | ({ readonly type: "patch" } & ProposedKernel)
  | CachedLine
  /** Of `kernels build`. */
  | {
      readonly type: "built";
      readonly spec: string;
      readonly kvm: KvmPart;
      readonly imagePath: string;
      readonly release: string | null;
      readonly origin: string;
      readonly patches: readonly PatchFacts[];
      /** Paths, in the order of loading. */
      readonly modules: readonly string[];
      readonly command: string;
    };

const patchFacts = z.array(z.strictObject({ name: z.string(), sha256: z.string() }));

const kernelsLine: z.ZodType<KernelsLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("kernel"),
    release: z.string(),
    version: z.string(),
    suite: z.string(),
    specs: texts,
    sizeBytes: count,
    cached: z.boolean(),
  }),
  z.strictObject({
    type: z.literal("patch"),
    name: z.string(),
    kvm: z.enum(kvmParts),
    about: z.string(),
    patches: texts,
  }),
  z.strictObject({
    type: z.enum(["cached", "removed", "kept"]),
    path: z.string(),
    kind: z.enum(["package", "built", "base", "program", "unfinished", "index", "log"]),
    release: z.string().nullable(),
    origin: z.string().nullable(),
    patches: patchFacts,
    sizeBytes: count,
    inUse: z.boolean(),
  }),
  z.strictObject({
    type: z.literal("built"),
    spec: z.string(),
    kvm: z.enum(kvmParts),
    imagePath: z.string(),
    release: z.string().nullable(),
    origin: z.string(),
    patches: patchFacts,
    modules: texts,
    command: z.string(),
  }),
]);

export type GuardsLine = {
  readonly type: "guard";
  /** How the file is made shorter, and what the guest does meanwhile. */
  readonly way: string;
  readonly state: string;
  readonly scenarioHash: string;
  readonly proposal: string;
  readonly cell: GuardCell;
  readonly model: ModelsWord;
  /** Why there is no cell: the engine's words. */
  readonly failure: string | null;
};

const guardsLine: z.ZodType<GuardsLine> = z.strictObject({
  type: z.literal("guard"),
  way: z.string(),
  state: z.string(),
  scenarioHash: hash,
  proposal: z.string(),
  cell: z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("prevented"), hostMs: z.number() }),
    z.strictObject({ kind: z.literal("late"), toldAfterMs: z.number() }),
    z.strictObject({ kind: z.literal("missed"), vmm: z.string(), refused: z.boolean() }),
    z.strictObject({ kind: z.literal("denied"), errno: z.string() }),
    z.strictObject({ kind: z.literal("untouched"), hostMs: z.number(), recalled: z.boolean() }),
    z.strictObject({ kind: z.literal("not-for"), reason: z.string() }),
  ]),
  model: z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("allowed") }),
    z.strictObject({ kind: z.literal("not-allowed"), observed: z.string(), allowed: texts }),
    z.strictObject({ kind: z.literal("no-answer"), reason: z.string() }),
  ]),
  failure: z.string().nullable(),
});

/** Addresses are hexadecimal texts; what could not be seen is null. */
export type DiagnoseLine =
  | {
      readonly type: "machine";
      readonly kernel: string;
      readonly tookMs: number;
      readonly unseen: readonly string[];
      /** Workers of KVM's that wait for a page of some VM. */
      readonly pageWorkers: readonly PageWorker[];
    }
  | {
      readonly type: "vm";
      readonly pid: number;
      readonly name: string | null;
      readonly process: string;
      readonly program: string | null;
      readonly verdict: Verdict;
      readonly vcpus: readonly {
        readonly id: number | null;
        readonly tid: number;
        readonly thread: string;
        readonly does: string;
        /** The same in words. */
        readonly text: string;
        /** Of the page that it loops at or waits for. */
        readonly gpa: string | null;
        readonly hva: string | null;
        readonly file: string | null;
        readonly offset: number | null;
        /** The kernel's functions, innermost first. */
        readonly stack: readonly string[] | null;
      }[];
      readonly files: readonly {
        readonly path: string;
        readonly deleted: boolean;
        readonly device: string;
        readonly inode: string;
        readonly sizeBytes: number | null;
        readonly sizeReason: string | null;
        readonly mappedBytes: number;
        readonly behindEndBytes: number | null;
        readonly mappings: readonly {
          readonly hva: string;
          readonly bytes: number;
          readonly offset: number;
          readonly access: string;
        }[];
        readonly fileSystem: {
          readonly type: string;
          readonly source: string;
          readonly mountPoint: string | null;
          /** null: it has none. */
          readonly server: "lives" | "stopped" | "dead" | "unknown" | null;
        } | null;
      }[];
      /** What KVM's counters grew by, over all vCPUs. */
      readonly counters: Readonly<Record<string, number>>;
      readonly watchedMs: number;
      readonly unseen: readonly string[];
    }
  /** Of --log. */
  | ({ readonly type: "log"; readonly verdict: LogVerdict } & LogFailure);

const nullableText = z.string().nullable();
const verdictSchema: z.ZodType<Verdict> = z.strictObject({
  kind: z.enum([
    "endless-loop",
    "fails-with-efault",
    "waits-for-io",
    "process-stopped",
    "stopped-by-vmm",
    "runs",
    "halted",
    "gone",
    "unknown",
  ]),
  severity: z.enum(["fine", "open", "hung"]),
  text: z.string(),
  remedies: z.array(z.strictObject({ what: z.string(), command: nullableText, price: z.string() })),
  warnings: texts,
});
const diagnoseVmLine = z.strictObject({
  type: z.literal("vm"),
  pid: count,
  name: nullableText,
  process: z.string(),
  program: nullableText,
  verdict: verdictSchema,
  vcpus: z.array(
    z.strictObject({
      id: count.nullable(),
      tid: count,
      thread: z.string(),
      does: z.string(),
      text: z.string(),
      gpa: nullableText,
      hva: nullableText,
      file: nullableText,
      offset: z.number().nullable(),
      stack: texts.nullable(),
    }),
  ),
  files: z.array(
    z.strictObject({
      path: z.string(),
      deleted: z.boolean(),
      device: z.string(),
      inode: z.string(),
      sizeBytes: z.number().nullable(),
      sizeReason: nullableText,
      mappedBytes: z.number(),
      behindEndBytes: z.number().nullable(),
      mappings: z.array(
        z.strictObject({ hva: z.string(), bytes: z.number(), offset: z.number(), access: z.string() }),
      ),
      fileSystem: z
        .strictObject({
          type: z.string(),
          source: z.string(),
          mountPoint: nullableText,
          server: z.enum(["lives", "stopped", "dead", "unknown"]).nullable(),
        })
        .nullable(),
    }),
  ),
  counters: z.record(z.string(), z.number()),
  watchedMs: z.number(),
  unseen: texts,
});
const diagnoseLine: z.ZodType<DiagnoseLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("machine"),
    kernel: z.string(),
    tookMs: z.number(),
    unseen: texts,
    pageWorkers: z.array(z.strictObject({ tid: count, stack: texts, sleptMs: z.number().nullable() })),
  }),
  diagnoseVmLine,
  z.strictObject({
    type: z.literal("log"),
    line: count,
    message: z.string(),
    error: nullableText,
    registers: z.record(z.string(), z.string()),
    code: nullableText,
    verdict: z.strictObject({
      kind: z.enum(["killed-by-efault", "failed", "internal-error"]),
      text: z.string(),
      remedy: z.string(),
    }),
  }),
]);

const bytesInDecimal = z.string().regex(/^[0-9]+$/);
const attempt: z.ZodType<Attempt> = z.strictObject({
  who: z.strictObject({ tid: count, pid: count.nullable(), name: z.string(), uid: count.nullable() }),
  what: z.string(),
  fromBytes: bytesInDecimal,
  sizeBytes: bytesInDecimal,
});
const at = z.string();
const protectLine: z.ZodType<ProtectLine> = z.discriminatedUnion("type", [
  z.strictObject({
    at,
    type: z.literal("file"),
    path: z.string(),
    pids: z.array(count),
    means: z.enum(["refused", "sealed", "noticed", "nothing"]),
    reason: nullableText,
    sizeBytes: count.nullable(),
    mappedBytes: count,
    behindEndBytes: count.nullable(),
  }),
  z.strictObject({ at, type: z.literal("folder"), path: z.string(), folders: count, refused: count }),
  z.strictObject({ at, type: z.literal("folders-cut"), path: z.string(), max: count }),
  z.strictObject({ at, type: z.literal("ready"), files: count, refused: count }),
  z.strictObject({ at, type: z.literal("refused"), path: z.string(), attempt }),
  z.strictObject({ at, type: z.literal("passed"), path: z.string(), attempt }),
  z.strictObject({ at, type: z.literal("overdue"), attempt }),
  z.strictObject({ at, type: z.literal("shorter"), path: z.string(), fromBytes: count, toBytes: count }),
  z.strictObject({ at, type: z.literal("gap"), why: z.string() }),
  z.strictObject({ at, type: z.literal("gap-over"), ms: z.number() }),
  z.strictObject({ at, type: z.literal("unseen"), pid: count, why: z.string() }),
  z.strictObject({ at, type: z.literal("process-ended"), pid: count }),
  z.strictObject({ at, type: z.literal("left-out"), count }),
]);

/** `rescue`: a plan; what was done, where it was named; what the VM did afterwards. */
export type RescueLine =
  | {
      readonly type: "plan";
      readonly pid: number;
      readonly verdict: Verdict;
      readonly steps: readonly {
        readonly option: string;
        readonly kind: RescueKind;
        readonly what: string;
        readonly price: string;
      }[];
      readonly hints: readonly string[];
    }
  | ({ readonly type: "done"; readonly pid: number } & {
      readonly result: Done["kind"];
      readonly text: string;
    })
  | {
      readonly type: "after";
      readonly pid: number;
      readonly goesOn: boolean;
      /** From the end of the step to the end of the look that shows it. */
      readonly afterMs: number;
      readonly verdict: Verdict | null;
    };
const rescueLine: z.ZodType<RescueLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("plan"),
    pid: count,
    verdict: verdictSchema,
    steps: z.array(
      z.strictObject({
        option: z.string(),
        kind: z.enum(["grow", "continue", "stop"]),
        what: z.string(),
        price: z.string(),
      }),
    ),
    hints: texts,
  }),
  z.strictObject({
    type: z.literal("done"),
    pid: count,
    result: z.enum(["done", "nothing", "failed"]),
    text: z.string(),
  }),
  z.strictObject({
    type: z.literal("after"),
    pid: count,
    goesOn: z.boolean(),
    afterMs: z.number(),
    verdict: verdictSchema.nullable(),
  }),
]);

/** Rates and times of `bench kvm` are cycles a second; `ratio`: ours divided by that of the loop in C. */
export type BenchKvmLine = {
  readonly type: "bench";
  readonly name: "kvm";
  readonly cycle: ExitBenchRow["cycle"];
  readonly perSecond: number;
  readonly peerPerSecond: number | null;
  readonly ratio: number | null;
  readonly turns: Pick<ExitBenchRow, "ours" | "peer">;
};

export type BenchExploreLine = {
  readonly type: "bench";
  readonly name: "explore";
  /** The protocol that SPIN explores too. */
  readonly small: ExploreBench;
  /** The largest case of the model. */
  readonly full: {
    readonly case: string;
    readonly peakRssBytes: number;
    readonly states: number;
    readonly statesPerSecond: number;
    readonly stateBytes: number;
    readonly overheadBytesPerState: number;
  };
};

export type BenchFsLine = { readonly type: "bench"; readonly name: "fs" } & BenchResult;
export type BenchApfLine = {
  readonly type: "bench";
  readonly name: "apf";
  /** Measurements of others; the numbers are the gain, as a share. */
  readonly published: { readonly source: string; readonly halt: number; readonly paravirtual: number };
} & ApfResult;
export type BenchGuestFsLine = { readonly type: "bench"; readonly name: "guest-fs" } & GuestFsResult;
export type BenchVirtiofsdLine = { readonly type: "bench"; readonly name: "virtiofsd" } & VirtiofsdResult;
export type BenchProtectLine = { readonly type: "bench"; readonly name: "protect" } & ProtectPrice;
export type BenchFenceLine = { readonly type: "bench"; readonly name: "fence" } & FenceResult;

const rate = z.number();
const bench = z.literal("bench");

const benchKvmLine: z.ZodType<BenchKvmLine> = z.strictObject({
  type: bench,
  name: z.literal("kvm"),
  cycle: z.enum(["port", "fault", "fault-ioctl"]),
  perSecond: rate,
  peerPerSecond: rate.nullable(),
  ratio: z.number().nullable(),
  turns: z.strictObject({ ours: z.array(rate), peer: z.array(rate).nullable() }),
});

const exploreSpeed = { states: count, statesPerSecond: rate, stateBytes: count, overheadBytesPerState: rate };
const benchExploreLine: z.ZodType<BenchExploreLine> = z.strictObject({
  type: bench,
  name: z.literal("explore"),
  small: z.strictObject({
    protocol: z.strictObject({
      pages: count,
      tasks: count,
      steps: count,
      hops: count,
      fix: z.union([z.literal(0), z.literal(1)]),
    }),
    transitions: count,
    peakRssBytes: count,
    ...exploreSpeed,
    spin: z.discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("ran"), states: count, statesPerSecond: rate, ratio: z.number() }),
      z.strictObject({ kind: z.literal("missing"), reason: z.string() }),
    ]),
  }),
  full: z.strictObject({ case: z.string(), peakRssBytes: count, ...exploreSpeed }),
});

const rowNames = Object.keys(ROWS) as RowName[];
const figure: z.ZodType<Figure> = z.strictObject({ median: z.number(), ratio: z.number().nullable() });
const benchFsLine: z.ZodType<BenchFsLine> = z.strictObject({
  type: bench,
  name: z.literal("fs"),
  sourceType: z.string(),
  repetitions: count,
  contenders: z.array(z.strictObject({ name: z.string(), against: z.string().nullable() })),
  absent: z.array(z.strictObject({ name: z.string(), reason: z.string() })),
  placements: z.array(
    z.strictObject({
      placement: z.enum(["apart", "together"]),
      figures: z.record(z.string(), z.partialRecord(z.enum(rowNames), figure)),
      peakRssBytes: z.record(z.string(), count),
      copied: z.record(z.string(), z.strictObject({ large: z.number(), small: z.number() })),
    }),
  ),
});

const benchApfLine: z.ZodType<BenchApfLine> = z.strictObject({
  type: bench,
  name: z.literal("apf"),
  delayMs: z.number(),
  rounds: count,
  pages: count,
  aloneWorkPerSecond: rate,
  rows: z.array(
    z.strictObject({
      proposal: z.string(),
      what: z.string(),
      figures: z.strictObject({
        workPerSecond: rate,
        pagesPerSecond: rate,
        medianMs: z.number(),
        p99Ms: z.number(),
        notPresent: count,
      }),
    }),
  ),
  published: z.strictObject({ source: z.string(), halt: z.number(), paravirtual: z.number() }),
});

const spread: z.ZodType<Spread> = z.strictObject({ median: z.number(), p99: z.number(), max: z.number() });
const fenceRow: z.ZodType<FenceRow> = z.strictObject({
  vcpus: count,
  rounds: count,
  exitMs: spread,
  toldMs: spread,
  cpuMs: spread,
  losses: texts,
});
const benchFenceLine: z.ZodType<BenchFenceLine> = z.strictObject({
  type: bench,
  name: z.literal("fence"),
  rows: z.array(fenceRow),
  unfenced: z.strictObject({
    watchedMs: z.number(),
    isLooping: z.boolean(),
    wasTold: z.boolean(),
    faultsPerSecond: rate,
    processCpu: z.number(),
    machineCpu: z.number(),
  }),
});

const benchGuestFsLine: z.ZodType<BenchGuestFsLine> = z.strictObject({
  type: bench,
  name: z.literal("guest-fs"),
  kernel: z.string(),
  guestKernel: z.string(),
  accelerator: z.enum(["kvm", "tcg"]),
  windowMiB: count,
  fileBytes: count.nullable(),
  rounds: count,
  comparisons: z.array(
    z.strictObject({
      suite: z.string(),
      transport: z.string(),
      underneath: texts,
      known: z.array(z.strictObject({ complaint: z.string(), erratum: z.string() })),
      differences: texts,
    }),
  ),
  skipped: z.array(z.strictObject({ suite: z.string(), reason: z.string() })),
  goneErrata: texts,
  rows: z.array(
    z.strictObject({
      engine: z.enum(["psync", "mmap"]),
      pattern: z.enum(["read", "randread", "write", "randwrite"]),
      cache: z.enum(["cold", "again"]),
      dax: rate.nullable(),
      plain: rate.nullable(),
      ratio: z.number().nullable(),
    }),
  ),
  messages: texts,
  problems: texts,
});

const virtiofsdRatio = z.strictObject({ median: z.number(), lowest: z.number(), highest: z.number() });
const ofEachPlace = <T extends z.ZodType>(each: T) =>
  z.strictObject({ ours: each, virtiofsd: each, "ours-dax": each });
const benchVirtiofsdLine: z.ZodType<BenchVirtiofsdLine> = z.strictObject({
  type: bench,
  name: z.literal("virtiofsd"),
  peer: z.string(),
  qemu: z.string(),
  accelerator: z.enum(["kvm", "tcg"]),
  guestKernel: z.string(),
  fileBytes: count,
  files: count,
  operations: count,
  rounds: count,
  treeFiles: count,
  rows: z.array(
    z.strictObject({
      row: z.enum(virtiofsdRowNames),
      ours: rate,
      theirs: rate,
      dax: rate,
      ratio: virtiofsdRatio,
      daxRatio: virtiofsdRatio,
    }),
  ),
  peakRssBytes: ofEachPlace(count),
  memory: z
    .strictObject({
      guests: count,
      fileBytes: count,
      places: ofEachPlace(
        z.strictObject({ ramBytes: z.number(), mappedBytes: z.number(), serverBytes: count }),
      ),
    })
    .nullable(),
});

const benchProtectLine: z.ZodType<BenchProtectLine> = z.strictObject({
  type: bench,
  name: z.literal("protect"),
  rounds: count,
  rows: z.array(
    z.strictObject({
      operation: z.enum(priceOperations),
      column: z.enum(priceColumns),
      p50: z.number(),
      p99: z.number(),
      max: z.number(),
    }),
  ),
});

/** By command; `bench` is any of its parts. */
const lineSchemas: Readonly<Record<SchemaName, z.ZodType>> = {
  run: recordSchema,
  explore: exploreLine,
  compare: compareLine,
  bench: z.union([
    benchKvmLine,
    benchExploreLine,
    benchFsLine,
    benchApfLine,
    benchFenceLine,
    benchGuestFsLine,
    benchVirtiofsdLine,
    benchProtectLine,
    guardRecordSchema,
  ]),
  doctor: doctorLine,
  kernels: kernelsLine,
  list: listLine,
  guards: guardsLine,
  diagnose: diagnoseLine,
  protect: protectLine,
  rescue: rescueLine,
};

/** JSON Schema (2020-12) of the lines of one command; of all of them, by command in `$defs`, if none is named. */
export function lineSchema(name: SchemaName | null): object {
  if (name !== null)
    return { title: `A line of daxfault ${name} --json`, ...z.toJSONSchema(lineSchemas[name]) };
  const names = Object.keys(lineSchemas) as SchemaName[];
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "A line of daxfault COMMAND --json; report and repro write those of run",
    anyOf: names.map((one) => ({ $ref: `#/$defs/${one}` })),
    $defs: Object.fromEntries(
      names.map((one) => {
        const { $schema: _same, ...schema } = z.toJSONSchema(lineSchemas[one]);
        return [one, schema];
      }),
    ),
  };
}
