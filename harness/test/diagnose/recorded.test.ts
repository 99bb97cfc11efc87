/** What real machines said, recorded by scripts/diagnose-record, and the verdict of each. */
import { readdirSync, readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { vmLine } from "../../src/cli/diagnose.ts";
import { lineSchema } from "../../src/cli/lines.ts";
import { collect } from "../../src/diagnose/collect.ts";
import type { HostFacts } from "../../src/diagnose/facts.ts";
import { diagnosisMail } from "../../src/diagnose/mail.ts";
import { RecordedHost, type Recording } from "../../src/diagnose/recording.ts";
import { diagnosisText } from "../../src/diagnose/text.ts";
import { type Diagnosis, diagnose, type Verdict } from "../../src/diagnose/verdict.ts";
import { packagePath } from "../../src/paths.ts";

const folder = packagePath("fixtures/diagnose");
const names = readdirSync(folder)
  .filter((name) => name.endsWith(".json"))
  .map((name) => name.slice(0, -".json".length));

const recordingOf = (name: string): Recording =>
  JSON.parse(readFileSync(`${folder}/${name}.json`, "utf8")) as Recording;

type Expected = Pick<Verdict, "kind" | "severity"> & { readonly text: RegExp };

const expected: Readonly<Record<string, Expected>> = {
  "truncated-without-apf": {
    kind: "endless-loop",
    severity: "hung",
    text: /guest file 0 is too short: .* 0x1000/,
  },
  "truncated-with-apf": {
    kind: "endless-loop",
    severity: "hung",
    text: /guest file 1 is too short: .* 0x1000/,
  },
  "truncated-without-lapic": { kind: "stopped-by-vmm", severity: "open", text: /no vCPU is in KVM_RUN/ },
  "qemu-truncated": {
    kind: "endless-loop",
    severity: "hung",
    text: /guest-ram is too short: the page is at offset 0x8000, .* 0 bytes long \(64 MiB are mapped\)$/,
  },
  // By `stop` at its monitor: no hang.
  "qemu-paused": {
    kind: "stopped-by-vmm",
    severity: "open",
    text: /^stopped by its VMM: no vCPU is in KVM_RUN/,
  },
  // By `stop`, and `cont`.
  "qemu-continued": { kind: "runs", severity: "fine", text: /^healthy: 1 of 1 vCPUs run/ },
  "qemu-truncated-without-lapic": {
    kind: "stopped-by-vmm",
    severity: "hung",
    text: /64 MiB of \S+guest-ram are mapped behind its end \(0 bytes long\)/,
  },
  "server-dead": {
    kind: "endless-loop",
    severity: "hung",
    text: /because the file server of \/guest file 1 is dead: the page is at offset 0x300000 /,
  },
  "server-stopped": {
    kind: "waits-for-io",
    severity: "hung",
    text: /\(fuse\.daxfault\): vCPU 0 has waited for 4 s .*; its file server is stopped: 143 \(node\)$/,
  },
  // Its only task has ended.
  "guest-finished": { kind: "stopped-by-vmm", severity: "open", text: /no vCPU is in KVM_RUN/ },
  "guest-polls": { kind: "runs", severity: "fine", text: /healthy/ },
  // A machine so busy that half a second took half a minute, and the VMM's maps could not be read in time: no false verdict.
  "truncated-starved": { kind: "waits-for-io", severity: "open", text: /gpa 0x40001000/ },
};

async function seenIn(recording: Recording): Promise<{ facts: HostFacts; diagnosis: Diagnosis }> {
  const { facts } = await collect(new RecordedHost(recording), { kind: "all" }, recording);
  const [vm, ...others] = facts.vms;
  expect(others).toEqual([]);
  if (vm === undefined) throw new Error("no VM");
  return { facts, diagnosis: diagnose(vm, facts.pageWorkers) };
}

const diagnosisOf = async (recording: Recording): Promise<Diagnosis> => (await seenIn(recording)).diagnosis;

describe("a recorded VM", () => {
  it("has an expectation, and each expectation has one", () => {
    expect(Object.keys(expected).sort()).toEqual([...names].sort());
  });

  it.each(Object.entries(expected))("%s gets its verdict", async (name, { text, ...verdict }) => {
    const diagnosis = await diagnosisOf(recordingOf(name));
    expect(diagnosis.verdict, diagnosis.verdict.text).toMatchObject(verdict);
    expect(diagnosis.verdict.text).toMatch(text);
  });

  it("is in docs/vm-hangs.md as the command prints it", async () => {
    const { facts, diagnosis } = await seenIn(recordingOf("qemu-truncated"));
    const plain = (text: string): string => text;
    const style = { widthColumns: 120, bold: plain, dim: plain, verdict: (_: unknown, text: string) => text };
    const text = diagnosisText(facts, [diagnosis], style);
    expect(readFileSync(packagePath("docs/vm-hangs.md"), "utf8")).toContain(`\`\`\`\n${text}\n\`\`\``);
  });

  it.each(names)("%s is JSON as the schema has it", async (name) => {
    const check = new Ajv2020({ strict: false, validateFormats: false }).compile(lineSchema("diagnose"));
    check(JSON.parse(JSON.stringify(vmLine(await diagnosisOf(recordingOf(name))))));
    expect(check.errors).toBeNull();
  });

  it.each(names)("%s is no reason to fail where answers of any kind are missing", async (name) => {
    const recording = recordingOf(name);
    const kindOf = (key: string): string => key.replaceAll(/[0-9a-f]*[0-9][0-9a-f]*/g, "N");
    for (const gone of new Set(Object.keys(recording.answers).map(kindOf))) {
      const left = Object.entries(recording.answers).filter(([key]) => kindOf(key) !== gone);
      const answers = Object.fromEntries(left);
      const { facts } = await collect(
        new RecordedHost({ ...recording, answers }),
        { kind: "all" },
        recording,
      );
      const diagnoses = facts.vms.map((vm) => diagnose(vm, facts.pageWorkers));
      expect(diagnosisMail(facts, diagnoses, [])).toContain("A VM on KVM");
    }
  });
});
