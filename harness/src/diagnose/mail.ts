/** A diagnosis as a mail to a list: plain text, 72 columns, whole stacks, nothing that a mail client could spoil. */
import { visibleData } from "../report/encode.ts";
import { COLUMNS, indented, section } from "../report/mail-layout.ts";
import { wrap } from "../report/style.ts";
import type { HostFacts } from "./facts.ts";
import type { Diagnosis } from "./verdict.ts";
import { activityText, counterLine, fileLines, inOrder, namespaceText, vcpuTitle, vmTitle } from "./words.ts";

const PAGES_SHOWN = 4;

function pageLines({ activities }: Diagnosis): readonly string[] {
  return activities.flatMap(({ vcpu }) =>
    vcpu.pages.slice(0, PAGES_SHOWN).map((page) => {
      const counts = [
        `kvm_page_fault ${page.faults}`,
        `kvm_try_async_get_page ${page.asked}`,
        `kvm_async_pf_repeated_fault ${page.repeated}`,
        `kvm_async_pf_ready ${page.ready}`,
        `mapped ${page.fixed}`,
      ].join(", ");
      const hva = page.hva === null ? "" : `, hva 0x${page.hva.toString(16)}`;
      return `thread ${vcpu.tid}, gpa 0x${page.gpa.toString(16)}${hva}: ${counts}`;
    }),
  );
}

function vmLines(diagnosis: Diagnosis): readonly string[] {
  const { vm, activities, verdict } = diagnosis;
  const stacks = activities.flatMap(({ vcpu }) =>
    vcpu.stack === null ? [] : [`${vcpuTitle(vcpu)}:`, ...vcpu.stack.map((name) => `  ${name}`)],
  );
  const namespaces = namespaceText(vm);
  return [
    "",
    "-".repeat(COLUMNS),
    ...wrap(vmTitle(vm), COLUMNS),
    ...indented(`Verdict: ${verdict.text}`, 2),
    ...verdict.warnings.flatMap((warning) => indented(`Warning: ${warning}`, 2)),
    ...(namespaces === "" ? [] : indented(namespaces, 2)),
    ...section(
      "vCPUs",
      activities.map(
        ({ vcpu, activity }) => `${vcpuTitle(vcpu)}: ${activityText(activity, vcpu, vm.watchedMs)}`,
      ),
    ),
    ...section("Files that may be the guest's memory", inOrder(vm.files).flatMap(fileLines)),
    ...section(`KVM's counters in ${Math.round(vm.watchedMs)} ms`, [counterLine(vm)].filter(Boolean)),
    ...section("KVM's tracepoints, by page", pageLines(diagnosis)),
    ...section("Kernel stacks", stacks),
    ...section(
      "What ends it",
      verdict.remedies.map(
        ({ what, command, price }) => `${what}${command === null ? "" : ` (${command})`}; price: ${price}`,
      ),
    ),
    ...section("Not seen", vm.unseen),
  ];
}

/** @param about lines about the machine: version of daxfault, command line of the kernel, KVM's parameters */
export function diagnosisMail(
  seen: HostFacts,
  diagnosed: readonly Diagnosis[],
  about: readonly string[],
): string {
  const { facts, diagnoses } = visibleData({ facts: seen, diagnoses: diagnosed });
  const workers = facts.pageWorkers.flatMap(({ tid, stack }) => [
    `kworker ${tid}:`,
    ...stack.map((name) => `  ${name}`),
  ]);
  const lines = [
    "A VM on KVM, seen from outside",
    "=".repeat(COLUMNS),
    ...indented(`Linux ${facts.kernel}, looked at in ${Math.round(facts.tookMs)} ms`, 0),
    ...visibleData(about).flatMap((line) => indented(line, 0)),
    ...section("Not seen", facts.unseen),
    ...section("Workers of KVM that wait for a page of some VM", workers),
    ...diagnoses.flatMap(vmLines),
  ];
  return `${lines.map((line) => line.trimEnd()).join("\n")}\n`;
}
