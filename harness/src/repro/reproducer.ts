/**
 * A stand-alone C reproducer of a kernel's defect, generated from the scenario: for a bug report that does not ask its
 * reader to install anything. `reproducer.c.in` is the program; here its guest's steps and its host's acts are put in.
 */

import { readFileSync } from "node:fs";
import {
  type AccessStep,
  accessBytes,
  type Defect,
  enablesApf,
  type HostAction,
  hostActors,
  mappingsOf,
  type Proposal,
  placeName,
  type Scenario,
  stepText,
  touchOf,
  writtenValue,
} from "../../../language/src/index.ts";
import { ownMappingReason } from "../engines/own-mapping.ts";
import { packagePath } from "../paths.ts";
import { visible } from "../report/encode.ts";
import { defectOf } from "../report/findings.ts";
import { setupLines } from "../report/story.ts";
import { wrap } from "../report/style.ts";
import { replayCommand } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import { type Linear, linearize } from "./linear.ts";

export type Reproducer =
  | { readonly kind: "source"; readonly text: string }
  /** Why one C file cannot show the case, one sentence. */
  | { readonly kind: "none"; readonly reason: string };

const COMMENT_COLUMNS = 100;
const WINDOW_GRANULE = 0x20_0000n;

/** The symptom of each defect in the program. */
const wanted: Readonly<Record<string, string>> = {
  "endless-loop": "ENDLESS_LOOP",
  "memory-fault-cap-untrue": "MEMORY_FAULT_CAP",
};

const hexText = (value: bigint): string => `0x${value.toString(16)}`;

/** Registers of each width: al, ax, eax, rax. */
const registers: Readonly<Record<number, string>> = { 1: "%al", 2: "%ax", 4: "%eax", 8: "%rax" };

function moveCode(step: AccessStep, at: string): readonly string[] | null {
  const size = accessBytes(step);
  const register = registers[size];
  if (touchOf(step).kind === "load") {
    if (size === 16) return [`movdqu ${at}, %xmm0`, "movq %xmm0, %rax"];
    return register === undefined ? null : ["xor %eax, %eax", `mov ${at}, ${register}`];
  }
  const value = writtenValue(step);
  if (size === 16)
    return [`movabs $${hexText(value & (2n ** 64n - 1n))}, %rax`, "movq %rax, %xmm0", `movdqu %xmm0, ${at}`];
  return register === undefined ? null : [`movabs $${hexText(value)}, %rax`, `mov ${register}, ${at}`];
}

function lockedCode(step: AccessStep, at: string): readonly string[] | null {
  const size = accessBytes(step);
  if (size === 16)
    return [
      "xor %eax, %eax",
      "xor %edx, %edx",
      "xor %ecx, %ecx",
      "push %rbx",
      `lea ${at}, %rsi`,
      "xor %ebx, %ebx",
      "lock cmpxchg16b (%rsi)",
      "pop %rbx",
    ];
  const register = registers[size];
  return register === undefined ? null : ["mov $1, %eax", `lock xadd ${register}, ${at}`];
}

/** The instructions of one access; null if it needs more than this guest has (AVX, a system call). */
function accessCode(step: AccessStep): readonly string[] | null {
  const at = `${hexText(step.offset)}(%rbx)`;
  const { by, instruction, kind } = touchOf(step);
  if (by === "kernel" || instruction === null) return null;
  switch (instruction) {
    case "move":
      return moveCode(step, at);
    case "locked":
      return lockedCode(step, at);
    case "call":
      return [`lea ${at}, %rdx`, "call *%rdx"];
    case "string": {
      const [window, buffer] = kind === "load" ? ["%rsi", "%rdi"] : ["%rdi", "%rsi"];
      return [`lea ${at}, ${window}`, `mov %rbp, ${buffer}`, `mov $${accessBytes(step)}, %ecx`, "rep movsb"];
    }
    case "stack":
      return [
        "mov %rsp, %r8",
        `lea ${hexText(step.offset + 8n)}(%rbx), %rsp`,
        `movabs $${hexText(writtenValue(step))}, %rax`,
        "push %rax",
        "mov %r8, %rsp",
      ];
  }
}

