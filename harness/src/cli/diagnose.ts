/** `daxfault diagnose`: what the VMs of this machine do, seen from outside; or what a VMM's log says. */
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { exitCodeOfSignal, exitCodes } from "../../../language/src/command-words.ts";
import { InputError, readLog } from "../../../language/src/input-file.ts";
import { exitNow } from "../../../sys/src/looking.ts";
import { behindEndBytes, type GuestFile, type HostFacts, mappedBytes } from "../diagnose/facts.ts";
import type { RecordingHost } from "../diagnose/recording.ts";
import { diagnosisText, logText } from "../diagnose/text.ts";
import { ThisHost } from "../diagnose/this-host.ts";
import { type Diagnosis, diagnose, serverState } from "../diagnose/verdict.ts";
import { activityText } from "../diagnose/words.ts";
import { version } from "../paths.ts";
import { jsonText, visibleData } from "../report/encode.ts";
import type { Style } from "../report/style.ts";
import { type JsonOutput, openJson } from "./json-output.ts";
import type { DiagnoseLine } from "./lines/diagnose.ts";
import { commitOutputs, discardOutputs } from "./open-outputs.ts";
import { type OutputFile, openOutput } from "./output-file.ts";
import { UsageError } from "./usage.ts";
import { lookAround, nothingToLookAt, type Setup, wantedOf } from "./vm-choice.ts";

export type DiagnoseOptions = {
  readonly pid?: string;
  readonly name?: string;
  readonly log?: string;
  readonly json?: string;
  readonly mail?: string;
  readonly record?: string;
};

const LOG_BYTES = 64 * 1024 * 1024;

const hex = (value: bigint): string => `0x${value.toString(16)}`;

function fileLine(file: GuestFile): Extract<DiagnoseLine, { type: "vm" }>["files"][number] {
  const { path, isDeleted, device, inode, sizeBytes, sizeReason, fileSystem, pieces } = file;
  const behind = behindEndBytes(file);
  return {
    path,
    deleted: isDeleted,
    device: `${device.major}:${device.minor}`,
    inode: String(inode),
    sizeBytes: sizeBytes === null ? null : Number(sizeBytes),
    sizeReason,
    mappedBytes: Number(mappedBytes(file)),
    behindEndBytes: behind === null ? null : Number(behind),
    mappings: pieces.map(({ start, end, offset, access }) => ({
      hva: hex(start),
      bytes: Number(end - start),
      offset: Number(offset),
      access,
    })),
    fileSystem:
      fileSystem === null
        ? null
        : {
            type: fileSystem.type,
            source: fileSystem.source,
            mountPoint: fileSystem.mountPoint,
            server: fileSystem.server === null ? null : serverState(fileSystem.server),
          },
  };
}

export function vmLine({ vm, activities, verdict }: Diagnosis): DiagnoseLine {
  return {
    type: "vm",
    pid: vm.pid,
    name: vm.name,
    process: vm.process,
    program: vm.program,
    verdict,
    vcpus: activities.map(({ vcpu, activity }) => {
      const page = activity.kind === "loops" || activity.kind === "waits-for-page" ? activity.page : null;
      const place = activity.kind === "loops" || activity.kind === "waits-for-page" ? activity.place : null;
      return {
        id: vcpu.id,
        tid: vcpu.tid,
        thread: vcpu.name,
        does: activity.kind,
        text: activityText(activity, vcpu, vm.watchedMs),
        gpa: page === null ? null : hex(page.gpa),
        hva: page?.hva == null ? null : hex(page.hva),
        file: place?.file.path ?? null,
        offset: place === null ? null : Number(place.offset),
        stack: vcpu.stack,
      };
    }),
    files: vm.files.map(fileLine),
    counters: Object.fromEntries(
      Object.entries(vm.counters ?? {}).map(([name, { before, after }]) => [name, after - before]),
    ),
    watchedMs: Math.round(vm.watchedMs),
    unseen: vm.unseen,
  };
}

/** A line of /proc that may not be readable. */
function readLine(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}

function aboutMachine(): readonly string[] {
  const commandLine = readLine("/proc/cmdline");
  const kernel = readLine("/proc/version");
  return [
    `daxfault ${version()}`,
    ...(kernel === null ? [] : [kernel]),
    ...(commandLine === null ? [] : [`Command line: ${commandLine}`]),
  ];
}

