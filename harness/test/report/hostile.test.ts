/** A record in which every string that may be anything is hostile, in every format: nothing of it gets out of its place. */
import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { type LinuxGuestFacts, type Scenario, scenarioSource } from "../../../language/src/index.ts";
import { parseScenarios } from "../../../language/src/read.ts";
import { scenarioWith } from "../../../language/test/support/cases.ts";
import { evidenceWith, expectationWith } from "../../../language/test/support/evidence.ts";
import { decodeRuns, type RecordedRun } from "../../src/report/decode.ts";
import { jsonText, messageText, visible, visibleData, visibleLines } from "../../src/report/encode.ts";
import { htmlPage } from "../../src/report/html/page.ts";
import { junitText } from "../../src/report/junit.ts";
import { ktapText } from "../../src/report/ktap.ts";
import { mailText } from "../../src/report/mail.ts";
import { markdownCode, markdownText } from "../../src/report/markdown.ts";
import { makeReport } from "../../src/report/report.ts";
import { type Style, styleFor } from "../../src/report/style.ts";
import { attestationText, caseTitle, engineLines, reportText } from "../../src/report/text.ts";
import { cComment, cString } from "../../src/repro/reproducer.ts";
import { placeOption, replayCommand } from "../../src/run/plan.ts";
import { linesOf, recordedWith, resultWith } from "../support/results.ts";

const HOSTILE =
  "\u001b[31m\u009b31m\u0007\u202e\n# ok\nok 1 - no\n    not ok 2 - x # SKIP\r<script>alert(1)</script>|`'; rm -rf $(x) \"&]]>*/\u2028";

const defect = { id: "endless-loop", text: "KVM retries for ever.", source: "virt/kvm/async_pf.c" };
/** As its file has it, so that the record's hash is that of the text. */
function written(changes: Partial<Scenario>): Scenario {
  const [scenario] = parseScenarios(JSON.stringify(scenarioSource(scenarioWith(changes))), "a test", []);
  if (scenario === undefined) throw new Error("no scenario");
  return scenario;
}

const linuxGuest: LinuxGuestFacts = {
  kernel: "debian:6.12",
  origin: "linux-image",
  imageSha256: "0".repeat(64),
  patches: [],
  release: "6.12.1",
  commandLine: "console=ttyS0",
  cpus: 1,
  bootCase: 1,
  asyncPageFaults: "offered",
  machineCheckRecovery: "offered",
  mount: "virtiofs dax=always",
};

const plainRun = recordedWith([
  resultWith({
    scenario: written({ id: "a-loop", purpose: `a purpose ${HOSTILE}` }),
    expectation: expectationWith({ defect }),
  }),
  resultWith({ scenario: written({ id: "b" }), verdict: { kind: "fail", reason: "other" } }),
  resultWith({
    scenario: written({ id: "c" }),
    proposal: "native",
    verdict: { kind: "skip", reason: "lacks it" },
  }),
  resultWith({ scenario: written({ id: "d" }), verdict: { kind: "xfail", reason: "known" } }),
  resultWith({
    scenario: written({ id: "e" }),
    evidence: null,
    verdict: { kind: "inconclusive", cause: "timeout", reason: "too long" },
  }),
  resultWith({ scenario: written({ id: "f" }), evidence: evidenceWith() }),
  resultWith({
    scenario: written({ id: "g" }),
    evidence: evidenceWith({
      guestConsole: ["a line of the guest's console"],
      attestation: { ...evidenceWith().attestation, guest: linuxGuest },
    }),
  }),
]);

/** Every string in the data, names of members and scenarios' texts (which have a hash) left out. */
function stringsIn(data: unknown, found: Set<string> = new Set()): Set<string> {
  if (typeof data === "string") found.add(data);
  else if (Array.isArray(data)) for (const one of data) stringsIn(one, found);
  else if (typeof data === "object" && data !== null) {
    for (const [name, one] of Object.entries(data)) {
      if (name === "source" && typeof one === "object") continue;
      stringsIn(one, found);
    }
  }
  return found;
}

/** The data with one string replaced wherever it is, as a name of a member too. */
function replaced(data: unknown, from: string, to: string): unknown {
  if (typeof data === "string") return data === from ? to : data;
  if (Array.isArray(data)) return data.map((one) => replaced(one, from, to));
  if (typeof data !== "object" || data === null) return data;
  return Object.fromEntries(
    Object.entries(data).map(([name, one]) => [name === from ? to : name, replaced(one, from, to)]),
  );
}

/** Makes hostile, one after the other, all strings that the reader of records lets be anything. */
function hostileRuns(): { readonly runs: readonly RecordedRun[]; readonly texts: readonly string[] } {
  let lines = [...linesOf(plainRun)];
  const texts: string[] = [];
  for (const text of stringsIn(lines)) {
    const tried = replaced(lines, text, `${text}${HOSTILE}`) as unknown[];
    try {
      makeReport(decodeRuns(tried, "hostile"), { documented: [] });
    } catch {
      continue;
    }
    lines = tried;
    texts.push(text);
  }
  const end = { interruptedBy: null, defects: [HOSTILE], durationMs: 1000 };
  return { runs: decodeRuns(lines, "hostile").map((run) => ({ ...run, end })), texts };
}

