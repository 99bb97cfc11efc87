/** The cases, one foldable block each: what was set up, expected and seen, the timeline, and how to run it again. */

import { replayCommand } from "../../run/plan.ts";
import { type CaseResult, runsOf } from "../../run/result.ts";
import { builtText, guestBuiltText } from "../built.ts";
import { glyphs } from "../cells.ts";
import { type Markup, markup } from "../markup.ts";
import { counterLines, expectedLines, seenLines, setupLines } from "../story.ts";
import { capabilityText, caseTitle, plural } from "../text.ts";
import { timelineSvg } from "./timeline.ts";

/** The target of a link to the case. */
export type CaseIds = ReadonlyMap<CaseResult, string>;

export function caseIds(results: readonly CaseResult[]): CaseIds {
  return new Map(results.map((result, index) => [result, `case-${index + 1}`]));
}

export function verdictText({ verdict }: CaseResult): string {
  return verdict.kind === "inconclusive" ? `inconclusive (${verdict.cause})` : verdict.kind;
}

function list(title: string, lines: readonly string[]): Markup | null {
  if (lines.length === 0) return null;
  return markup`<div><h3>${title}</h3><ul>${lines.map((line) => markup`<li>${line}</li>`)}</ul></div>`;
}

export function commandMarkup(command: string): Markup {
  return markup`<div class="command"><code>${command}</code><button type="button" data-copy hidden>Copy</button></div>`;
}

function attestationLine(result: CaseResult): Markup | null {
  if (result.result?.kind !== "evidence") return null;
  const { attestation } = result.result.evidence;
  const { kernel, kvmBackend, lapic, apfEnabled, transport, windowBytes } = attestation;
  const parts = [`Linux ${kernel}`];
  if (kvmBackend !== null) parts.push(kvmBackend, capabilityText(attestation));
  if (lapic !== null) parts.push(`local APIC in the ${lapic === "kernel" ? "kernel" : "VMM"}`);
  if (apfEnabled !== null) parts.push(`async page faults ${apfEnabled ? "on" : "off"} in the guest`);
  if (transport !== null) parts.push(`FUSE mount by ${transport}`);
  if (windowBytes !== null) parts.push(`window of ${windowBytes / 2 ** 20} MiB`);
  const built = attestation.vm === null ? null : builtText(attestation.vm);
  if (built !== null) parts.push(built);
  const { guest } = attestation;
  if (guest !== null) {
    parts.push(
      `guest Linux ${guest.release} (${guest.kernel}, ${guest.origin}${guestBuiltText(guest.patches)}), ${guest.cpus} vCPUs, ${guest.mount}, case ${guest.bootCase} of its boot`,
    );
  }
  return markup`<h3>Attested</h3><p>${parts.join("; ")}</p>`;
}

function outcomesList({ outcomes }: CaseResult): Markup | null {
  const runs = runsOf({ outcomes });
  if (runs < 2) return null;
  return list(
    `Outcomes of ${runs} runs`,
    outcomes.map(({ count, verdict, text }) => `${count}: ${verdict}: ${text}`),
  );
}

function scrolled(label: string, content: Markup): Markup {
  return markup`<div class="scroll" tabindex="0" role="region" aria-label="${label}">${content}</div>`;
}

function bodyOf(result: CaseResult, id: string): Markup {
  const { planned, verdict, expectation } = result;
  const evidence = result.result?.kind === "evidence" ? result.result.evidence : null;
  const failure = result.result === null || result.result.kind === "evidence" ? [] : [result.result.message];
  const timeline = timelineSvg(result, `${id}-timeline`);
  const counters = evidence === null ? [] : counterLines(evidence);
  const guestConsole = evidence?.guestConsole ?? [];
  const fix = planned.support.kind === "no" ? planned.support.fix : null;
  return markup`<div class="case-body" id="${id}"><p>${planned.scenario.purpose}</p>
<p class="soft">${planned.proposal.id}: ${planned.proposal.title}</p>
<p><b>${verdictText(result)}</b>: ${verdict.reason}</p>${fix === null ? null : markup`<p>Mended by: <code>${fix}</code></p>`}
<div class="columns">${list("Steps", setupLines(planned.scenario))}${evidence === null ? null : list("Expected", expectedLines(expectation))}${list("Seen", evidence === null ? failure : seenLines(planned.scenario, evidence))}${outcomesList(result)}</div>
${timeline === null ? null : markup`<h3>What happened</h3>${scrolled("Timeline", timeline)}`}
${counters.length === 0 ? null : markup`<h3>KVM's counters</h3><p class="mono">${counters.join(" ")}</p>`}
${guestConsole.length === 0 ? null : markup`<h3>Console of the guest</h3>${scrolled("Console of the guest", markup`<pre>${guestConsole.join("\n")}</pre>`)}`}
${attestationLine(result)}<h3>Run it again</h3>${commandMarkup(replayCommand(planned))}</div>`;
}

/** What the page's filters ask of a case. */
export function filterData(result: CaseResult, short: string): Markup {
  const { proposal, engine, machine, nature } = result.planned;
  const text = `${caseTitle(result)} ${short}`.toLowerCase();
  return markup`data-verdict="${result.verdict.kind}" data-proposal="${proposal.id}" data-engine="${engine}" data-machine="${machine}" data-ground="${nature.isReal ? "real" : "model"}" data-text="${text}"`;
}

export type BlockOptions = {
  readonly id: string;
  /** The case's outcome, in a few words. */
  readonly short: string;
  readonly isOpen: boolean;
};

export function caseBlock(result: CaseResult, { id, short, isOpen }: BlockOptions): Markup {
  const { kind } = result.verdict;
  const title = caseTitle(result);
  const open = isOpen ? markup` open` : null;
  return markup`<details class="case"${open} ${filterData(result, short)}>
<summary><span class="chip ${kind}"><span aria-hidden="true">${glyphs[kind]} </span>${kind}</span><span class="name">${title}</span><span class="soft">${short}</span></summary>
${bodyOf(result, id)}</details>
`;
}

/** `<li>` with a link to each case. */
export function caseLinks(results: readonly CaseResult[], ids: CaseIds): Markup {
  const items = results.map(
    (result) =>
      markup`<li><a href="#${ids.get(result) ?? ""}">${caseTitle(result)}</a> <span class="soft">${verdictText(result)}</span></li>`,
  );
  return markup`<ul>${items}</ul>`;
}

export function countText(results: readonly CaseResult[]): string {
  return plural(results.length, "case");
}
