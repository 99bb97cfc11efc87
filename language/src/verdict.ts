/**
 * Verdicts, their counts and exit codes. A verdict says whether a case went as expected of this kernel and proposal,
 * not whether that is good: the properties decide that. Every count and exit code is taken by a total switch:
 * a new kind that is not counted does not compile.
 */

export const inconclusiveCauses = [
  /** A witness is missing, or nothing is expected: the run does not mean anything. */
  "vacuous",
  "bounded",
  "timeout",
  "wrong-engine",
  "engine-error",
  /** The machine was too busy with something else. */
  "busy",
  /** The emulator under the kernel did what no processor does. */
  "emulator-defect",
  "unstable",
] as const;
export type InconclusiveCause = (typeof inconclusiveCauses)[number];

export type Verdict =
  | { readonly kind: "pass"; readonly reason: string }
  | { readonly kind: "fail"; readonly reason: string }
  /** Deviates as a known erratum states. */
  | { readonly kind: "xfail"; readonly reason: string }
  /** Better than expected: a defect or an erratum is gone. Red, so that the expectation gets changed. */
  | {
      readonly kind: "xpass";
      readonly reason: string;
      /** The erratum that is in force and was not seen. */
      readonly erratum?: string;
    }
  | { readonly kind: "skip"; readonly reason: string }
  | { readonly kind: "inconclusive"; readonly cause: InconclusiveCause; readonly reason: string };
export type VerdictKind = Verdict["kind"];

export const verdictKinds: readonly ["pass", "fail", "xfail", "xpass", "skip", "inconclusive"] = [
  "pass",
  "fail",
  "xfail",
  "xpass",
  "skip",
  "inconclusive",
];

export type Counts = Readonly<Record<VerdictKind, number>>;

export function countVerdicts(verdicts: Iterable<Verdict>): Counts {
  const counts = { pass: 0, fail: 0, xfail: 0, xpass: 0, skip: 0, inconclusive: 0 };
  for (const verdict of verdicts) {
    switch (verdict.kind) {
      case "pass":
      case "fail":
      case "xfail":
      case "xpass":
      case "skip":
      case "inconclusive":
        counts[verdict.kind] += 1;
        break;
      default:
        verdict satisfies never;
    }
  }
  return counts;
}

/** When several verdicts become one, the gravest stands. */
export function severity(kind: VerdictKind): number {
  switch (kind) {
    case "fail":
      return 5;
    case "xpass":
      return 4;
    case "inconclusive":
      return 3;
    case "skip":
      return 2;
    case "xfail":
      return 1;
    case "pass":
      return 0;
  }
}

/** Not a green result: its line ends with a replay command. */
export function needsAttention(kind: VerdictKind): boolean {
  switch (kind) {
    case "fail":
    case "xpass":
    case "inconclusive":
      return true;
    case "skip":
    case "xfail":
    case "pass":
      return false;
  }
}

export const exitCodes = {
  /** All as expected. */
  ok: 0,
  /** At least one fail or xpass. */
  unexpected: 1,
  /** Nothing unexpected, but at least one case proves nothing. */
  inconclusive: 2,
  /** Nothing ran. */
  nothingRan: 3,
  /** The command line or a file on it. */
  usage: 64,
  /** A defect of this program. */
  defect: 70,
  /** SIGHUP: the result is partial. */
  hungUp: 129,
  /** SIGINT: the result is partial. */
  interrupted: 130,
  /** SIGTERM: the result is partial. */
  terminated: 143,
} as const;

/** The signals that interrupt a command. Its result is partial then. */
export const interruptingSignals = ["SIGHUP", "SIGINT", "SIGTERM"] as const;
export type InterruptingSignal = (typeof interruptingSignals)[number];

/** The exit code of a command that was interrupted: what a shell shows of a process that the signal ended. */
export function exitCodeOfSignal(signal: InterruptingSignal): number {
  switch (signal) {
    case "SIGHUP":
      return exitCodes.hungUp;
    case "SIGINT":
      return exitCodes.interrupted;
    case "SIGTERM":
      return exitCodes.terminated;
  }
}

/** The signal that a recorded exit code stands for; null: none. */
export function signalOfExitCode(code: number): InterruptingSignal | null {
  return interruptingSignals.find((signal) => exitCodeOfSignal(signal) === code) ?? null;
}

/** The exit code of a run that came to its end. */
export function exitCodeOf(counts: Counts): number {
  if (counts.fail + counts.xpass > 0) return exitCodes.unexpected;
  if (counts.inconclusive > 0) return exitCodes.inconclusive;
  if (counts.pass + counts.xfail === 0) return exitCodes.nothingRan;
  return exitCodes.ok;
}

export function exitCodeText(code: number): string {
  switch (code) {
    case exitCodes.ok:
      return "everything went as expected";
    case exitCodes.unexpected:
      return "something is not as expected (a fail, an xpass, or a real run that the model excludes)";
    case exitCodes.inconclusive:
      return "nothing unexpected, but some cases are inconclusive";
    case exitCodes.nothingRan:
      return "nothing ran";
    case exitCodes.usage:
      return "usage error";
    case exitCodes.defect:
      return "a defect of daxfault itself";
    case exitCodes.hungUp:
      return "the terminal has gone (SIGHUP); the result is partial";
    case exitCodes.interrupted:
      return "interrupted (SIGINT); the result is partial";
    case exitCodes.terminated:
      return "terminated (SIGTERM); the result is partial";
    default:
      return `exit code ${code}`;
  }
}