function exitCodeOf(diagnoses: readonly Diagnosis[]): number {
  const severities = diagnoses.map(({ verdict }) => verdict.severity);
  if (severities.includes("hung")) return exitCodes.unexpected;
  return severities.includes("open") ? exitCodes.inconclusive : exitCodes.ok;
}

async function diagnoseLog(path: string, options: DiagnoseOptions, style: Style): Promise<number> {
  const { logVerdict, parseVmmLog } = await import("../diagnose/vmm-log.ts");
  const json = openJson<DiagnoseLine>(options.json);
  let text: string;
  try {
    text = readLog(path, LOG_BYTES);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new UsageError(`--log ${path}: ${error.message}`);
  }
  const found = parseVmmLog(text).map((failure) => ({ failure, verdict: logVerdict(failure) }));
  for (const { failure, verdict } of found) json.write({ type: "log", ...failure, verdict });
  if (!json.isStdout) {
    console.log(
      found.length === 0 ? "no KVM_RUN has failed in this log" : logText(visibleData(found), style),
    );
  }
  return found.length === 0 ? exitCodes.ok : exitCodes.unexpected;
}

type Outputs = {
  readonly json: JsonOutput<DiagnoseLine>;
  readonly mail: OutputFile | null;
  readonly record: OutputFile | null;
  /** Standard output carries one of them. */
  readonly isStdout: boolean;
};

function openOutputs(options: DiagnoseOptions): Outputs {
  const json = openJson<DiagnoseLine>(options.json);
  const mail = options.mail === undefined ? null : openOutput("--mail", options.mail);
  const record = options.record === undefined ? null : openOutput("--record", options.record);
  const onStdout = [json, mail, record].filter((one) => one?.isStdout === true);
  if (onStdout.length > 1)
    throw new UsageError("only one of --json, --mail and --record can be written to -");
  return { json, mail, record, isStdout: onStdout.length > 0 };
}

async function write(
  { json, mail, isStdout }: Outputs,
  facts: HostFacts,
  style: Style,
): Promise<readonly Diagnosis[]> {
  const diagnoses = facts.vms.map((vm) => diagnose(vm, facts.pageWorkers));
  const { kernel, tookMs, unseen, pageWorkers } = facts;
  json.write({ type: "machine", kernel, tookMs: Math.round(tookMs), unseen, pageWorkers });
  for (const one of diagnoses) json.write(vmLine(one));
  if (mail !== null) {
    const { diagnosisMail } = await import("../diagnose/mail.ts");
    mail.write(Buffer.from(diagnosisMail(facts, diagnoses, aboutMachine())));
  }
  if (!isStdout) {
    const shown = visibleData({ facts, diagnoses });
    console.log(diagnosisText(shown.facts, shown.diagnoses, style));
  }
  return diagnoses;
}

/** What only an option asks for is loaded for it alone: a VM that hangs is looked at at once. */
async function recorderOf(host: ThisHost): Promise<RecordingHost> {
  const { RecordingHost } = await import("../diagnose/recording.ts");
  return new RecordingHost(host);
}

/** Exit 0: all are healthy; 1: one does not go on by itself; 2: of one, or whether there is one, it cannot be said; 3: none. */
export async function diagnoseCommand(options: DiagnoseOptions, style: Style): Promise<number> {
  if (options.log !== undefined) {
    if ([options.pid, options.name, options.mail, options.record].some((one) => one !== undefined))
      throw new UsageError("--log stands alone, or with --json");
    return await diagnoseLog(options.log, options, style);
  }
  const wanted = wantedOf(options);
  const outputs = openOutputs(options);
  const here = new ThisHost();
  const recorder = outputs.record === null ? null : await recorderOf(here);
  const setup: Setup = { kernel: release(), isRoot: process.getuid?.() === 0 };
  const collected = await lookAround(recorder ?? here, wanted, setup);
  if (typeof collected === "string") {
    discardOutputs();
    console.error(`daxfault diagnose: interrupted by ${collected}: nothing is said of what was seen`);
    return exitCodeOfSignal(collected);
  }
  const { facts, found } = collected;
  const nothing = nothingToLookAt("diagnose", wanted, { facts, found });
  if (nothing !== null) {
    discardOutputs();
    return nothing;
  }
  if (recorder !== null) outputs.record?.write(Buffer.from(`${jsonText(recorder.recording(setup))}\n`));
  const code = exitCodeOf(await write(outputs, facts, style));
  if (here.stuck > 0) {
    // A thread of the pool waits for a lock that nobody gives back: the process must not wait for that thread.
    commitOutputs();
    exitNow(code);
  }
  return code;
}