const { runs, texts } = hostileRuns();
const [run] = runs;
if (run === undefined) throw new Error("no run");
const report = makeReport([{ ...run, info: { ...run.info, cases: 99 } }], { documented: [] });
const attestation = { ...evidenceWith().attestation, kernel: HOSTILE, kvmBackend: HOSTILE };

/** Controls but line ends; overrides of direction. */
const raw = /[\p{Cc}\u2028-\u202e]/u;
const isRaw = (text: string): boolean => raw.test(text.replaceAll("\n", ""));
/** Lines that only a record's line end could have begun. */
const forged = /^(?:# ok|ok 1 - no| {4}not ok 2 - x)/m;

describe("the hostile record", () => {
  it("is hostile where it matters", () => {
    const { kernel, node, version, runDirectory, fileSystem, kvmBackend } = plainRun.info;
    for (const text of [
      kernel,
      node,
      version,
      runDirectory,
      fileSystem,
      kvmBackend,
      "other",
      "lacks it",
      "native",
    ]) {
      expect(texts).toContain(text);
    }
    for (const text of [defect.id, defect.text, defect.source, "a-loop", "mend it"]) {
      const known = texts.includes(text);
      // Ids of scenarios are checked when they are read; a record may name what runs them as it likes.
      expect([text, known]).toEqual([text, text !== "a-loop"]);
    }
  });
});

describe("a terminal", () => {
  /** Colours that are no escape sequences: any in the text is the record's. */
  const marked = (widthColumns: number): Style => ({
    widthColumns,
    bold: (text) => `<${text}>`,
    dim: (text) => `<${text}>`,
    verdict: (_kind, text) => `<${text}>`,
  });

  it.each([40, 80, 160, 400])(
    "of %d columns gets no control but line ends, and no lines of the record's",
    (width) => {
      const style = marked(width);
      const text = [
        attestationText(run.info, style),
        reportText(report, style),
        ...engineLines(attestation),
      ].join("\n");
      expect(text).toContain("\\x1b[31m");
      expect(isRaw(text)).toBe(false);
      expect(text).not.toMatch(forged);
    },
  );

  it("gets titles and commands without controls", () => {
    for (const result of report.results) expect(isRaw(caseTitle(result))).toBe(false);
    expect(isRaw(reportText(report, styleFor({} as NodeJS.WriteStream)))).toBe(false);
  });

  it("gets JSON that is the same, without controls", () => {
    const text = jsonText({ [HOSTILE]: HOSTILE });
    expect(isRaw(text)).toBe(false);
    expect(JSON.parse(text)).toEqual({ [HOSTILE]: HOSTILE });
  });
});

describe("a shell", () => {
  it("reads each command as words of daxfault run: nothing is run, nothing expanded", () => {
    for (const { planned } of report.results) {
      for (const argument of [planned.argument, HOSTILE, "a'b", "x'; rm -rf 'y", "a $(x)"]) {
        const hostile = { ...planned, argument, engineOption: `--kernel ${HOSTILE}` };
        const command = visible(replayCommand(hostile));
        const words = execFileSync("sh", ["-c", `set -- ${command}; printf '%s\\n' "$#" "$1" "$2"`], {
          encoding: "utf8",
        }).split("\n");
        expect(words.slice(0, 3)).toEqual(["6", "daxfault", "run"]);
      }
    }
  });

  it("gets options of ours as they are", () => {
    const [one] = report.results;
    if (one === undefined) throw new Error("no result");
    for (const engineOption of ["--kernel debian:6.1", "--kernel '/a b' --modules 'it'\\''s'"]) {
      expect(placeOption({ ...one.planned, engineOption })).toBe(engineOption);
    }
  });
});

describe("mail", () => {
  it("has no controls, and no lines of the record's", () => {
    const text = mailText(report, [HOSTILE]);
    expect(isRaw(text)).toBe(false);
    expect(text).not.toMatch(/^(?:# ok|ok 1 - no)/m);
  });
});

describe("KTAP", () => {
  it("has lines of its grammar only, with the results of the report", () => {
    const lines = ktapText(report).trimEnd().split("\n");
    expect(isRaw(lines.join("\n"))).toBe(false);
    const result = /^ *(?:not )?ok (\d+) [^#]+(?: # (?:SKIP|XFAIL)\b[^#]*)?$/;
    for (const line of lines) expect(line).toMatch(/^ *(?:# [^#]*$|KTAP version 1$|1\.\.\d+$|(?:not )?ok )/);
    for (const line of lines.filter((one) => /^ *(?:not )?ok /.test(one))) expect(line).toMatch(result);
    const inner = lines.filter((one) => /^ {4}(?:not )?ok /.test(one));
    expect(inner).toHaveLength(report.results.length);
    expect(inner.filter((line) => line.includes("# SKIP"))).toHaveLength(report.counts.skip);
  });
});

/** Every tag and its nesting; what is not ours fails. */
function tagsOf(text: string): readonly string[] {
  const open: string[] = [];
  const names: string[] = [];
  for (const [, slash, name = "", rest = ""] of text.matchAll(
    /<(\/?)([a-zA-Z][a-z0-9]*)((?:[^<>"]|"[^"<>]*")*)>/g,
  )) {
    names.push(name);
    if (slash === "/") expect(open.pop()).toBe(name);
    else if (!rest.endsWith("/")) open.push(name);
  }
  expect(open).toEqual([]);
  return names;
}

describe("JUnit", () => {
  it("is well-formed, of its own elements, without controls", () => {
    const text = junitText(report);
    expect(isRaw(text)).toBe(false);
    const ours = new Set(["testsuites", "testsuite", "testcase", "skipped", "failure", "error"]);
    expect(tagsOf(text).filter((name) => !ours.has(name))).toEqual([]);
    expect(text.replaceAll(/&(?:amp|lt|gt|quot|#39);/g, "")).not.toContain("&");
    expect(text.replaceAll(/<[^>]*>/g, "")).not.toContain("<");
  });
});

describe("HTML", () => {
  it("has the page's script only, and no controls", async () => {
    const page = await htmlPage(report);
    expect(isRaw(page)).toBe(false);
    expect(page.match(/<script/g)).toHaveLength(1);
    expect(page).not.toContain("<script>alert");
    expect(page).toContain("&lt;script&gt;alert(1)&lt;/script&gt;");
  });
});

describe("Markdown", () => {
  /** Without code spans and escaped signs: what GitHub reads as markup. */
  const active = (text: string): string =>
    text.replaceAll(/\\[!-/:-@[-`{-~]/g, "").replaceAll(/(?<!`)`[^`\n]*`(?!`)/g, "");

  it("has no element of the record's, and tables of their width", () => {
    const text = markdownText(report);
    expect(isRaw(text)).toBe(false);
    expect(text).not.toMatch(forged);
    const elements = [...active(text).matchAll(/<\/?([a-zA-Z!?][^\s>]*)/g)].map(([, name]) => name);
    expect(elements.filter((name) => !["details", "summary", "code"].includes(name ?? ""))).toEqual([]);
    for (const block of text.split("\n\n").filter((part) => part.startsWith("|"))) {
      const widths = block.split("\n").map((row) => row.replaceAll("\\|", "").split("|").length);
      expect(new Set(widths).size).toBe(1);
    }
  });

  it("writes code that nothing ends", () => {
    expect(markdownCode("a b")).toBe("`a b`");
    expect(markdownCode("a`</code><b>|")).toBe("<code>a&#96;&#60;/code&#62;&#60;b&#62;&#124;</code>");
  });
});

describe("C", () => {
  it("has comments that no text ends, and strings that none ends or that make a trigraph", () => {
    expect(cComment(HOSTILE)).not.toContain("*/");
    expect(cComment("a*/b")).toBe("a* /b");
    expect(cString('a"b\\c\nd??/\u001b')).toBe('"a\\"b\\\\c d\\?\\?/\\\\x1b"');
  });
});

describe("visible", () => {
  it.each([
    ["plain text ✓ \u00e9 😀", "plain text ✓ \u00e9 😀"],
    ["a\u001b[31mb", "a\\x1b[31mb"],
    ["a\u009bb\u007f", "a\\x9bb\\x7f"],
    ["a\tb\r\nc", "a b  c"],
    ["\u202e\ud800", "\\u{202e}\\u{d800}"],
  ])("%j is %j", (text, shown) => {
    expect(visible(text)).toBe(shown);
  });

  it("keeps line ends and tabs of text that has lines", () => {
    expect(visibleLines("a\n\tb\u001b\r")).toBe("a\n\tb\\x1b\\x0d");
  });

  it("encodes data with the names of its members, and returns what needs nothing as it is", () => {
    const clean = { a: ["b", 1n, null], c: { d: true } };
    expect(visibleData(clean)).toBe(clean);
    const shared = { text: "\u001b" };
    const encoded = visibleData({ first: shared, second: [shared], "\u0007": 2n });
    expect(encoded).toEqual({ first: { text: "\\x1b" }, second: [{ text: "\\x1b" }], "\\x07": 2n });
    expect(encoded.second[0]).toBe(encoded.first);
  });
});

describe("a message", () => {
  it("is no longer than a person reads, whatever it quotes", () => {
    expect(messageText("a\u001b[31m\nb")).toBe("a\\x1b[31m\nb");
    const long = messageText(`begin ${"x".repeat(1_000_000)} end`);
    expect(long.length).toBeLessThan(1100);
    expect(long).toMatch(/^begin x+ \.\. 999010 characters \.\. x+ end$/);
    expect(messageText("line\n".repeat(1000)).split("\n").at(-1)).toBe(".. 941 more lines");
    // Cut between the two halves of a character.
    expect(isRaw(messageText("\u{1f4a9}".repeat(5000)))).toBe(false);
    expect(isRaw(messageText(`x${"\u{1f4a9}".repeat(5000)}`))).toBe(false);
  });
});
