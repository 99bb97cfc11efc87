/** A diagnosis for the terminal. */
import { paragraph, type Style } from "../report/style.ts";
import type { HostFacts } from "./facts.ts";
import type { Diagnosis, Verdict } from "./verdict.ts";
import type { LogFailure, LogVerdict } from "./vmm-log.ts";
import { activityText, counterLine, fileLines, inOrder, namespaceText, vcpuTitle, vmTitle } from "./words.ts";

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
  const rescue =
    verdict.severity === "hung"
      ? ` (or daxfault rescue --pid ${vm.pid}, which looks whether the VM goes on)`
      : "";
  return [
    "",
    style.bold(vmTitle(vm)),
    ...lines(coloured(verdict, style), 2),
    ...verdict.warnings.flatMap((warning) => lines(`warning: ${warning}`, 2)),
    ...(verdict.remedies.length === 0 ? [] : lines(`what ends it${rescue}:`, 2)),
    ...verdict.remedies.flatMap(({ what, command, price }) => [
      ...lines(what, 4),
      // On one line, to be copied.
      ...(command === null ? [] : [`      $ ${command}`]),
      ...lines(`price: ${price}`, 6),
    ]),
    ...section("vCPUs:", [
      ...activities
        .slice(0, VCPUS_SHOWN)
        .map(({ vcpu, activity }) => `${vcpuTitle(vcpu)}: ${activityText(activity, vcpu, vm.watchedMs)}`),
      ...(more > 0 ? [`${more} more`] : []),
    ]),
    ...(vm.files.length === 0 ? [] : lines("files that it has mapped:", 2)),
    ...inOrder(vm.files).flatMap((file) => {
      const [first = "", ...rest] = fileLines(file);
      return [...lines(first, 4), ...rest.flatMap((line) => lines(line, 6))];
    }),
    ...section(`KVM's counters in ${Math.round(vm.watchedMs)} ms:`, counters === "" ? [] : [counters]),
    ...(namespaces === "" ? [] : lines(namespaces, 2)),
    ...section("not seen:", vm.unseen),
  ];
}

const severities = ["hung", "open", "fine"] as const;
const rank = ({ verdict }: Diagnosis): number => severities.indexOf(verdict.severity);

type State = "hangs" | "is paused" | "cannot be told yet" | "is fine";

/** A VM that its VMM has stopped waits for a person, and is no hang. */
function stateOf({ verdict: { severity, kind } }: Diagnosis): State {
  if (severity === "hung") return "hangs";
  if (severity === "fine") return "is fine";
  return kind === "stopped-by-vmm" ? "is paused" : "cannot be told yet";
}

const plural: Readonly<Record<State, string>> = {
  hangs: "hang",
  "is paused": "are paused",
  "cannot be told yet": "cannot be told yet",
  "is fine": "are fine",
};

/** `3 VMs: 1 hangs, 2 are fine` */
function countText(diagnoses: readonly Diagnosis[]): string {
  const states = diagnoses.map(stateOf);
  const [only] = states;
  if (states.length === 1 && only !== undefined) return `1 VM: it ${only}`;
  const parts = (Object.keys(plural) as State[]).flatMap((state) => {
    const count = states.filter((one) => one === state).length;
    return count === 0 ? [] : [`${count} ${count === 1 ? state : plural[state]}`];
  });
  return `${diagnoses.length} VMs: ${parts.join(", ")}`;
}

export function diagnosisText(facts: HostFacts, diagnoses: readonly Diagnosis[], style: Style): string {
  return [
    `${countText(diagnoses)} (Linux ${facts.kernel}, looked at in ${Math.round(facts.tookMs)} ms)`,
    ...facts.unseen.flatMap((one) =>
      paragraph(`not seen: ${one}`, style.widthColumns, { first: 0, rest: 2 }),
    ),
    ...[...diagnoses].sort((a, b) => rank(a) - rank(b)).flatMap((one) => vmLines(one, style)),
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
