/** A diagnosis for the terminal. */
import { paragraph, type Style } from "../report/style.ts";
import type { HostFacts } from "./facts.ts";
import type { Diagnosis, Verdict } from "./verdict.ts";
import type { LogFailure, LogVerdict } from "./vmm-log.ts";
import { activityText, counterLine, fileLines, namespaceText, vcpuTitle, vmTitle } from "./words.ts";

const VCPUS_SHOWN = 32;

function coloured({ severity, text }: Verdict, style: Style): string {
  const kind = { fine: "pass", open: "inconclusive", hung: "fail" } as const;
  return style.verdict(kind[severity], text);
}

function vmLines({ vm, activities, verdict }: Diagnosis, style: Style): readonly string[] {
  const lines = (text: string, first: number): readonly string[] =>
    paragraph(text, style.widthColumns, { first, rest: first + 2 });
  const section = (title: string, items: readonly string[]): readonly string[] =>
    items.length === 0 ? [] : [...lines(title, 2), ...items.flatMap((item) => lines(item, 4))];
  const namespaces = namespaceText(vm);
  const counters = counterLine(vm);
  const more = activities.length - VCPUS_SHOWN;
  return [
    "",
    style.bold(vmTitle(vm)),
    ...lines(coloured(verdict, style), 2),
    ...verdict.warnings.flatMap((warning) => lines(`warning: ${warning}`, 2)),
    ...section(
      "what ends it:",
      verdict.remedies.flatMap(({ what, command, price }) => [
        `${what}${command === null ? "" : `: ${command}`}`,
        `  price: ${price}`,
      ]),
    ),
    ...section("vCPUs:", [
      ...activities
        .slice(0, VCPUS_SHOWN)
        .map(({ vcpu, activity }) => `${vcpuTitle(vcpu)}: ${activityText(activity, vcpu, vm.watchedMs)}`),
      ...(more > 0 ? [`${more} more`] : []),
    ]),
    ...section(
      "files that it has mapped:",
      vm.files.flatMap((file) => {
        const [first = "", ...rest] = fileLines(file);
        return [first, ...rest.map((line) => `  ${line}`)];
      }),
    ),
    ...section(`KVM's counters in ${Math.round(vm.watchedMs)} ms:`, counters === "" ? [] : [counters]),
    ...(namespaces === "" ? [] : lines(namespaces, 2)),
    ...section("not seen:", vm.unseen),
  ];
}

export function diagnosisText(facts: HostFacts, diagnoses: readonly Diagnosis[], style: Style): string {
  const count = diagnoses.length === 1 ? "1 process with a VM" : `${diagnoses.length} processes with VMs`;
  return [
    `Linux ${facts.kernel}: ${count}, looked at in ${Math.round(facts.tookMs)} ms`,
    ...facts.unseen.flatMap((one) =>
      paragraph(`not seen: ${one}`, style.widthColumns, { first: 0, rest: 2 }),
    ),
    ...diagnoses.flatMap((one) => vmLines(one, style)),
  ].join("\n");
}

export function logText(
  found: readonly { readonly failure: LogFailure; readonly verdict: LogVerdict }[],
  style: Style,
): string {
  const lines = (text: string, first: number): readonly string[] =>
    paragraph(text, style.widthColumns, { first, rest: first + 2 });
  return found
    .flatMap(({ failure, verdict }) => [
      style.bold(`line ${failure.line}: ${failure.message}`),
      ...lines(style.verdict("fail", verdict.text), 2),
      ...lines(verdict.remedy, 2),
      ...(Object.keys(failure.registers).length === 0
        ? []
        : lines(
            Object.entries(failure.registers)
              .map(([name, value]) => `${name} ${value}`)
              .join(", "),
            2,
          )),
      ...(failure.code === null ? [] : lines(`Code ${failure.code}`, 2)),
    ])
    .join("\n");
}
