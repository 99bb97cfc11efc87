/** Names and paths that are an attack: nothing of them reaches a terminal, a mail or JSON as anything but text. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { HostFacts, VmFacts } from "../../src/diagnose/facts.ts";
import { diagnosisMail } from "../../src/diagnose/mail.ts";
import { diagnosisText, logText } from "../../src/diagnose/text.ts";
import { diagnose } from "../../src/diagnose/verdict.ts";
import { logVerdict, parseVmmLog } from "../../src/diagnose/vmm-log.ts";
import { visibleData } from "../../src/report/encode.ts";
import type { Style } from "../../src/report/style.ts";
import {
  fileWith,
  fuseWith,
  HVA,
  looksWith,
  pageWith,
  servedBy,
  vcpuWith,
  vmWith,
} from "../support/vm-facts.ts";

const plain = (text: string): string => text;
const style: Style = { widthColumns: 100, bold: plain, dim: plain, verdict: (_kind, text) => text };

/** Controls but the line end, and marks of direction. */
const unsafe = /(?!\n)[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u;

/** A VM all of whose texts are `text`. */
function vmOf(text: string): VmFacts {
  const server = fuseWith({ processes: [{ pid: 7, name: text, state: "T" }] });
  const place = { type: text, source: text, mountPoint: text, server };
  return vmWith({
    process: text,
    name: text,
    program: text,
    files: [
      fileWith({ path: text, sizeBytes: null, sizeReason: text }),
      servedBy(server, { path: text, fileSystem: place }),
      fileWith({ path: text, sizeBytes: 0n }),
    ],
    vcpus: [
      vcpuWith({ name: text, looks: looksWith({ state: "D", waitsIn: text }), stack: [text] }),
      vcpuWith({ name: text, pages: [pageWith({ ready: 99, hva: HVA })] }),
    ],
    blocked: [{ tid: 9, name: text, where: text }],
    unseen: [text],
  });
}

function outputs(text: string): readonly string[] {
  const vm = vmOf(text);
  const facts: HostFacts = {
    kernel: text,
    isRoot: true,
    vms: [vm],
    unseen: [text],
    pageWorkers: [{ tid: 5, stack: [text], sleptMs: null }],
    tookMs: 600,
  };
  const diagnoses = [diagnose(vm, facts.pageWorkers)];
  const shown = visibleData({ facts, diagnoses });
  return [
    diagnosisText(shown.facts, shown.diagnoses, style),
    diagnosisMail(facts, diagnoses, [text]),
    logText(
      visibleData(
        parseVmmLog(`error: kvm run failed ${text}\n${text}\n`).map((failure) => ({
          failure,
          verdict: logVerdict(failure),
        })),
      ),
      style,
    ),
  ];
}

describe("whatever a VM calls itself", () => {
  it("is text", () => {
    const attack = "\u001b]0;x\u0007\u001b[2J\u009b31m\u202e\r\n\t\u0000";
    for (const output of outputs(attack)) expect(output).not.toMatch(unsafe);
    expect(outputs(attack)[0]).toContain("\\x1b[2J");
  });

  it("is text, for any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        for (const output of outputs(text)) expect(output).not.toMatch(unsafe);
      }),
      { numRuns: 50 },
    );
  });

  it("leaves the lines of a mail as long as a list takes them", () => {
    const [, mail = ""] = outputs("a plain name");
    for (const line of mail.split("\n")) expect(line.length).toBeLessThanOrEqual(78);
  });
});
