/** The lines of `run --json`, as read: one type a line, `type` first. `jsonl.ts` has their schema and writes them. */
import type {
  Attestation,
  Bystander,
  Counts,
  EndFacts,
  EngineName,
  EventKind,
  Exhaustiveness,
  GuestKernel,
  InconclusiveCause,
  KvmTrace,
  MachineName,
  RunResult,
  ScoreCell,
  VerdictKind,
} from "../../../language/src/index.ts";
import type { RunInfo } from "../run/observer.ts";

/** `placeName` of a case: `kvm`, `kernel:SPEC`. */
type PlaceName = string;

/** A machine that was booted. */
export type EngineRecord = {
  readonly name: PlaceName;
  /** null: it did not come up; its cases have the reason. */
  readonly attestation: Attestation | null;
  readonly openedMs: number;
};

/** The console of a booted kernel, in a run in which a result on it was unexpected or inconclusive. */
export type ConsoleRecord = {
  readonly name: PlaceName;
  /** Boot by boot: `==== boot N of M: ID ====`, `... N lines left out ...` where there was more, the end of its output. */
  readonly lines: readonly string[];
};

export type ScenarioRecord = {
  readonly id: string;
  readonly hash: string;
  /** The scenario as its file would write it, expanded. */
  readonly source: Readonly<Record<string, unknown>>;
};

export type ProposalRecord = {
  readonly id: string;
  readonly title: string;
  readonly kvm: string;
  readonly exits?: string | undefined;
  readonly vmm: string;
  readonly guest: string;
  readonly server: string;
  readonly lapic: "user" | "kernel" | null;
};

/** "0x..", 64 bits. */
type HexText = string;
type Texts = Readonly<Record<string, string>>;

export type PlaceRecord = {
  readonly rip: HexText;
  readonly cpl: number;
  readonly gva: HexText;
  readonly gpa: HexText | null;
  readonly hva: HexText | null;
};

export type VmmRecord = {
  readonly state: string;
  readonly faultsPerSecond: number | null;
  readonly at: PlaceRecord | null;
};

export type ObservationsRecord = {
  readonly accesses: Readonly<Record<string, Texts>>;
  readonly host: Readonly<Record<string, Texts>>;
  readonly vmm: readonly VmmRecord[] | null;
  readonly guestKernel: GuestKernel | null;
  readonly bystanders: Readonly<Record<string, Bystander>>;
};

/** One of the ways in which a model lets a case end; the first is that of the record itself. */
export type EndRecord = {
  readonly observations: ObservationsRecord;
  readonly facts: EndFacts;
  /** A shortest way to it, as `daxfault explore --replay` takes it. */
  readonly token: string;
};

export type CaseRecord = {
  readonly scenario: string;
  readonly scenarioHash: string;
  readonly proposal: string;
  readonly engine: PlaceName;
  /** Left out by versions that had engines `kernel:SPEC` in place of machines; so is `executor`. */
  readonly machine?: MachineName | undefined;
  /** The engine that executes the case on its machine. */
  readonly executor?: EngineName | undefined;
  readonly verdict: {
    readonly kind: VerdictKind;
    readonly cause?: InconclusiveCause | undefined;
    readonly reason: string;
    /** Of an xpass: the erratum that is in force and was not seen. */
    readonly erratum?: string | undefined;
  };
  readonly expectation: {
    readonly rule: string;
    readonly outcome: {
      readonly vmm?: readonly string[] | undefined;
      readonly accesses: Texts;
      readonly host: Texts;
      readonly bystanders: Texts;
      readonly events: Readonly<Partial<Record<EventKind, "seen" | "none">>>;
    };
    readonly better: readonly string[];
    readonly defect: { readonly id: string; readonly text: string; readonly source: string } | null;
  } | null;
  /** Why there is no evidence although the case ran. */
  readonly failure: {
    readonly kind: Exclude<RunResult["kind"], "evidence">;
    readonly message: string;
  } | null;
  /** For a skipped case: what would mend it. */
  readonly fix: string | null;
  readonly outcomes: readonly {
    readonly text: string;
    readonly verdict: VerdictKind;
    readonly count: number;
  }[];
  readonly attestation: Attestation | null;
  readonly exhaustiveness: Exhaustiveness | null;
  readonly observations: ObservationsRecord | null;
  /** Of a model's case: every way to end. Left out by versions whose model cases had one. */
  readonly ends?: readonly EndRecord[] | undefined;
  readonly events: Readonly<Partial<Record<EventKind, number>>>;
  readonly counters: Readonly<Record<string, HexText>>;
  /** By actor, then by step label: milliseconds until the access had come back, or its failure was reported to its task. */
  readonly accessMs: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly trace: readonly {
    readonly kind: EventKind;
    readonly actor: string;
    readonly atMs: number;
    readonly gpa: HexText | null;
    readonly detail: string;
  }[];
  /** KVM's own tracepoints, of a kernel that was booted for the run. */
  readonly kvmTrace: KvmTrace | null;
  /** Of a Linux guest. */
  readonly guestConsole?: readonly string[] | undefined;
  readonly durationMs: number;
  /** As the engine measured the run that the evidence is of. */
  readonly engineMs: number | null;
  /** What names the scenario on the command line: its id, or a file. */
  readonly argument: string;
  /** What names engine and machine there; null: `--engine NAME`. */
  readonly engineOption: string | null;
  readonly replay: string;
};

export type ScoreRecord = ScoreCell;

export type SummaryRecord = {
  readonly counts: Counts;
  readonly exitCode: number;
  readonly interrupted: boolean;
  readonly defects: readonly string[];
  readonly durationMs: number;
};

/** A case as `run --list` has it. */
export type PlannedRecord = {
  readonly scenario: string;
  readonly proposal: string;
  readonly engine: PlaceName;
  readonly machine?: MachineName | undefined;
  readonly executor?: EngineName | undefined;
  /** null: it would run. */
  readonly skip: string | null;
};

export type RecordLine =
  | ({ readonly type: "run" } & RunInfo)
  | ({ readonly type: "engine" } & EngineRecord)
  | ({ readonly type: "console" } & ConsoleRecord)
  | ({ readonly type: "scenario" } & ScenarioRecord)
  | ({ readonly type: "proposal" } & ProposalRecord)
  | ({ readonly type: "case" } & CaseRecord)
  | ({ readonly type: "score" } & ScoreRecord)
  | ({ readonly type: "summary" } & SummaryRecord)
  | ({ readonly type: "planned" } & PlannedRecord);