function stepsCode(linear: Linear): string | null {
  const lines: string[] = [];
  for (const [index, step] of linear.accesses.entries()) {
    const code = accessCode(step);
    if (code === null) return null;
    lines.push(`\t/* ${index + 1}: ${cComment(stepText(step))} */`);
    for (const instruction of [...code, `mov $${index + 1}, %ecx`, "ud2"])
      lines.push(`\t"\t${instruction}\\n"`);
  }
  return lines.join("\n");
}

function actionCode(action: HostAction): readonly string[] {
  switch (action.verb) {
    case "truncate":
    case "open-truncate":
    case "ftruncate":
      return [`must(ftruncate(file, ${action.size}), "ftruncate");`];
    case "open-trunc":
      return ['must(close(open(path, O_WRONLY | O_TRUNC | O_CLOEXEC)), "open with O_TRUNC");'];
    case "collapse":
      return [
        `must(fallocate(file, FALLOC_FL_COLLAPSE_RANGE, ${action.offset}, ${action.length}), "fallocate");`,
      ];
    case "open":
    case "open-read":
    case "map-store":
    case "device-read":
    case "device-write":
    case "kill-server":
    case "stop-server":
    case "continue-server":
      // Nothing of it changes what the guest meets.
      return [];
    case "punch":
      return [
        `must(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, ${action.offset}, ${action.length}), "fallocate");`,
      ];
    case "unlink":
      return ["must(unlink(path), path);", "has_path = 0;"];
    case "rename-over":
      return [
        'must(close(open("./daxfault-reproducer-other", O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), "another file");',
        'must(rename("./daxfault-reproducer-other", path), "rename");',
      ];
  }
}

function hostCode(linear: Linear): string {
  return [...linear.host]
    .map(([step, actions]) => {
      const lines = actions.flatMap((action) => [
        `puts(${cString(`host: ${stepText(action)}`)});`,
        ...actionCode(action),
      ]);
      return [`\tcase ${step}:`, ...lines.map((line) => `\t\t${line}`), "\t\tbreak;"].join("\n");
    })
    .join("\n");
}

function definesCode(scenario: Scenario, defect: Defect): string {
  const pieces = mappingsOf(scenario);
  // biome-ignore lint/complexity/useMathMinMax: Math.max takes no bigints
  const end = pieces.reduce((most, { at, length }) => (at + length > most ? at + length : most), 0n);
  const windowBytes = ((end + WINDOW_GRANULE - 1n) / WINDOW_GRANULE) * WINDOW_GRANULE;
  const list = pieces.map(
    ({ fileOffset, at, length }) => `{ ${[fileOffset, at, length].map(hexText).join(", ")} }`,
  );
  return [
    "enum defect { ENDLESS_LOOP, MEMORY_FAULT_CAP };",
    `#define WANTED ${wanted[defect.id]}`,
    `#define IS_CODE ${scenario.backing.content === "code" ? 1 : 0}`,
    `#define FILE_BYTES ${hexText(scenario.backing.size)}ull`,
    `#define WINDOW_BYTES ${hexText(windowBytes)}ull`,
    `#define WINDOW_PIECES ${list.join(", ")} /* file offset, window offset, length */`,
  ].join("\n");
}

function vmCode(proposal: Proposal): string {
  const lines: string[] = [];
  if (proposal.lapic === "kernel") lines.push('must(ioctl(vm, KVM_CREATE_IRQCHIP), "KVM_CREATE_IRQCHIP");');
  if (proposal.exits === "hlt-in-guest") {
    lines.push(
      "{",
      "\tstruct kvm_enable_cap cap = { .cap = KVM_CAP_X86_DISABLE_EXITS, .args = { KVM_X86_DISABLE_EXITS_HLT } };",
      "",
      '\tmust(ioctl(vm, KVM_ENABLE_CAP, &cap), "KVM_CAP_X86_DISABLE_EXITS");',
      "}",
    );
  }
  return lines.map((line) => (line === "" ? "" : `\t${line}`)).join("\n");
}

/** Text that cannot end a comment of C. */
export function cComment(text: string): string {
  return visible(text).replaceAll("*/", "* /");
}

/** A string literal of C; `?` is escaped for its trigraphs. */
export function cString(text: string): string {
  return `"${visible(text).replaceAll(/["\\?]/g, "\\$&")}"`;
}

function commentLines(paragraphs: readonly string[]): string {
  return paragraphs
    .flatMap((text) => wrap(cComment(text), COMMENT_COLUMNS))
    .map((line) => ` * ${line}`)
    .join("\n");
}

/** Why a case cannot be one C file; null if it can. */
function obstacleOf(scenario: Scenario, proposal: Proposal): string | null {
  const { backing } = scenario;
  if (backing.kind === "private-swapped") return "its pages have to be swapped out first";
  const ownMapping = ownMappingReason(scenario, { failsPages: false });
  if (ownMapping !== null) return "its memory is not a shared mapping of a file that stays as it is";
  if (backing.kind !== "host-file")
    return `its file is on a ${backing.kind} of its own, which has to be mounted`;
  if (backing.mount !== undefined) return "its file is seen through a FUSE mount, which needs a server";
  if (hostActors(scenario).some(([, actor]) => actor.through === "mount"))
    return "its host acts through a FUSE mount, which needs a server";
  if (proposal.server !== "none")
    return `its file is guarded (${proposal.server}), which takes a program of its own`;
  if (enablesApf(proposal) || !["unaware", "apf"].includes(proposal.guest))
    return `its guest takes part (${proposal.guest}): the generated guest is too small for that`;
  if (proposal.exits === "fence")
    return "its VMM watches the file and makes PROT_NONE what lies behind its end";
  if (proposal.vmm !== "stop") return `its VMM acts (${proposal.vmm})`;
  return null;
}

/** The program for this result, or why there is none. @param version Of daxfault, for the head of the file. */
export function generateReproducer(result: CaseResult, version: string): Reproducer {
  const { scenario, proposal, nature } = result.planned;
  const defect = defectOf(result);
  if (!nature.runsKvm) return { kind: "none", reason: `engine ${placeName(result.planned)} runs no KVM` };
  if (defect === null) return { kind: "none", reason: "no defect of the kernel was seen in this case" };
  if (wanted[defect.id] === undefined)
    return { kind: "none", reason: `nothing tests for ${defect.id} in C yet` };
  const obstacle = obstacleOf(scenario, proposal);
  if (obstacle !== null) return { kind: "none", reason: obstacle };
  const order = linearize(scenario);
  if (order.kind === "none") return order;
  const steps = stepsCode(order.linear);
  if (steps === null)
    return {
      kind: "none",
      reason: "it has an access that the generated guest cannot do (AVX or a system call)",
    };
  const kernel = result.result?.kind === "evidence" ? result.result.evidence.attestation.kernel : "unknown";
  const values: Readonly<Record<string, string>> = {
    TITLE: commentLines([`${scenario.id}: ${scenario.purpose}`]).replace(/^ \* /, ""),
    VERSION: version,
    ABOUT: commentLines([
      `Defect ${defect.id}: ${defect.text} (${defect.source})`,
      `Seen on Linux ${kernel}. ${proposal.title}`,
      ...setupLines(scenario),
      ...order.linear.leftOut.map((text) => `Left out: ${text}.`),
      `The same case: ${replayCommand(result.planned)}`,
    ]),
    DEFINES: definesCode(scenario, defect),
    STEPS: steps,
    HOST: hostCode(order.linear),
    VM: vmCode(proposal),
  };
  const template = readFileSync(packagePath("harness/src/repro/reproducer.c.in"), "utf8");
  const text = template.replaceAll(/@([A-Z]+)@/g, (_mark, name: string) => values[name] ?? "");
  return { kind: "source", text };
}
